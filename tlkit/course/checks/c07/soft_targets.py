"""演習 07-1: 温度付きのソフトマックス。問題、入力、答えの呼び方を置く。

同じロジットを、いくつもの温度で確率にする。確率の比の対数は、ロジットの差を温度で割ったものなので、答えが使った温度を逆に読める。
大きなロジット、小さな温度、遠く離れた行を含む場合は、計算があふれないことを確かめる。判定は `soft_targets_judge.py` にある。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.soft_targets_judge import COLD, HOT, TEMPERATURES, judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Case = dict[str, Any]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合（ロジットと温度）、勾配を調べる場合、断るべき温度を作る。"""
    g = torch.Generator().manual_seed(seed)
    base = _spaced(5, 4, g)
    moved = base + torch.tensor([[40.0], [-30.0], [7.0], [0.0], [-11.0]])
    others = torch.cat([base[:1], 3 * _spaced(4, 4, g) + 20])
    cases = {f"base/{t:g}": _case(base, t) for t in (*TEMPERATURES, HOT, COLD)}
    cases |= {"moved": _case(moved, 2.0), "others": _case(others, 2.0), "single": _case(base[:1], 2.0)}
    gradients = {"base": _case(base, 2.0) | {"weights": _randn(5, 4, g)}}
    large = _extremes()
    gradients["large"] = large["large"] | {"weights": _randn(2, 4, g).float()}
    return {
        "cases": cases | large,
        "gradients": gradients,
        "refused": {"zero": 0.0, "negative": -1.0, "nan": math.nan},
    }


def probe(answer: Any, by_hand: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。勾配は、確率に決まった重みを掛けて足した数を微分する（確率の和そのものは、いつも 1 である）。"""
    gradients = {}
    for name, case in inputs["gradients"].items():
        logits = case["logits"].clone().requires_grad_()
        gradients[name] = trial(_weighted, answer, logits, case["temperature"], case["weights"], wrt=(logits,))
    return {
        "by_hand": _numbers(by_hand),
        "values": {name: trial(answer, case["logits"], case["temperature"]) for name, case in inputs["cases"].items()},
        "gradients": gradients,
        "refused": {
            name: trial(answer, inputs["cases"]["single"]["logits"], t) for name, t in inputs["refused"].items()
        },
    }


def _weighted(answer: Any, logits: Tensor, temperature: float, weights: Tensor) -> Tensor:
    value: Tensor = (answer(logits, temperature) * weights).sum()
    return value


def _numbers(given: Any) -> list[float] | None:
    """手計算の答え。数の並びとして読めなければ None。"""
    try:
        return [float(value) for value in given]
    except (TypeError, ValueError):
        return None


def _extremes() -> dict[str, Case]:
    """float32 の、あふれやすい場合。行ごとに、向きの違う極端さを持つ。"""
    large = torch.tensor([[1000.0, 999.0, 998.0, 0.0], [-1001.0, -1000.0, -1003.0, -1002.0]])
    spread = torch.tensor([[0.0, 150.0, 300.0, 450.0], [20.0, -130.0, 170.0, 320.0]])
    return {"large": _case(large, 1.0), "spread": _case(spread, 100.0), "sharp": _case(large / 100, 0.01)}


def _spaced(rows: int, columns: int, g: torch.Generator) -> Tensor:
    """行の中のどの 2 つも 0.5 以上離れた、float64 のロジット。"""
    steps = torch.stack([torch.randperm(columns, generator=g) for _ in range(rows)]).double()
    return steps + 0.5 * torch.rand(rows, columns, generator=g, dtype=torch.float64) - 1.5


def _randn(rows: int, columns: int, g: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=g, dtype=torch.float64)


def _case(logits: Tensor, temperature: float) -> Case:
    return {"logits": logits.clone(), "temperature": temperature}


SOFT_TARGETS = Question(
    id="07-1",
    points=6,
    title="ソフトターゲットを作る",
    goal="温度付きのソフトマックスを手で計算し、大きなロジットや小さな温度でもあふれない形で実装できる",
    minutes=20,
    difficulty=1,
    answers=("soft_targets", "by_hand"),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.distillation",),
    hints=(
        "手計算では、三つのロジットを3で割ってからexpを取ります。対数の性質から、きれいな整数になります。"
        "関数では、初めに温度を確かめ、行ごとに最大値を引き、温度で割り、expを取り、行の和で割ります。",
        "p_c = exp((z_c − max z) / T) / Σ_k exp((z_k − max z) / T)\n"
        "どのロジットから同じ数を引いても、分子と分母に同じ数が掛かるだけなので、確率は変わりません。"
        "最大値を引くと、expの中は0以下になり、あふれません。和は1以上になり、0で割ることもありません。\n"
        "exp((ln a) / 3) は、a の3乗根です。",
        "if not temperature > 0: で ValueError を起こします（この書き方なら、NaN も断れます）。\n"
        "z = logits - logits.max(dim=1, keepdim=True).values として、weights = torch.exp(z / temperature) を作ります。\n"
        "最後に、weights を weights.sum(dim=1, keepdim=True) で割ります。\n"
        "手計算の三つの重みは、27と8と1の3乗根です。それぞれを、三つの和で割ります。",
    ),
)
