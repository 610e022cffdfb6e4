"""演習 08-7: 一つの課題の集合を、自分の統計で正規化する。問題、入力、答えの呼び方を置く。

値、勾配の勾配、課題の軸をまとめたメタ勾配を記録する。微分の仕方は `normalise_task_slopes.py`、判定は `normalise_task_judge.py`、
微分の判定は `normalise_task_gradients.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.normalise_task_judge import judge
from tlkit.course.checks.c08.normalise_task_slopes import Case, second_slopes, stacked_meta
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """名前のついた集合と、微分に使う重み、三つの課題のエピソード。eps が None なら、渡さない。"""
    g = torch.Generator().manual_seed(seed)
    rows, images = _spread(_randn(g, 7, 3)), _spread(_randn(g, 3, 4, 2, 4))
    constant = torch.cat([rows[:, :2], torch.full((7, 1), 0.75, dtype=torch.float64)], dim=1)
    cases = {
        "rows": _plain(rows),
        "images": _plain(images),
        "eps": _plain(rows) | {"eps": 0.5},
        "small": _plain(0.004 * rows) | {"eps": None},
        "rows/affine": _plain(rows) | _affine(g, 3),
        "images/affine": _plain(images) | _affine(g, 4),
        "constant": _plain(constant) | _affine(g, 3),
        "offset": _plain((1000 + _randn(g, 40, 2)).float()),
    }
    slopes = {
        name: cases[name] | _weights(g, cases[name]["x"]) for name in ("rows/affine", "images/affine", "constant")
    }
    return {"cases": cases, "slopes": slopes, "meta": _meta(g)}


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def _spread(x: Tensor) -> Tensor:
    """チャネルごとに、違う広がりと中心を持たせる。"""
    c = torch.arange(x.shape[1], dtype=x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    return x * (0.6 + 0.7 * c) + 2 - 1.5 * c


def _plain(x: Tensor) -> Case:
    channels = x.shape[1]
    return {"x": x, "gamma": torch.ones(channels).to(x), "beta": torch.zeros(channels).to(x), "eps": 1e-5}


def _affine(g: torch.Generator, channels: int) -> Case:
    return {"gamma": 0.5 + _randn(g, channels).abs(), "beta": _randn(g, channels)}


def _weights(g: torch.Generator, x: Tensor) -> Case:
    """損失の重みと、二階の微分をとる向き。"""
    return {"w": _randn(g, *x.shape), "way": (_randn(g, *x.shape), _randn(g, x.shape[1]), _randn(g, x.shape[1]))}


def _meta(g: torch.Generator) -> Case:
    params = {"first": _randn(g, 4, 3), "gamma": 1 + 0.3 * _randn(g, 3), "beta": _randn(g, 3), "last": _randn(g, 3, 2)}
    sets = tuple(_randn(g, 3, 6, size) for size in (4, 2, 4, 2))  # サポートの x と y、クエリの x と y。課題は三つ
    return {"params": params, "sets": sets, "lr": 0.3}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合の値、初めの場合のやり直し、二階までの微分、課題をまとめたメタ勾配。"""
    cases = inputs["cases"]
    return {
        "values": {name: trial(_value, answer, case) for name, case in cases.items()},
        "again": trial(_value, answer, cases["rows"]),
        "slopes": {name: trial(second_slopes, answer, case) for name, case in inputs["slopes"].items()},
        "stacked": trial(stacked_meta, answer, inputs["meta"]),
    }


def _value(answer: Any, case: Case) -> Any:
    options = {} if case["eps"] is None else {"eps": case["eps"]}
    return answer(case["x"], case["gamma"], case["beta"], **options)


NORMALISE_TASK = Question(
    id="08-7",
    points=15,
    title="一つの課題の集合を、自分の統計で正規化する",
    goal="バッチ正規化を、渡した集合だけの統計で、状態を持たずに、二階まで微分できる形で書くことができる",
    minutes=25,
    difficulty=2,
    answers=("normalise_task",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("nn.batch_statistics",),
    hints=(
        "平均と分散を、チャネルの軸（1）のほかの、すべての軸でとります。(M, C) なら軸0、(M, C, H, W) なら軸0、2、3です。"
        "平均も分散もxの関数なので、detachやno_gradを使わず、四則と平均だけで書きます。",
        "μ_c = 平均(x)、σ_c² = 平均((x − μ_c)²)\n"
        "y = γ_c (x − μ_c) / √(σ_c² + ε) + β_c\n"
        "γとβは (C,) なので、4次元のxでは (C, 1, 1) の形に直してから掛けます。",
        "axes = [i for i in range(x.ndim) if i != 1] とします。\n"
        "x から x.mean(axes, keepdim=True) を引き、その2乗の平均を、同じ軸でとります。\n"
        "√(2乗の平均 + eps) で割ります。\n"
        "gamma と beta を reshape(-1, *[1] * (x.ndim - 2)) の形にし、掛けて、足します。",
    ),
)
