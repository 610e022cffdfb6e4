"""演習 08-2: 微分できる内側のループ。問題、入力、答えの呼び方を置く。

同じ場面を、回数、次数、学習率の種類、初めの値の作り方を変えて呼ぶ。場面は `adapt_scene.py`、判定は `adapt_judge.py`、
勾配の判定は `adapt_judge_gradients.py`、比べる値は `adapt_reference.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.adapt_judge import judge
from tlkit.course.checks.c08.adapt_scene import Case, observe
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    net: Case = {
        "params": {"weight": _randn(g, 3, 2), "gain": 1.5 + 0.3 * _randn(g, 3), "bias": 0.3 * _randn(g, 3)},
        "support": (_randn(g, 6, 2), 2 * _randn(g, 6, 3)),
        "query": (_randn(g, 7, 2), 2 * _randn(g, 7, 3)),
        "lr": 0.15,
        "steps": 3,
        "first_order": False,
        "learnable": False,
        "derived": False,
    }
    halved = {name: value / 2 for name, value in net["params"].items()}
    valley: Case = net | {
        "params": {"theta": 3 + _rand(g)},
        "support": (1 + _rand(g), -1 - _rand(g)),
        "query": (1 + _rand(g), -0.5 + _rand(g)),
        "lr": 0.3,
    }
    changes: dict[str, Case] = {
        "one": {"steps": 1},
        "three": {"lr": 0.4},
        "zero": {"steps": 0},
        "learnable": {"learnable": True, "steps": 2},
        "derived": {"derived": True, "params": halved, "steps": 2},
    }
    cases = {name: net | change for name, change in changes.items()} | {"valley": valley}
    cases |= {f"{name}/first": case | {"first_order": True} for name, case in cases.items()}
    cases["default"] = cases["one"] | {"first_order": None}
    cases["float32"] = net | {
        "params": {name: value.float() for name, value in net["params"].items()},
        "support": tuple(value.float() for value in net["support"]),
        "query": tuple(value.float() for value in net["query"]),
        "steps": 1,
    }
    return {"cases": cases, "negative": cases["one"] | {"steps": -1}}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。"""
    return {
        "values": {name: trial(observe, answer, case) for name, case in inputs["cases"].items()},
        "negative": trial(observe, answer, inputs["negative"]),
    }


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def _rand(g: torch.Generator) -> Tensor:
    return torch.rand((), generator=g, dtype=torch.float64)


ADAPT = Question(
    id="08-2",
    points=15,
    title="微分できる内側のループを書く",
    goal="パラメータの辞書を、元の値とつながったまま、内側の勾配降下で更新し、二階と一次近似を切り替えることができる",
    minutes=35,
    difficulty=3,
    answers=("adapt",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("meta.adapt",),
    hints=(
        "引数の辞書を写し、steps 回だけ、勾配を求めて新しい辞書を作ります。2回めからは、更新した値で loss を呼びます。"
        "勾配は、.grad にためる backward() でなく、値として返る torch.autograd.grad で求めます。",
        "θ_{j+1} = θ_j − η ∇L(θ_j)\n"
        "torch.autograd.grad(損失, 値のリスト, create_graph=真偽) は、値のリストと同じ順の、勾配の組を返します。\n"
        "create_graph=True なら、返った勾配も θ_j の関数のままです（二階の項が残ります）。False なら、ただの数になります。\n"
        "どちらでも、θ_j からの引き算を記録すれば、θ_{j+1} は θ_j とつながります。",
        "current = dict(params) とします。steps が負なら、その前に ValueError を起こします。\n"
        "for _ in range(steps): の中で、まず torch.autograd.grad(loss(current), list(current.values()), "
        "create_graph=not first_order) を求めます。\n"
        "次に、名前ごとに value - lr * 勾配 を並べた新しい辞書を作り、current とします。最後に current を返します。",
    ),
)
