"""演習 03-1: 勾配反転層。問題と入力を置く。

勾配は、下流の損失を L = Σ w·y として求める。反転層の正しい勾配は −λ·w なので、学習者の使った係数がそのまま読める。
答えの呼び方は `gradient_reversal_probe.py`、判定は `gradient_reversal_judge.py` にある。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03.gradient_reversal_judge import judge
from tlkit.course.checks.c03.gradient_reversal_probe import probe
from tlkit.course.checks.question import Question


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、係数 a と b、名前のついた場合の一式、断るべき λ を作る。"""
    g = torch.Generator().manual_seed(seed)
    a, b = (0.3 + 0.4 * torch.rand(2, generator=g, dtype=torch.float64)).tolist()
    b += 0.8
    base = _case(g, (4, 3), a)

    def at(lambda_: float) -> dict[str, Any]:
        return base | {"lambda_": lambda_}

    return {
        "single": {
            "plain": base,
            "double": at(2 * a),
            "zero": at(0.0),
            "whole": at(2),  # Python の整数
            "large": at(30.0),
            "strided": _case(g, (5, 2), a) | {"strided": True},
            "scalar": _case(g, (), b),
            "empty": _case(g, (0, 3), b),
            "image": _case(g, (6, 3, 2, 2), b),
            "float32": {name: value.float() if isinstance(value, Tensor) else value for name, value in base.items()},
        },
        "composed": _case(g, (4, 3), a) | {"other": b, "more": _away_from_zero(g, (4, 3))},
        "refused": {"negative": -a, "nan": math.nan, "inf": math.inf},
    }


def _case(g: torch.Generator, shape: tuple[int, ...], lambda_: float) -> dict[str, Any]:
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    return {"x": x, "weight": _away_from_zero(g, shape), "lambda_": lambda_}


def _away_from_zero(g: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """大きさが 0.5 から 1.5 で、符号の混ざった数。割り算で係数を読むので、0 に近づけない。"""
    size = 0.5 + torch.rand(shape, generator=g, dtype=torch.float64)
    return torch.where(torch.rand(shape, generator=g) < 0.5, -size, size)


GRADIENT_REVERSAL = Question(
    id="03-1",
    points=10,
    title="勾配反転層",
    goal="順伝播は恒等写像、逆伝播は −λ 倍の層を、自動微分の規則に合わせて実装できる",
    minutes=20,
    difficulty=2,
    answers=("gradient_reversal",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("nn.gradient_reversal",),
    hints=(
        "順伝播では値を変えず、逆伝播の規則だけを自分で書きます。torch.autograd.Function を継承し、forward と backward を書くのが定石です。"
        "forward で受け取った λ は、ctx の属性に置けば、backward で読めます。",
        "forward: R(x) = x\n"
        "backward: 受け取った勾配 g = ∂L/∂R に対して、∂L/∂x = −λ·g を返します。\n"
        "backward の返り値は、forward の引数（ctx を除く）と同じ数だけ、同じ順に並べます。数である λ の場所には None を置きます。",
        "forward では ctx.lambda_ に λ を入れ、x を返します。\n"
        "backward では、-ctx.lambda_ と grad の積と、None の二つを、カンマで並べて返します。\n"
        "gradient_reversal では、math.isfinite(lambda_) と lambda_ >= 0 を確かめてから、ReverseGradient.apply(x, lambda_) を返します。",
    ),
)
