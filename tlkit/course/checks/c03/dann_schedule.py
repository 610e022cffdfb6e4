"""演習 03-2: DANN の λ の予定。問題、入力、答えの呼び方を置く。

γ ごとに p を 0 から 1 まで動かして呼ぶ。出発点、傾き、行き着く先を、別々に確かめられる。
判定は `dann_schedule_judge.py` にある。
"""

import math
from typing import Any

import numpy as np

from tlkit.course.checks.c03.dann_schedule_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import failed, trial

POINTS = 21
EARLY = 1e-3  # 出発点の傾きを測る p


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、p の並びと、γ に名前をつけた曲線を作る。γ が None なら、省いて呼ぶ。"""
    gamma = float(np.random.default_rng(seed).uniform(3, 6))
    return {
        "progress": [*np.linspace(0, 1, POINTS).tolist(), EARLY],
        "gammas": {
            "curve": gamma,
            "doubled": 2 * gamma,
            "gentle": 1.0,
            "ten": 10.0,
            "default": None,
            "huge": 1e4,
        },
        "refused": {"above": 1.5, "epochs": 3, "below": -0.5, "nan": math.nan},
    }


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての γ の、すべての p で答えを呼ぶ。断るべき p でも呼ぶ。"""
    return {
        "curves": {name: _curve(answer, gamma, inputs["progress"]) for name, gamma in inputs["gammas"].items()},
        "refused": {name: trial(answer, p) for name, p in inputs["refused"].items()},
    }


def _curve(answer: Any, gamma: float | None, progress: list[float]) -> list[dict[str, Any]]:
    """一つの γ での記録。例外が起きたら、そこで終える。"""
    options: dict[str, Any] = {} if gamma is None else {"gamma": gamma}
    records: list[dict[str, Any]] = []
    for p in progress:
        records.append(trial(answer, p, **options))
        if failed(records[-1]):
            break
    return records


DANN_SCHEDULE = Question(
    id="03-2",
    points=5,
    title="λの予定",
    goal="勾配反転層の係数λを0から1に近づける予定を、論文の式から実装し、進み具合の測り方の誤りを防ぐことができる",
    minutes=10,
    difficulty=1,
    answers=("dann_lambda",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("nn.dann_schedule",),
    hints=(
        "初めに、progress が0以上1以下かを確かめます。次に、式をそのまま書きます。"
        "書いたら、p = 0 と p = 0.5 の値を、手で計算したものと比べます。",
        "λ_p = 2 / (1 + exp(−γp)) − 1\np = 0 なら exp(0) = 1 なので λ = 0、γp が大きければ exp(−γp) ≈ 0 なので λ ≈ 1 です。",
        "if not 0 <= progress <= 1: で ValueError を起こします（この書き方なら、NaN も断れます）。\n"
        "return では、2 を 1 + math.exp(-gamma * progress) で割り、1 を引きます。",
    ),
)
