"""演習 03-4: Deep CORAL の損失。問題、入力、答えの呼び方を置く。

入力の多くは、値のあいだの関係が手で分かる組である。たとえば、y だけを平行移動しても、値は変わらない。
判定は `coral_loss_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03.coral_loss_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Case = dict[str, Tensor]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    return {"cases": _moved(g) | _shapes(g) | _counts(g) | _randoms(g), "gradients": _gradient_cases(g)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。勾配の場合では、x と y の写しで微分もする。"""
    values = {name: trial(answer, case["x"], case["y"]) for name, case in inputs["cases"].items()}
    gradients = {}
    for name, case in inputs["gradients"].items():
        x, y = (case[key].clone().requires_grad_() for key in ("x", "y"))
        gradients[name] = trial(answer, x, y, wrt=(x, y))
    return {"values": values, "gradients": gradients}


def _case(x: Tensor, y: Tensor) -> Case:
    return {"x": x.clone(), "y": y.clone()}


def _randn(rows: int, columns: int, g: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=g, dtype=torch.float64)


def _moved(g: torch.Generator) -> dict[str, Case]:
    """動かし方と、値の変わり方。square は N = M、ほかは N ≠ M。"""
    x, y = _randn(6, 4, g), 1.7 * _randn(9, 4, g) + 0.5
    turn, zeros = torch.linalg.qr(_randn(4, 4, g)).Q, torch.zeros(9, 4, dtype=torch.float64)
    return {
        "square": _case(x, y[:6]),
        "square-shuffled": _case(x, y[[1, 2, 3, 4, 5, 0]]),
        "base": _case(x, y),
        "both-shifted": _case(x + 3, y + 3),
        "y-shifted": _case(x, y + 3),
        "shuffled": _case(x.flip(0), y[[3, 1, 8, 0, 2, 4, 7, 6, 5]]),
        "scaled": _case(2 * x, 2 * y),
        "swapped": _case(y, x),
        "rotated": _case(x @ turn, y @ turn),
        "padded": _case(torch.cat([x, zeros[:6]], dim=1), torch.cat([y, zeros], dim=1)),
    }


def _shapes(g: torch.Generator) -> dict[str, Case]:
    """correlated は分散が同じで共分散だけが違う。turned は固有値が同じで向きだけが違う。"""
    a = 1 + float(torch.rand((), generator=g, dtype=torch.float64))
    cross = a * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    slant = a * torch.tensor([[1.0, 1], [-1, -1], [0, 0], [0, 0]], dtype=torch.float64)
    long = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    return {
        "correlated": _case(cross, slant),
        "turned": _case(cross + cross.sign() * long, cross.flip(1) + cross.flip(1).sign() * long.flip(1)),
    }


def _counts(g: torch.Generator) -> dict[str, Case]:
    """y の全点が同じなら、値は ‖C_x‖²_F / (4D²)。twice では、x の点を 2 回ずつ並べる。"""
    x, y = _randn(3, 2, g), torch.ones(4, 2, dtype=torch.float64)
    return {"once": _case(x, y), "twice": _case(x.repeat(2, 1), y)}


def _randoms(g: torch.Generator) -> dict[str, Case]:
    """乱数の場合。N = 2、D > N、float32 も含む。"""
    cases = {}
    for n, m, d in ((5, 7, 3), (2, 4, 2), (4, 3, 8), (30, 20, 6)):
        cases[f"random-{n}-{m}-{d}"] = _case(_randn(n, d, g), 1.4 * _randn(m, d, g) + 0.5)
    return cases | {"random-float32": _case(_randn(6, 5, g).float(), (2 * _randn(8, 5, g)).float())}


def _gradient_cases(g: torch.Generator) -> dict[str, Case]:
    x, y = _randn(5, 3, g) + 0.8, 1.5 * _randn(7, 3, g) - 0.4
    return {"base": _case(x, y), "same": _case(x, x)}  # same では値も勾配も 0


CORAL_LOSS = Question(
    id="03-4",
    points=10,
    title="CORALの損失を書く",
    goal="二つのドメインの共分散行列の差を、論文と同じ定数で、正しい勾配の流れる損失として実装できる",
    minutes=15,
    difficulty=1,
    answers=("coral_loss",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.coral",),
    hints=(
        "ドメインごとに、特徴の共分散行列（D, D）を作り、差の要素を二乗して足します。"
        "平均を引く、件数より1小さい数で割る、最後に4D²で割る、の三つの定数を忘れないようにします。",
        "C_x = (1/(N−1)) Σ_i (x_i − x̄)(x_i − x̄)ᵀ、C_y も同じ（N の代わりに M）\n"
        "損失 = Σ_ab (C_x − C_y)²_ab / (4 D²)。二乗した後の平方根は取りません。",
        "def covariance(z):\n"
        "    centred = z - z.mean(dim=0)\n"
        "    （centred の転置と centred の行列積を、len(z) - 1 で割る）\n"
        "(covariance(x) - covariance(y)) の square() の sum() を、4 * x.shape[1]**2 で割ります。",
    ),
)
