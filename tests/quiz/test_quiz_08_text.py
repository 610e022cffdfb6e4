"""08 章のクイズの、問題文と理由に書かれた数を、計算した値とくらべる。選択肢の数は test_quiz_08_claims.py。"""

import math
import re

import pytest
from quiz_08_values import (
    AFTER05,
    AFTER09,
    EPISODES19,
    FACTORS09,
    ITEMS,
    LR04,
    LR05,
    LR09,
    LR17,
    POOLED19,
    POOLED_SPREAD19,
    Q05,
    QUERIES02,
    S04,
    S05,
    S17,
    SEEDS19,
    SHOTS02,
    SLOPE17,
    SPREAD19,
    START17,
    STEPS05,
    STEPS09,
    STEPS17,
    STUCK17,
    TASKS09,
    WAYS02,
    curvature,
    numbers,
    python,
    slope,
)
from quiz_computed import fits, numbers_in
from scipy import stats


def parts(formula: str) -> list[tuple[str, float]]:
    """数式を = で分けたうちの、数だけでできたもの（書かれた形と値）。"""
    found = [(text.strip(), python(text)) for text in formula.split("=")]
    return [(t, eval(p, {"math": math})) for t, p in found if re.fullmatch(r"[-+*/(). \d]+", p.replace("math.exp", ""))]


def test_arithmetic_in_the_reasons_holds() -> None:
    """数式の等号が成り立ち、等号のない計算は、その選択肢の数になる。"""
    seen = 0
    for item in ITEMS.values():
        for choice, why in zip(item.choices, item.why, strict=True):
            for formula in re.findall(r"\$([^$]+)\$", why):
                values = parts(formula)
                if len(values) > 1:
                    assert fits(values[0][1], values[-1][0]), (item.id, formula)
                elif values and re.search(r"\\times|/|\d [-+]", formula):
                    near = [abs(values[0][1] - n) <= half for n, half in numbers_in(choice)]
                    assert any(near), (item.id, formula)
                seen += bool(values)
    assert seen >= 20


def test_formulas_of_the_stems_hold() -> None:
    for name in ("q08-12", "q08-17"):
        chains = [parts(formula) for formula in re.findall(r"\$([^$]+)\$", ITEMS[name].stem)]
        told = [values for values in chains if len(values) == 2]
        assert told and all(fits(first[1], second[0]) for first, second in told), name
    assert eval(python(SLOPE17), {"t": START17}) == slope(S17, START17)
    bent = re.search(r"\$([^$]+)\$ の二階微分", ITEMS["q08-04"].why[1])
    assert bent and f"L_s(\\theta) = {bent[1]}$" in ITEMS["q08-04"].stem
    factor = re.search(r"の10に、\$([^$]+)\$ を掛けます", ITEMS["q08-05"].why[1])
    assert factor and eval(python(factor[1])) == pytest.approx((1 - LR05 * curvature(S05)) ** STEPS05)
    for item in ITEMS.values():
        for formula in re.findall(r"\$(\(\\theta[^$]+|\\theta = \d+)\$", " ".join(item.why)):
            assert formula in item.stem, (item.id, formula)


AT09 = [slope(loss, at) for loss, at in zip(TASKS09, AFTER09, strict=True)]
QUANTILES19 = [float(stats.t.ppf(0.975, len(SEEDS19) - 1)), float(stats.norm.ppf(0.975))]

SENTENCES: dict[tuple[str, int], list[float]] = {
    # 問題文（-1）と理由（選択肢の番号）の、数式、コード、表の外に書かれた数
    ("q08-02", -1): [WAYS02, SHOTS02, QUERIES02, 1],
    ("q08-02", 0): [4],
    ("q08-02", 1): [QUERIES02, QUERIES02],
    ("q08-02", 2): [SHOTS02, SHOTS02 * WAYS02 * 4],
    ("q08-03", -1): [500, 90],
    ("q08-04", -1): [LR04, 1],
    ("q08-04", 0): [1, 1 - LR04 * curvature(S04)],
    ("q08-04", 1): [1, curvature(S04)],
    ("q08-05", -1): [LR05, STEPS05],
    ("q08-05", 0): [STEPS05, 2],
    ("q08-05", 1): [1, 1, STEPS05, slope(Q05, AFTER05)],
    ("q08-05", 2): [1, *[1 - LR05 * curvature(S05)] * 2],
    ("q08-07", -1): [0, 2],
    ("q08-07", 2): [1],
    ("q08-08", -1): [5 - 0.25 * slope(S04, 5.0)],
    ("q08-08", 0): [5 - 0.25 * slope(S04, 5.0), 5],
    ("q08-08", 2): [5 - 0.25 * slope(S04, 5.0), 2 * (3 - 2), 1 - 0.25 * curvature(S04)],
    ("q08-08", 3): [1 - 0.25 * curvature(S04)],
    ("q08-09", -1): [LR09, STEPS09],
    ("q08-09", 0): [len(TASKS09)],
    ("q08-09", 1): [*AFTER09, *AT09, *FACTORS09],
    ("q08-09", 2): FACTORS09,
    ("q08-10", -1): [1, 0],
    ("q08-10", 1): [0],
    ("q08-10", 2): [0],
    ("q08-10", 3): [0],
    ("q08-11", -1): [3, 2, 2, 2],
    ("q08-11", 0): [1],
    ("q08-11", 1): [2, 10],
    ("q08-11", 2): [2, 10, 5, 45],
    ("q08-11", 3): [2],
    ("q08-12", -1): [2, 1, 2],
    ("q08-12", 0): [2],
    ("q08-12", 1): [2, 2],
    ("q08-12", 2): [2],
    ("q08-12", 3): [2, -(1**2), -(2**2)],
    ("q08-14", -1): [1, 0, 2, 8, 10, 8],
    ("q08-14", 2): [2, (8 + 10 + 10 + 10) / 4, 1],
    ("q08-16", 2): [0],
    ("q08-17", 0): [START17, slope(S17, START17), LR17 * STEPS17, 1, 1, 1 - LR17 * curvature(S17)],
    ("q08-17", 1): [1],
    ("q08-17", 2): [STUCK17, slope(S17, START17), STEPS17],
    ("q08-17", 3): [1],
    ("q08-18", 0): [0],
    ("q08-18", 1): [0.1, 5, 0.1 * 5, 1, 0],
    ("q08-18", 3): [0],
    ("q08-19", -1): [EPISODES19, EPISODES19 * len(SEEDS19), POOLED_SPREAD19, 97.5, len(SEEDS19) - 1, *QUANTILES19, 95],
    ("q08-19", 0): [EPISODES19 * len(SEEDS19)],
    ("q08-19", 1): [QUANTILES19[1]],
    ("q08-19", 2): [SPREAD19**2, QUANTILES19[0], 0],
    ("q08-20", -1): [95],
    ("q08-20", 0): [0, 0.03],
    ("q08-20", 1): [0],
    ("q08-20", 2): [0, 0],
    ("q08-20", 3): [0],
}


@pytest.mark.parametrize("name", ITEMS)
def test_numbers_of_the_sentences(name: str) -> None:
    item = ITEMS[name]
    prose = re.sub(r"^\|.*$", "", re.sub(r"```.*?```", "", item.stem, flags=re.DOTALL), flags=re.MULTILINE)
    for place, text in enumerate([prose, *item.why], start=-1):
        plain = re.sub(r"(?=−\d)", "、", re.sub(r"\$[^$]+\$|`[^`]+`", "、", text))
        written, wanted = numbers_in(plain), SENTENCES.get((name, place), [])
        assert len(written) == len(wanted), (place, written)
        near = [abs(found - value) <= half for (found, half), value in zip(written, wanted, strict=True)]
        assert all(near), (place, written, wanted)


def test_formulas_of_the_interval_use_the_numbers_of_the_stem() -> None:
    item = ITEMS["q08-19"]
    assert EPISODES19 * len(SEEDS19) == POOLED19
    assert numbers(item.why[0])[1:] == [1.96, pytest.approx(POOLED_SPREAD19 / POOLED19**0.5)]
    assert numbers(item.why[3]) == [pytest.approx(len(SEEDS19) ** 0.5)]
