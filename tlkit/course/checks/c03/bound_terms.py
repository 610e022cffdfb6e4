"""演習 03-7: Ben-David の上界の三つの項。問題、入力、答えの呼び方を置く。

入力は、区画（セル）の番号とラベルの組を、決めた件数だけ並べた標本である。学習器には、区画ごとの多数決
（`bound_terms_learner.py`）を渡す。だから、どの項の値も手で計算できる。判定は `bound_terms_judge.py` にある。
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlkit.course.checks.c03.bound_terms_judge import judge
from tlkit.course.checks.c03.bound_terms_learner import Learner
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Part = tuple[NDArray[np.float64], NDArray[np.int64]]
Counts = Mapping[tuple[int, str], int]  # （区画, クラス）→ 件数

A0, A1, A2, A3, B0, B1, B2, B3 = ((cell, label) for label in "ab" for cell in range(4))
PARTS = ("source_train", "source_test", "target_train", "target_test")

# 場合ごとに、ソースの学習用と評価用、ターゲットの学習用と評価用の順に並べる
CASES: dict[str, tuple[Counts, Counts, Counts, Counts]] = {
    # 区画が重ならず、どちらもラベルは区画で決まる
    "apart": ({A0: 20, B1: 20}, {A0: 20, B1: 20}, {A2: 20, B3: 20}, {A2: 20, B3: 20}),
    # 試験によく出る ε = 0.1
    "hand": ({A0: 90, B1: 10}, {A0: 90, B1: 10}, {A0: 10, B1: 90}, {A0: 10, B1: 90}),
    # 入力の分布は同じで、ラベルだけが入れ替わる。どの識別器でも ε_S + ε_T = 1
    "swapped": ({A0: 20, B1: 20}, {A0: 20, B1: 20}, {B0: 20, A1: 20}, {B0: 20, A1: 20}),
    # 評価用だけ、ラベルの 1 割（ソース）と 3 割（ターゲット）が違う
    "noisy": ({A0: 40}, {A0: 36, B0: 4}, {A1: 40}, {A1: 28, B1: 12}),
    # 評価用だけ、ソースの 2 割とターゲットの 3 割が相手の区画にある
    "crossed": ({A0: 40}, {A0: 32, A1: 8}, {A1: 40}, {A1: 28, A0: 12}),
    # 評価用では、7 割が相手の区画にある
    "worse": ({A0: 40}, {A0: 12, A1: 28}, {A1: 40}, {A1: 12, A0: 28}),
    # 件数が 9 倍違う。等しい重みなら、区画 2 はターゲットのもの
    "uneven": (
        {A0: 180, B1: 144, A2: 36},
        {A0: 90, B1: 72, A2: 18},
        {A0: 8, B1: 20, B2: 12},
        {A0: 4, B1: 10, B2: 6},
    ),
}


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、行の順番、区画の番号、クラスの番号を選び、標本を作る。"""
    rng = np.random.default_rng(seed)
    return {"cases": {name: _case(parts, rng) for name, parts in CASES.items()}}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼び、返り値と、学習器に渡されたものを記録する。"""
    results, fits = {}, {}
    for name, case in inputs["cases"].items():
        learner = Learner()
        results[name] = trial(answer, *((case[part]["x"], case[part]["y"]) for part in PARTS), learner.fit)
        fits[name] = learner.fits
    return {"results": results, "fits": fits}


def _case(parts: tuple[Counts, ...], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    cells = rng.permutation(8)[:4]
    labels = dict(zip("ab", rng.choice(9, size=2, replace=False), strict=True))
    return {
        name: _sample(counts, number, cells, labels, rng)
        for number, (name, counts) in enumerate(zip(PARTS, parts, strict=True))
    }


def _sample(counts: Counts, number: int, cells: Any, labels: Any, rng: np.random.Generator) -> dict[str, Any]:
    """x の列は、区画の番号と、どの標本から来たかの番号。"""
    rows = [(cells[cell], labels[label]) for (cell, label), count in counts.items() for _ in range(count)]
    table = rng.permutation(np.array(rows))
    x = np.column_stack([table[:, 0], np.full(len(table), number)]).astype(np.float64)
    return {"x": x, "y": table[:, 1].astype(np.int64)}


BOUND_TERMS = Question(
    id="03-7",
    points=10,
    title="ドメイン適応の上界を、データで測る",
    goal="Ben-Davidの上界の三つの項を、学習に使わなかった標本で推定し、上界が何を保証しないかを説明できる",
    minutes=30,
    difficulty=3,
    answers=("bound_terms",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("adapt.joint_error", "transferability.proxy_a"),
    hints=(
        "学習器fitを3回呼びます。ソースだけでラベルを学習したもの、ドメインの番号を学習したもの、両方のドメインで一つのラベルの分類器を"
        "学習したものです。どれも学習用で学習し、評価用で誤り率を測ります。誤り率は、必ずドメインごとに求めます。",
        "ε_S(h): hはソースの学習用だけで学習\n"
        "d̂_A = 2(1 − 2ε)、ε =（ソースを「ターゲット」と答えた割合 + ターゲットを「ソース」と答えた割合）/ 2\n"
        "λ* = ε_S(h') + ε_T(h')。h' は一つだけ。平均ではなく和\n"
        "上界 = ε_S(h) + d̂_A / 2 + λ*\n"
        "両方のドメインで学習するときの重みは、ソースの行が 1/n_S、ターゲットの行が 1/n_T",
        "both = np.concatenate([xs, xt])\n"
        "equal = np.repeat([1 / len(xs), 1 / len(xt)], [len(xs), len(xt)])\n"
        "domains = np.repeat([0, 1], [len(xs), len(xt)])\n"
        "fit(both, domains, equal) がドメイン識別器、fit(both, np.concatenate([ys, yt]), equal) が h' です。\n"
        "np.mean(h(x_test) != y_test) で誤り率を求め、四つの値をdictで返します。",
    ),
)
