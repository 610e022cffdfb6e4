"""演習 03-8: 重要度重みと実効標本数。問題、入力、答えの呼び方を置く。

二つの密度を先に決め、識別器が答えるはずの確率 P(T | x) をベイズの定理で作る。だから、正しい密度比が厳密に分かる。
判定は `importance_judge.py` にある。
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlkit.course.checks.c03.importance_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Numbers = NDArray[np.float64]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、確率の列（ratios）、断るべき確率の列（refused）、重みの列（sizes）を作る。"""
    rng = np.random.default_rng(seed)
    source, target = rng.dirichlet(np.full(12, 2.0), size=2)
    drawn = rng.integers(12, size=40)
    many = _case(source[drawn], target[drawn], 350, 70)
    return {
        "ratios": {
            # 点 A では p_S = 0.8、p_T = 0.4。点 B では p_S = 0.2、p_T = 0.6
            "table": _case(np.array([0.8, 0.2]), np.array([0.4, 0.6]), 100, 100),
            "same": _case(np.full(4, 0.25), np.full(4, 0.25), 300, 100),
            "same-many-target": _case(np.full(4, 0.25), np.full(4, 0.25), 100, 300),
            "table-uneven": _case(np.array([0.8, 0.2]), np.array([0.4, 0.6]), 100, 400),
            "extreme": {"probability": np.array([0.5, 0.999, 0.0, 1e-6]), "n_source": 50, "n_target": 50},
            "many": many,
            "part": many | {"probability": many["probability"][:15].copy()},
        },
        "refused": {
            "one": np.array([0.5, 1.0, 0.3]),
            "above-one": np.array([0.5, 1.5, 0.3]),
            "negative": np.array([0.5, 0.4, -0.1]),
            "nan": np.array([np.nan, 0.4, 0.3]),
        },
        "sizes": _sizes(rng),
    }


def _case(source: Numbers, target: Numbers, n_source: int, n_target: int) -> dict[str, Any]:
    """二つの密度と件数から、P(T | x) を作る。"""
    probability = n_target * target / (n_source * source + n_target * target)
    return {"probability": probability, "n_source": n_source, "n_target": n_target}


def _sizes(rng: np.random.Generator) -> dict[str, Numbers]:
    weights = rng.gamma(1.0, size=30)
    return {
        "equal": np.ones(10),
        "equal-small": np.full(10, 0.1),
        "single": np.array([0.0, 0.0, 2.5, 0.0]),
        "three-to-one": np.array([3.0, 1.0]),
        "random": weights,
        "random-scaled": 7 * weights,
        "random-padded": np.concatenate([weights, np.zeros(20)]),
    }


def probe(importance_weights: Any, effective_sample_size: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で、二つの答えを呼ぶ。"""
    ratios = {
        name: trial(importance_weights, case["probability"], case["n_source"], case["n_target"])
        for name, case in inputs["ratios"].items()
    }
    refused = {name: trial(importance_weights, values, 100, 100) for name, values in inputs["refused"].items()}
    sizes = {name: trial(effective_sample_size, weights) for name, weights in inputs["sizes"].items()}
    return {"ratios": ratios, "refused": refused, "sizes": sizes}


IMPORTANCE_WEIGHTS = Question(
    id="03-8",
    points=10,
    title="ドメイン識別器から、重要度重みを作る",
    goal="ドメイン識別器の確率を密度比に直し、その重みが使えるかを、実効標本数で判断できる",
    minutes=20,
    difficulty=2,
    answers=("importance_weights", "effective_sample_size"),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("adapt.importance",),
    hints=(
        "識別器の確率から、P(T|x) とP(S|x) の比を作ります。この比には、密度の比だけでなく、件数の比も入っています。"
        "件数が違うだけで分布が同じなら、重みはどの点でも1になるはずです。計算の前に、確率の範囲を確かめます。",
        "P(T|x) = n_T·p_T / (n_S·p_S + n_T·p_T)、P(S|x) = 1 − P(T|x)\n"
        "P(T|x) / P(S|x) = (n_T / n_S)·(p_T / p_S) なので、w = (n_S / n_T)·P(T|x) / (1 − P(T|x))\n"
        "実効標本数 = (Σw)² / Σw²",
        "inside = (target_probability >= 0) & (target_probability < 1)  （NaN はどちらの比較も偽になる）\n"
        "np.all(inside) が偽なら、raise ValueError(…)\n"
        "n_source / n_target に、確率 ÷ (1 − 確率) を掛けて返します。\n"
        "実効標本数は、weights.sum() の2乗を、(weights**2).sum() で割ります。",
    ),
)
