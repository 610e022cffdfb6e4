"""演習 01-5: 点数が行の並び順に頼っていないかを試す関数。問題、入力、答えの呼び方を置く。

答えに渡す点数は、値が手で分かり、受け取った標本の並びを控える（`pairing_gap_scores.py`）。判定は `pairing_gap_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c01.pairing_gap_judge import judge
from tlkit.course.checks.c01.pairing_gap_scores import recording
from tlkit.course.checks.question import Question
from tlkit.course.checks.shared_random import snapshot
from tlkit.course.checks.trial import trial

REPEATS = 20
Case = dict[str, Any]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、点数と標本の組に名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    first = int(torch.randint(1000, (), generator=g))

    def case(score: str, n: int = 7, m: int = 7, shift: int = 0, repeats: int = REPEATS) -> Case:
        return {"score": score, "source": _rows(n, g), "target": _rows(m, g), "seed": first + shift, "repeats": repeats}

    pairs = case("pairs")
    cases = {"pairs": pairs, "again": pairs, "other": pairs | {"seed": first + 1}, "third": pairs | {"seed": first + 2}}
    cases |= {name: case(name) for name in ("free", "rise", "tripled", "lifted")}
    cases |= {name: case(name, 5, 8) for name in ("source", "target")}
    cases |= {"free-uneven": case("free", 8, 5), "once": case("pairs", repeats=1)}
    return {"cases": cases | {f"two-{shift}": case("pairs", 2, 2, shift) for shift in range(4)}}


def _rows(count: int, g: torch.Generator) -> Tensor:
    """0 列目が行の番号、残りが乱数の標本 (count, 3)。"""
    return torch.cat([torch.arange(float(count))[:, None], torch.randn(count, 2, generator=g)], dim=1)


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。共有の乱数が動いたかも調べる。"""
    before = snapshot()
    cases = {name: _case(answer, case) for name, case in inputs["cases"].items()}
    return {"cases": cases, "shared_random": before != snapshot()}


def _case(answer: Any, case: Case) -> dict[str, Any]:
    calls: list[list[Any]] = []
    score = recording(case["score"], case["source"], case["target"], calls)
    record = trial(answer, score, case["source"], case["target"], case["seed"], case["repeats"])
    return record | {"calls": calls[: 10 * REPEATS], "count": len(calls)}


PAIRING_GAP = Question(
    id="01-5",
    points=10,
    title="並び順に頼る点数を見つける",
    goal="行を並べ替える実験で、並びの偶然に頼る点数を発見できる",
    minutes=20,
    difficulty=2,
    answers=("pairing_gap",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    hints=(
        "もとの並びで一度だけ点数を求めます。次に、sourceとtargetの片方だけを行ごと並べ替えて、点数を求め直します。"
        "両方を同じ順に並べ替えると組が崩れないので、誤りは見つかりません。",
        "s₀ = score(source, target)、π_r と τ_r を r 回目の並べ替えとして、\n"
        "gap = max_r max( |score(source[π_r], target) − s₀|, |score(source, target[τ_r]) − s₀| )\n"
        "N ≠ M でもよいので、π_r は N 個、τ_r は M 個の番号を並べ替えます。乱数生成器は、繰り返しの外で一度だけ作ります。",
        "rng = np.random.default_rng(seed)   # 共有の乱数は使わない\n"
        "s0 = score(source, target)\n"
        "繰り返しの中で、rng.permutation(len(source)) を source の行の番号に使い、score(..., target) と s0 の差の絶対値を控えます。\n"
        "target についても同じことをします。最後に、控えた差の最大値を float(...) にして返します。",
    ),
)
