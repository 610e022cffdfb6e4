"""演習 07-3: 蒸留の損失の、ロジットについての勾配。問題、入力、答えの呼び方を置く。

入力の多くは、片方の項だけ（α = 1 か 0）、温度だけ、教師だけ、ラベルだけを変えた組である。
判定は `logit_gradient_judge.py`、項ごとの性質は `logit_gradient_terms.py`、比べる値は `logit_gradient_reference.py` にある。
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tlkit.course.checks.c07.logit_gradient_judge import judge
from tlkit.course.checks.c07.logit_gradient_reference import Case
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import failed, trial


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    s, t, other_s, other_t = (scale * _randn(4, 5, g) for scale in (2, 3, 2, 3))
    labels = torch.randperm(5, generator=g)[:4]
    soft, hard = _case(s, t, labels, 4.0, 1.0), _case(s, t, labels, 4.0, 0.0)
    relabelled, retaught = {"labels": (labels + 1) % 5}, {"teacher": other_t}
    twice = {key: torch.cat([soft[key]] * 2) for key in ("student", "teacher", "labels")}
    rows = torch.tensor([[3.0], [-2.0], [5.0], [1.0]], dtype=torch.float64)
    cases = {
        "soft": soft,
        "soft-relabelled": soft | relabelled,
        "soft-retaught": soft | retaught,
        "soft-restudied": soft | {"student": other_s},
        "soft-both-new": soft | retaught | {"student": other_s},
        "soft-agree": soft | {"teacher": s.clone()},
        "soft-shifted": soft | {"student": s + rows, "teacher": t + rows.flip(0)},
        "soft-1": soft | {"temperature": 1.0},
        "soft-2": soft | {"temperature": 2.0},
        "soft-twice": soft | twice,
        "hard": hard,
        "hard-relabelled": hard | relabelled,
        "hard-retaught": hard | retaught,
        "hard-cooler": hard | {"temperature": 2.0},
        "hard-twice": hard | twice,
        "mixed": soft | {"alpha": 0.7},
        "mixed-low": soft | {"alpha": 0.25},
    }
    return {"cases": cases | _shapes(g)}


def _shapes(g: torch.Generator) -> dict[str, Case]:
    """件数、クラス数、温度、dtype、ロジットの大きさを変えた場合。"""
    cases = {}
    for n, c, temperature, alpha in ((6, 2, 4.0, 1.0), (5, 3, 3, 0), (1, 4, 0.5, 0.4), (4, 4, 2.5, 0.9)):
        labels = torch.randperm(n, generator=g) % max(c - 1, 2)  # 3クラスからは、最後のクラスが現れない
        cases[f"random-{n}-{c}"] = _case(2 * _randn(n, c, g), 2 * _randn(n, c, g), labels, temperature, alpha)
    labels = torch.randint(6, (5,), generator=g)
    single = _case(_randn(5, 6, g).float(), 2 * _randn(5, 6, g).float(), labels, 3.0, 0.6)
    large = _case(2e3 * _randn(5, 6, g), 3e3 * _randn(5, 6, g), labels, 2.0, 0.5)
    return cases | {"float32": single, "large": large}


def _randn(n: int, c: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, c, generator=g, dtype=torch.float64)


def _case(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float) -> Case:
    return {"student": student, "teacher": teacher, "labels": labels, "temperature": temperature, "alpha": alpha}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。別に、計算グラフが作られるかと、返り値がグラフにつながるかを見ながら呼ぶ。"""
    values = {name: trial(answer, *case.values()) for name, case in inputs["cases"].items()}
    mixed = inputs["cases"]["mixed"]
    z = mixed["student"].clone().requires_grad_()
    attached = trial(answer, *(mixed | {"student": z}).values(), wrt=(z,))
    return {"values": values, "graph": _draws_graph(answer, mixed), "attached": attached}


def _draws_graph(answer: Any, case: Case) -> bool:
    """逆伝播のための値が控えられたか。引数は勾配を求めないので、控えるのは、答えが自動微分を使ったときだけである。

    `torch.func.grad` は、控えを見張る間は動かず、例外になる。
    """
    kept: list[bool] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(True)
        return value

    with saved_tensors_hooks(keep, lambda value: value):
        record = trial(answer, *case.values())
    return bool(kept) or failed(record)


LOGIT_GRADIENT = Question(
    id="07-3",
    points=15,
    title="蒸留の損失を、ロジットで微分する",
    goal="蒸留の損失の、生徒モデルのロジットについての勾配を、自分で導き、自動微分を使わずに計算できる",
    minutes=30,
    difficulty=2,
    answers=("logit_gradient",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.distillation",),
    hints=(
        "項ごとに分けて微分します。教師モデルの確率は定数です。ソフトの項は、u = z/T と置いて u で微分し、"
        "連鎖律の 1/T を掛けます。最後に、α と 1 − α で足します。どちらの項も、標本の平均なので N で割ります。",
        "Σ_c p_c = 1 なので、∂/∂u_k (−Σ_c p_c log q_c) = q_k − p_k です（q = softmax(u)）。\n"
        "ソフトの項: T² · (1/T) · (q − p) / N = T (q − p) / N。q と p は、どちらも温度 T の確率です。\n"
        "正解ラベルの項: (q₁ − e_y) / N。q₁ は温度 1 の確率、e_y は正解だけが 1 のベクトルです。",
        "n, c = student_logits.shape\n"
        "q と p は、(student_logits / temperature).softmax(dim=1) のように、クラスの軸で求めます。\n"
        "soft は temperature * (q - p)、hard は student_logits.softmax(dim=1) から F.one_hot(labels, c) を引いたものです。\n"
        "alpha と 1 - alpha で重みをつけて足し、n で割ります。",
    ),
)
