"""演習 01-7: 点数の順位と正解率の順位の一致を、区間つきで測る関数。問題、入力、答えの呼び方を置く。

引き直しが 1 回か 2 回なら、区間の端は、ありうる順位相関の値から決まる。だから、乱数の使い方によらず確かめられる。
判定は `rank_agreement_judge.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c01.rank_agreement_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.shared_random import snapshot
from tlkit.course.checks.trial import trial

MANY = 1500
FEW = 80
Case = dict[str, Any]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、点数と正解率の組に名前をつけて並べる。"""
    rng = np.random.default_rng(seed)
    first = int(rng.integers(1000))

    def case(scores: Any, accuracies: Any, resamples: int = FEW, shift: int = 0) -> Case:
        return {"scores": scores, "accuracies": accuracies, "seed": first + shift, "resamples": resamples}

    up, wide = np.sort(rng.normal(size=8)), rng.normal(size=(2, 17))
    zigzag = case(up, np.sort(rng.random(8))[[1, 0, 3, 2, 5, 4, 7, 6]])
    cases = {f"{name}-n{n}": case(up[:n], np.exp(3 * up[:n])) for name, n in (("up", 8), ("up", 3), ("up", 2))}
    cases |= {"down": case(up, -np.exp(3 * up)), "zigzag": zigzag, "wide": case(*wide)}
    cases |= {name: case(wide[0], wide[1], shift=k) for k, name in enumerate(("again", "other", "third"))}
    cases |= {"wide-2": case(*rng.normal(size=(2, 17)))} | _ties(rng, case)
    for shift in range(8):
        cases[f"one-{shift}"] = zigzag | {"resamples": 1, "seed": first + shift}
        cases[f"two-{shift}"] = zigzag | {"resamples": 2, "seed": first + shift}
    return {"cases": cases}


def _ties(rng: np.random.Generator, case: Any) -> dict[str, Case]:
    """同点のある組と、その並びを替えた組。"""
    levels = np.sort(rng.normal(size=3))
    scores, accuracies = levels[[0, 0, 0, 1, 2, 2]], levels[[1, 0, 0, 2, 1, 2]]
    order = [5, 2, 0, 3, 1, 4]
    low, high = np.sort(rng.normal(size=2))
    binary = np.where([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1]], high, low)
    return {
        "ties": case(scores, accuracies),
        "ties-moved": case(scores[order], accuracies[order]),
        "binary": case(binary[0], binary[1], MANY),
    }


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。共有の乱数が動いたかも調べる。"""
    before = snapshot()
    cases = {name: _call(answer, case) for name, case in inputs["cases"].items()}
    return {"cases": cases, "shared_random": before != snapshot()}


def _call(answer: Any, case: Case) -> dict[str, Any]:
    return trial(answer, case["scores"], case["accuracies"], case["seed"], case["resamples"])


RANK_AGREEMENT = Question(
    id="01-7",
    points=20,
    title="研究課題：転移元を選ぶ",
    goal="転移可能性の点数が役に立つかを、実測した正解率との順位相関と、その不確かさから判断できる",
    minutes=45,
    difficulty=3,
    answers=("rank_agreement",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    hints=(
        "三つに分けて作ります。順位相関を求める小さな関数、転移元を重複を許して引き直す繰り返し、帰無分布の幅です。"
        "引き直すのは「点数と正解率の組」です。引き直した標本の中で、順位をつけ直します。",
        "順位相関 ρ は、順位（同点は平均の順位）どうしの、ふつうの相関係数です。\n"
        "区間: n 個の番号を重複を許して引き、その番号の組で ρ を求めます。resamples 回の ρ の 2.5 % 点と 97.5 % 点が両端です。\n"
        "点数か正解率がすべて同じになった引き直しでは、ρ を定義できないので捨てます。\n"
        "帰無分布: 点数が無関係なら、ρ の標準偏差は 1/√(n−1) です。半幅は 1.96/√(n−1) とします。",
        "rng = np.random.default_rng(seed)\n"
        "rows = rng.integers(n, size=n)   # 引き直した番号。これを resamples 回くり返す\n"
        "a, b = stats.rankdata(scores[rows]), stats.rankdata(accuracies[rows])\n"
        "np.ptp(a) か np.ptp(b) が0なら捨て、そうでなければ np.corrcoef(a, b)[0, 1] を控えます。\n"
        "np.percentile(控えた値, [2.5, 97.5]) が区間です。最初の ρ は、引き直さずに同じ式で求めます。",
    ),
)
