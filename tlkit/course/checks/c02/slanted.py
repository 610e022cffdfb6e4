"""演習 02-3: 斜め三角の学習率。問題、入力、答えの呼び方を置く。

答えは、予定の全部のステップで 1 回ずつ呼ぶ。だから、山の高さ、位置、坂の形を、別々に確かめられる。
判定は `slanted_judge.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c02.slanted_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、予定に名前をつけて並べる。options は、名前で渡す引数である。"""
    low, high = np.sort(np.random.default_rng(seed).uniform(0.01, 0.1, size=2)).tolist()

    def case(total: int, peak: float = low, **options: float) -> dict[str, Any]:
        return {"total": total, "peak": peak, "options": options}

    return {
        "cases": {
            "even": case(40, cut_frac=0.25, ratio=8),
            "doubled": case(40, 2 * low, cut_frac=0.25, ratio=8),
            "ratio": case(40, cut_frac=0.25, ratio=4),
            "half": case(40, cut_frac=0.5, ratio=8),
            "long": case(100, high, cut_frac=0.1, ratio=32),
            "default": case(100, high),
            "floored": case(38, cut_frac=0.25, ratio=8),  # T·cut_frac = 9.5
            "short": case(5, high, cut_frac=0.1, ratio=32),  # T·cut_frac = 0.5
            "single": case(1, cut_frac=0.1, ratio=32),
        }
    }


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての予定の、すべてのステップで答えを呼ぶ。"""
    return {
        name: [trial(answer, step, case["total"], case["peak"], **case["options"]) for step in range(case["total"])]
        for name, case in inputs["cases"].items()
    }


SLANTED = Question(
    id="02-3",
    points=10,
    title="斜め三角の学習率",
    goal="短く上げて長く下げる学習率の予定を、論文の式から、端の場合まで正しく実装できる",
    minutes=20,
    difficulty=2,
    answers=("slanted_triangular",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.schedules",),
    hints=(
        "三つに分けて作ります。山のステップ cut を求める、今のステップが山の前か後かで p（0から1）を求める、p を学習率に直す、です。"
        "最後に、T·cut_frac が整数にならない場合と、1より小さい場合を、小さな T で手で計算して確かめます。",
        "cut = max(1, ⌊T·cut_frac⌋)\n"
        "p = t / cut（t < cut のとき）\n"
        "p = max(0, 1 − (t − cut) / (cut·(1/cut_frac − 1)))（t ≥ cut のとき）\n"
        "η = peak·(1 + p·(ratio − 1)) / ratio。p = 0 なら peak/ratio、p = 1 なら peak です。",
        "cut = max(1, math.floor(total_steps * cut_frac))\n"
        "if step < cut: で上り坂の p を、else: で下り坂の p を求めます。下り坂の分母は cut * (1 / cut_frac - 1) です。\n"
        "下り坂では max(0.0, …) で0より小さくならないようにします。\n"
        "return では、1 + p * (ratio - 1) に peak を掛け、ratio で割ります。",
    ),
)
