"""演習 02-7: チェックポイントの選び方で、報告する正解率がどれだけ変わるか。問題、入力、答えの呼び方を置く。

検証の順位とテストの順位の関係（同じ、逆、無関係）を決めて表を作る。だから、選ばれる候補が手で分かる。
判定は `selection_judge.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c02.selection_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

BONUS = np.array([0, 0.25, 0, 0])  # どの行でも候補 1 を勝たせる
Case = dict[str, Any]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、検証とテストの表 (R, K) に名前をつけて並べる。"""
    rng = np.random.default_rng(seed)
    wide = _case(_table(rng, 6, 4), _table(rng, 6, 4))
    agree = _distinct(rng, 5, 4)
    winners = _winners(rng)
    flat = np.full((5, 3), 0.75)
    cases = {
        "wide": wide,
        "raised-validation": _case(wide["validation"] + 0.125, wide["test"]),
        "reordered": _case(wide["validation"][::-1, [2, 0, 3, 1]], wide["test"][::-1, [2, 0, 3, 1]]),
        "agree": _case(agree, agree),
        "opposite": _case(-agree, agree),
        "one-winner": _case(agree + BONUS, agree + BONUS),
        "new-winners": _case(winners, winners),
        "ties-low": _case(flat, flat + np.array([-0.125, 0, 0.0625]) + 0.01 * _table(rng, 5, 1)),
        "ties-high": _case(flat, flat + np.array([0.125, 0, 0.0625]) + 0.01 * _table(rng, 5, 1)),
        "single": _case(_table(rng, 5, 1), _table(rng, 5, 1)),
        "same-gap": _case(np.tile([0.5, 0.25], (5, 1)), np.tile([0.5, 0.625], (5, 1))),
    }
    cases |= {f"r={count}": _known_spread(rng, count) for count in (3, 5, 12)}
    lift = 0.1 * rng.random((5, 1))
    cases["lifted"] = _case(cases["r=5"]["validation"], cases["r=5"]["test"] + lift)
    return {"cases": cases}


def _case(validation: Any, test: Any) -> Case:
    return {"validation": np.ascontiguousarray(validation), "test": np.ascontiguousarray(test)}


def _table(rng: np.random.Generator, rows: int, columns: int) -> Any:
    return rng.uniform(0.5, 0.9, size=(rows, columns))


def _distinct(rng: np.random.Generator, rows: int, columns: int) -> Any:
    """どの行でも、値の差がはっきりした表。"""
    order = np.argsort(rng.random((rows, columns)), axis=1)
    return 0.5 + 0.05 * order + 0.01 * rng.random((rows, columns))


def _winners(rng: np.random.Generator) -> Any:
    """行ごとに、勝つ候補が違う表。勝った値は 0.9 の近く、ほかは 0.6 の近く。"""
    place = np.eye(4)[np.concatenate([rng.permutation(4), rng.integers(4, size=2)])]
    return 0.6 + 0.3 * place + 0.01 * rng.random((6, 4))


def _known_spread(rng: np.random.Generator, rows: int) -> Case:
    """検証は候補 0 を選び、テストの最良は候補 1。二つの差の平均は 0.05、不偏標準偏差は 0.01。"""
    z = rng.normal(size=rows)
    z = (z - z.mean()) / z.std(ddof=1)
    base = 0.6 + 0.1 * rng.random(rows)
    validation = np.stack([np.full(rows, 0.8), np.full(rows, 0.7), np.full(rows, 0.6)], axis=1)
    return _case(validation, np.stack([base, base + 0.05 + 0.01 * z, base - 0.1], axis=1))


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての表で答えを呼ぶ。"""
    return {name: trial(answer, case["validation"], case["test"]) for name, case in inputs["cases"].items()}


SELECTION = Question(
    id="02-7",
    points=10,
    title="テストで選ぶと、どれだけ水増しになるか",
    goal="検証で選んだときの正解率と、テストで最良を選んだときの正解率の差を、区間つきで報告できる",
    minutes=20,
    difficulty=2,
    answers=("selection_report",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    hints=(
        "行（繰り返し）ごとに、二つの数を求めます。検証で選んだ候補の、テストでの値。テストの値の最大。"
        "二つの列の平均と、その差の平均、区間の半幅が答えです。",
        "c_r = argmax_k V[r, k]、h_r = A[r, c_r]、o_r = max_k A[r, k]、d_r = o_r − h_r\n"
        "honest = mean(h)、optimistic = mean(o)、gap = mean(d)、half = t_{0.975, R−1}·s/√R\n"
        "s は d の不偏標準偏差（R − 1 で割る）です。行ごとに違う列を取り出すには、行の番号と列の番号を組にして添字にします。",
        "rows = np.arange(len(validation))\n"
        "validation の argmax を axis=1 で求めて列の番号とし、test[rows, 列の番号] で行ごとに1個ずつ取り出します。\n"
        "test の max を axis=1 で求め、引き算した d について、平均と、ddof=1 の標準偏差を求めます。\n"
        "stats.t.ppf(0.975, len(d) - 1) を掛け、np.sqrt(len(d)) で割ると半幅です。",
    ),
)
