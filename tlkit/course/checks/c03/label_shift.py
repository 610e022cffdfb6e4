"""演習 03-9: ラベルシフトの重みを、予測だけから推定する。問題、入力、答えの呼び方を置く。

混同の件数（行が予測、列がラベル）を整数で決め、ターゲットの件数を、そのちょうど整数倍の割合で混ぜて作る。
だから、標本の揺れがなく、正しい重みがぴたりと決まる（解が負になる一つの場合を除く）。判定は `label_shift_judge.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c03.label_shift_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Case = dict[str, Any]

# 行が予測、列がラベル。三つとも、行の合計と列の合計が同じである
BASE = [[30, 8, 6], [7, 24, 8], [5, 6, 20]]
TURNED = [[30, 12, 2], [3, 24, 12], [9, 2, 20]]  # 誤りの行き先だけが違う
DULL = [[24, 14, 6], [13, 18, 8], [5, 6, 20]]  # 当たる数も違う


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、混同の件数とターゲットの混ぜ方に名前をつけて並べる。"""
    rng = np.random.default_rng(seed)
    three = np.array([[30, 4, 6], [8, 40, 2], [5, 9, 20]]) + 2 * rng.integers(3)
    five = np.diag(rng.integers(15, 25, size=5)) + rng.integers(1, 5, size=(5, 5))
    two = np.array([[40, 15], [10, 25 + rng.integers(5)]])
    one_way = np.array([[20, 15], [0, 25 + rng.integers(5)]])
    unseen, permuted = np.array([[30, 6, 5], [8, 25, 3], [0, 0, 20]]), np.array([[2, 3, 25], [30, 4, 6], [5, 28, 0]])
    mixed = _mixed(three, rng.permutation([1, 2, 4]))
    cases = {
        "three": _case(rng, three, mixed),
        "large-target": _case(rng, three, 3 * mixed),
        "large-source": _case(rng, 2 * three, mixed),
        "two": _case(rng, two, _mixed(two, [1, 4])),
        "five": _case(rng, five, _mixed(five, rng.permutation([1, 1, 2, 3, 6]))),
        "one-way": _case(rng, one_way, _mixed(one_way, [1, 3])),
        "no-shift": _case(rng, three, three.sum(axis=1)),
        "perfect": _case(rng, np.diag([10, 20, 30]), [30, 20, 60]),
        "absent": _case(rng, three, _mixed(three, rng.permutation([0, 1, 3]))),
        "last-unseen": _case(rng, unseen, _mixed(unseen, [1, 2, 0])),
        "permuted": _case(rng, permuted, _mixed(permuted, [1, 3, 2])),
        "negative": _case(rng, [[20, 6], [10, 30]], [9, 1]),  # 二つの予測の割合の、どんな混ぜ合わせでも作れない
    }
    shares = _mixed(BASE, [3, 1, 2])
    cases |= {name: _case(rng, table, shares) for name, table in (("base", BASE), ("turned", TURNED), ("dull", DULL))}
    return {"cases": cases}


def _mixed(table: Any, times: Any) -> Any:
    """クラス j の件数を times[j] 倍したターゲットの、予測ごとの件数。"""
    return np.asarray(table) @ np.asarray(times)


def _case(rng: np.random.Generator, table: Any, target: Any) -> Case:
    """件数のとおりに予測とラベルを並べ、順を混ぜる。"""
    table = np.asarray(table)
    classes = len(table)
    pairs = rng.permutation(np.repeat(np.arange(classes**2), table.reshape(-1)))
    return {
        "source_predictions": pairs // classes,
        "source_labels": pairs % classes,
        "target_predictions": rng.permutation(np.repeat(np.arange(classes), target)),
        "classes": classes,
    }


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。"""
    return {name: trial(answer, *case.values()) for name, case in inputs["cases"].items()}


LABEL_SHIFT = Question(
    id="03-9",
    points=10,
    title="予測だけから、ラベルシフトの重みを推定する",
    goal="ソースの混同の割合とターゲットの予測の割合から、クラスごとの重み p_T(y)/p_S(y) を推定できる",
    minutes=25,
    difficulty=2,
    answers=("label_shift_weights",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("adapt.label_shift",),
    hints=(
        "未知数は、クラスごとの重み w_0, …, w_{C−1} の C 個です。予測の値ごとに1本、合わせて C 本の連立一次方程式を作ります。"
        "係数は、ソースで「予測が i、ラベルが j」になった割合です。右辺は、ターゲットで「予測が i」になった割合です。",
        "Ĉ_ij = (1/N) Σ_k 1[予測_k = i, ラベル_k = j]（全体の件数 N で割る。行が予測、列がラベル）\n"
        "μ̂_i = (1/M) Σ_k 1[ターゲットの予測_k = i]\n"
        "Ĉ w = μ̂ を w について解きます。Ĉ は N で割るので、w がそのまま比 p_T/p_S になります。",
        "confusion = np.zeros((classes, classes)) を用意します。\n"
        "np.add.at(表, (行の番号の列, 列の番号の列), 1) で、標本ごとに1を足します（同じ場所が何度現れても、その回数だけ足されます）。\n"
        "ターゲットの予測は、np.bincount の minlength を classes にして数えます。\n"
        "どちらも、それぞれの合計で割ってから、np.linalg.solve(左辺の行列, 右辺の列) に渡します。",
    ),
)
