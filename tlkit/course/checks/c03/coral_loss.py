"""演習 03-4: Deep CORAL の損失。問題と入力を置く。

入力の多くは、値のあいだの関係が手で分かる組である。たとえば、y だけを平行移動しても、値は変わらない。
判定は `coral_loss_judge.py`、答えの呼び方は `two_samples.py` にある。
"""

from typing import Any

import torch

from tlkit.course.checks.c03.coral_loss_judge import judge
from tlkit.course.checks.c03.two_samples import Case, case, probe, randn
from tlkit.course.checks.question import Question


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    return {"cases": _moved(g) | _shapes(g) | _counts(g) | _randoms(g), "gradients": _gradient_cases(g)}


def _moved(g: torch.Generator) -> dict[str, Case]:
    """動かし方と、値の変わり方。square は N = M、ほかは N ≠ M。"""
    x, y = randn(6, 4, g), 1.7 * randn(9, 4, g) + 0.5
    turn, zeros = torch.linalg.qr(randn(4, 4, g)).Q, torch.zeros(9, 4, dtype=torch.float64)
    return {
        "square": case(x, y[:6]),
        "square-shuffled": case(x, y[[1, 2, 3, 4, 5, 0]]),
        "base": case(x, y),
        "both-shifted": case(x + 3, y + 3),
        "y-shifted": case(x, y + 3),
        "shuffled": case(x.flip(0), y[[3, 1, 8, 0, 2, 4, 7, 6, 5]]),
        "scaled": case(2 * x, 2 * y),
        "swapped": case(y, x),
        "rotated": case(x @ turn, y @ turn),
        "padded": case(torch.cat([x, zeros[:6]], dim=1), torch.cat([y, zeros], dim=1)),
    }


def _shapes(g: torch.Generator) -> dict[str, Case]:
    """correlated は分散が同じで共分散だけが違う。turned は固有値が同じで向きだけが違う。"""
    a = 1 + float(torch.rand((), generator=g, dtype=torch.float64))
    cross = a * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    slant = a * torch.tensor([[1.0, 1], [-1, -1], [0, 0], [0, 0]], dtype=torch.float64)
    long = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    return {
        "correlated": case(cross, slant),
        "turned": case(cross + cross.sign() * long, cross.flip(1) + cross.flip(1).sign() * long.flip(1)),
    }


def _counts(g: torch.Generator) -> dict[str, Case]:
    """y の全点が同じなら、値は ‖C_x‖²_F / (4D²)。twice では、x の点を 2 回ずつ並べる。"""
    x, y = randn(3, 2, g), torch.ones(4, 2, dtype=torch.float64)
    return {"once": case(x, y), "twice": case(x.repeat(2, 1), y)}


def _randoms(g: torch.Generator) -> dict[str, Case]:
    """乱数の場合。N = 2、D > N、float32 も含む。"""
    cases = {}
    for n, m, d in ((5, 7, 3), (2, 4, 2), (4, 3, 8), (30, 20, 6)):
        cases[f"random-{n}-{m}-{d}"] = case(randn(n, d, g), 1.4 * randn(m, d, g) + 0.5)
    return cases | {"random-float32": case(randn(6, 5, g).float(), (2 * randn(8, 5, g)).float())}


def _gradient_cases(g: torch.Generator) -> dict[str, Case]:
    x, y = randn(5, 3, g) + 0.8, 1.5 * randn(7, 3, g) - 0.4
    return {"base": case(x, y), "same": case(x, x)}  # same では値も勾配も 0


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
