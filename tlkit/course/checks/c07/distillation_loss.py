"""演習 07-2: 蒸留の損失。問題、入力、答えの呼び方を置く。

α = 1 ならソフトの項だけ、α = 0 なら正解ラベルの項だけが残る。だから、二つの項の誤りを別々に見つけられる。
ほかの場合は、値の間の関係が手で分かるように作ってある（教師と生徒が同じ、ロジットと温度がともに 2 倍、同じ標本のくり返しなど）。
判定は `distillation_loss_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.distillation_loss_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Case = dict[str, Any]
SURE = 40.0  # 確信した出力の、1 位と 2 位のロジットの差
ABSENT = -1000.0  # 加えても確率が 0 になるクラスのロジット
ARGUMENTS = ("student_logits", "teacher_logits", "labels", "temperature", "alpha")


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    s, t, s2, t2 = (1.5 * _randn(6, 4, g) for _ in range(4))
    y = torch.randint(4, (6,), generator=g)
    return {
        "cases": _ends(s, t, s2, t2, y) | _relations(s, t, y, g) | _sure() | _randoms(g),
        "gradients": {
            "soft": _case(s, t, y, 4.0, 1.0),
            "hard": _case(s, t, y, 4.0, 0.0),
            "mixed": _case(s, t, y, 4.0, 0.3),
        },
    }


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。勾配の場合では、生徒と教師の両方のロジットで微分する。"""
    gradients = {}
    for name, case in inputs["gradients"].items():
        student, teacher = (case[key].clone().requires_grad_() for key in ARGUMENTS[:2])
        rest = (case[key] for key in ARGUMENTS[2:])
        gradients[name] = trial(answer, student, teacher, *rest, wrt=(student, teacher))
    values = {name: trial(answer, *(case[key] for key in ARGUMENTS)) for name, case in inputs["cases"].items()}
    return {"values": values, "gradients": gradients}


def _ends(s: Tensor, t: Tensor, s2: Tensor, t2: Tensor, y: Tensor) -> dict[str, Case]:
    """α = 1 と α = 0 と、その間。教師、生徒、ラベル、温度を一つずつ替える。"""
    other = (y + 1) % 4
    return {
        "soft": _case(s, t, y, 4.0, 1.0),
        "soft-cool": _case(s, t, y, 1.0, 1.0),
        "soft-labels": _case(s, t, other, 4.0, 1.0),
        "soft-teacher": _case(s, t2, y, 4.0, 1.0),
        "soft-teacher-cool": _case(s, t2, y, 1.0, 1.0),
        "hard": _case(s, t, y, 4.0, 0.0),
        "hard-cool": _case(s, t, y, 1.0, 0.0),
        "hard-labels": _case(s, t, other, 4.0, 0.0),
        "hard-teacher": _case(s, t2, y, 4.0, 0.0),
        "hard-student": _case(s2, t, y, 4.0, 0.0),
        "hard-student-cool": _case(s2, t, y, 1.0, 0.0),
        "mixed-0.3": _case(s, t, y, 4.0, 0.3),
        "mixed-0.7": _case(s, t, y, 4.0, 0.7),
    }


def _relations(s: Tensor, t: Tensor, y: Tensor, g: torch.Generator) -> dict[str, Case]:
    """値が 0 になる、変わらない、4 倍になる、と決まっている場合。"""
    absent = torch.full((6, 3), ABSENT, dtype=torch.float64)
    up, down = 5 * _randn(6, 1, g), 5 * _randn(6, 1, g)
    padded = torch.cat([s, absent], 1), torch.cat([t, absent], 1)
    return {
        "soft-same": _case(t, t, y, 4.0, 1.0),
        "soft-same-cool": _case(t, t, y, 1.0, 1.0),
        "soft-doubled": _case(2 * s, 2 * t, y, 8.0, 1.0),
        "soft-shifted": _case(s + up, t + down, y, 4.0, 1.0),
        "soft-repeated": _case(s.repeat(3, 1), t.repeat(3, 1), y.repeat(3), 4.0, 1.0),
        "soft-padded": _case(*padded, y, 4.0, 1.0),
        "hard-shifted": _case(s + up, t + down, y, 4.0, 0.0),
        "hard-repeated": _case(s.repeat(3, 1), t.repeat(3, 1), y.repeat(3), 4.0, 0.0),
        "hard-padded": _case(*padded, y, 4.0, 0.0),
    }


def _sure() -> dict[str, Case]:
    """片方だけが確信している場合と、両方が大きなロジットを持つ場合。"""
    flat, sure = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    sure[:, 1:] = -SURE
    zero, one = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    large = torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 999.0], [-1000.0, -1001.0, -2000.0]])
    return {
        "soft-sure-teacher": _case(flat, sure, zero, 1.0, 1.0),
        "soft-sure-student": _case(sure, flat, zero, 1.0, 1.0),
        "hard-sure": _case(sure, flat, one, 1.0, 0.0),
        "large": _case(large, large.roll(1, 1), torch.tensor([0, 2, 1]), 1.0, 0.5),
        "large-agreed": _case(large.double(), large.double(), torch.tensor([0, 1, 0]), 0.5, 0.5),
    }


def _randoms(g: torch.Generator) -> dict[str, Case]:
    """乱数の場合。1 件だけ、C = 2、float32、T < 1 を含む。"""
    cases = {}
    for n, c, t, a in ((1, 5, 2.0, 0.6), (7, 2, 0.5, 0.4), (3, 10, 3.0, 0.9), (5, 5, 20.0, 0.5)):
        y = torch.randint(c, (n,), generator=g)
        cases[f"random-{n}-{c}"] = _case(2 * _randn(n, c, g), 2 * _randn(n, c, g), y, t, a)
    s, t32 = _randn(4, 6, g).float(), _randn(4, 6, g).float()
    return cases | {"float32": _case(s, t32, torch.randint(6, (4,), generator=g), 3.0, 0.7)}


def _randn(rows: int, columns: int, g: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=g, dtype=torch.float64)


def _case(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float) -> Case:
    given = (student.clone(), teacher.clone(), labels.clone(), temperature, alpha)
    return dict(zip(ARGUMENTS, given, strict=True))


DISTILLATION_LOSS = Question(
    id="07-2",
    points=10,
    title="蒸留の損失を書く",
    goal="F.kl_divの引数の順と平均の取り方を誤らずに、温度の補正T²と重みαを持つ蒸留の損失を実装できる",
    minutes=25,
    difficulty=2,
    answers=("distillation_loss",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.distillation",),
    hints=(
        "ソフトの項と、正解ラベルの項を、別々の変数に求めてから、αで混ぜます。書いたら、α = 1とα = 0で、片方ずつ確かめます。"
        "ソフトの項は、教師と生徒のロジットが同じなら0になります。",
        "p = softmax(t / T)（勾配を止める）、q = softmax(s / T)\n"
        "ソフト = T² · (1/N) Σ_i Σ_c p_ic (log p_ic − log q_ic)\n"
        "正解ラベル = 温度1の交差エントロピー（生徒のロジットは T で割らない）\n"
        "損失 = α · ソフト + (1 − α) · 正解ラベル\n"
        "F.kl_div(input, target) は、target · (log target − input) を足します。inputは対数の確率、targetは確率です。",
        "log_q = F.log_softmax(student_logits / temperature, dim=1)\n"
        "p = F.softmax(teacher_logits.detach() / temperature, dim=1)\n"
        'F.kl_div(log_q, p, reduction="batchmean") に temperature**2 を掛けたものが、ソフトの項です。\n'
        "F.cross_entropy(student_logits, labels) が、正解ラベルの項です。二つを alpha と 1 - alpha で混ぜます。",
    ),
)
