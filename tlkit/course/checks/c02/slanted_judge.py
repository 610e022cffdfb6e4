"""演習 02-3 の判定。破れた性質から診断を選ぶ。

返り値の形、引数の使い方、山、坂の形、既定値、切り捨て、短い予定の順に調べる。
予定の作り方は `slanted.py` にある。
"""

import itertools
import math
from typing import Any

from tlkit.course.checks.findings import Finding, close, first, first_raised, not_a_number
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Rates = dict[str, list[float]]
SHORT = ("short", "single")


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    records = {f"{name}/{step}": record for name, steps in data.items() for step, record in enumerate(steps)}
    usual = {name: record for name, record in records.items() if name.split("/")[0] not in SHORT}
    if verdict := first_raised(usual) or first(_short_raised(data)) or first_raised(records):
        return verdict
    if verdict := first(not_a_number(records, "このステップの学習率")):
        return verdict
    cases = inputs["cases"]
    shares = {name: [record["value"] / cases[name]["peak"] for record in steps] for name, steps in data.items()}
    return first(_finite(shares)) or first(_properties(shares)) or first(_all_values(shares, cases)) or PASSED


def _short_raised(data: dict[str, Any]) -> Finding:
    for name in SHORT:
        if any(failed(record) and record["error"]["type"] == "ZeroDivisionError" for record in data[name]):
            yield _cut_zero(len(data[name]))


def _cut_zero(total: int) -> tuple[str, str]:
    return (
        "cut-zero",
        f"total_steps = {total}、cut_frac = 0.1 のとき、0での割り算になりました。⌊T·cut_frac⌋ が0です。cut は1以上にしてください。",
    )


def _finite(shares: Rates) -> Finding:
    for name, values in shares.items():
        if not all(map(math.isfinite, values)):
            if name in SHORT:
                yield _cut_zero(len(values))
            yield "not-finite", "学習率が NaN か無限大になるステップがあります。0での割り算がないか確かめてください。"


def _properties(shares: Rates) -> Finding:
    """shares は、peak を1としたときの学習率。"""
    yield from _flat(shares["even"])
    yield from _arguments(shares)
    yield from _peak(shares["even"])
    yield from _slopes(shares["even"])
    yield from _defaults(shares)
    yield from _floored(shares["floored"])
    yield from _short(shares)


def _flat(even: list[float]) -> Finding:
    if max(even) - min(even) < 1e-9:
        yield "constant", "学習率が、どのステップでも同じです。ステップで決まる p を、式の中で使ってください。"
    if abs(even[0]) < 1e-9:
        yield (
            "no-floor",
            "ステップ0の学習率が0です。p = 0 でも、学習率は peak/ratio です。0のステップでは、何も学習されません。",
        )


def _arguments(shares: Rates) -> Finding:
    if _same(shares["ratio"], shares["even"]):
        yield "ratio-ignored", "ratio を8から4に変えても、学習率が変わりません。渡された ratio を使ってください。"
    if _same(shares["half"], shares["even"]):
        yield (
            "cut-frac-ignored",
            "cut_frac を0.25から0.5に変えても、学習率が変わりません。渡された cut_frac を使ってください。",
        )


def _peak(even: list[float]) -> Finding:
    """T = 40、cut = 10、ratio = 8。"""
    if not close(max(even), 1, 1e-6):
        yield (
            "peak-height",
            f"最大の学習率が、peak の {max(even):.3g} 倍です。p = 1 のとき、ちょうど peak になるはずです。",
        )
    place = even.index(max(even))
    if place == 9:
        yield (
            "one-origin",
            "total_steps = 40、cut_frac = 0.25 で、山がステップ10でなく9に来ました。step は0から数えます。1を足していませんか。",
        )
    if place != 10:
        yield (
            "peak-place",
            f"total_steps = 40、cut_frac = 0.25 で、山がステップ10でなく {place} に来ました。"
            "初めの ⌊T·cut_frac⌋ ステップで上げ、残りで下げます。",
        )
    if not close(even[0], 1 / 8, 1e-6):
        yield (
            "start",
            f"ratio = 8 のとき、ステップ0の学習率が peak の1/8でなく {even[0]:.3g} 倍です。p = 0 を式に入れて確かめてください。",
        )


def _slopes(even: list[float]) -> Finding:
    """上り坂も下り坂も、まっすぐか。下り坂は、ステップ T で peak/ratio に着く傾きか。"""
    if not _straight(even[:11]):
        yield (
            "rise-not-linear",
            "上り坂がまっすぐではありません。p は t/cut で、ステップごとに同じ幅で増えます（// は小数を切り捨てます）。",
        )
    if not _straight(even[10:]):
        yield "fall-not-linear", "下り坂がまっすぐではありません。p は、ステップごとに同じ幅で減ります。"
    fall, want = even[10] - even[-1], (7 / 8) * 29 / 30
    if fall < want - 1e-6:
        yield (
            "fall-too-slow",
            "下り坂がゆるすぎます。T·cut_frac が整数なら、ステップ T でちょうど p = 0 になる傾きです。"
            "分母のかっこ cut·(1/cut_frac − 1) を確かめてください。",
        )
    if fall > want + 1e-6:
        yield (
            "fall-too-fast",
            "下り坂が急すぎます。T·cut_frac が整数なら、ステップ T でちょうど p = 0 になる傾きです。"
            "分子の t − cut と、分母の cut·(1/cut_frac − 1) を確かめてください。",
        )


def _defaults(shares: Rates) -> Finding:
    if not _same(shares["default"], shares["long"]):
        yield (
            "defaults",
            "cut_frac と ratio を省いたときの値が、0.1と32を渡したときと違います。ひな形の既定値を変えないでください。",
        )


def _floored(values: list[float]) -> Finding:
    """T = 38、cut_frac = 0.25 なので、T·cut_frac = 9.5。"""
    place = values.index(max(values))
    if place != 9 or not close(values[9], 1, 1e-6):
        yield (
            "not-floored",
            f"total_steps = 38、cut_frac = 0.25（積は9.5）で、山がステップ9に来ません（最大はステップ {place} の、"
            f"peak の {max(values):.3g} 倍）。cut は、切り上げや四捨五入ではなく、切り捨てた整数です。",
        )
    if min(values) < 1 / 8 - 1e-9:
        yield (
            "below-floor",
            f"total_steps = 38、cut_frac = 0.25（積は9.5）で、最小の学習率が peak/ratio より小さい {min(values):.3g} 倍です。"
            "切り捨てのため、終わりで p が負になっています。p は0より小さくしません。",
        )
    if not _straight(values[9:37]) or not close(values[36], 1 / 8, 1e-6):
        yield (
            "fall-denominator",
            "T·cut_frac が整数でないとき、下り坂の傾きが違います。分母は、残りのステップの数 T − cut ではなく、"
            "cut·(1/cut_frac − 1) です（整数のときだけ、二つは等しくなります）。",
        )


def _short(shares: Rates) -> Finding:
    short = shares["short"]
    if not (close(short[0], 1 / 32, 1e-6) and close(short[1], 1, 1e-6)):
        yield (
            "cut-at-least-one",
            "total_steps = 5、cut_frac = 0.1 のとき、cut は1です。ステップ0で peak/ratio、ステップ1で peak になるはずですが、"
            f"peak の {short[0]:.3g} 倍と {short[1]:.3g} 倍でした。",
        )


def _all_values(shares: Rates, cases: dict[str, Any]) -> Finding:
    for name, values in shares.items():
        case = cases[name]
        for step, value in enumerate(values):
            want = _share(step, case["total"], **case["options"])
            if not close(value, want, 1e-6):
                yield (
                    "value-mismatch",
                    f"total_steps = {case['total']}、{case['options']} のステップ {step} で、学習率が peak の {want:.4g} 倍でなく "
                    f"{value:.4g} 倍です。",
                )


def _share(step: int, total: int, cut_frac: float = 0.1, ratio: float = 32) -> float:
    cut = max(1, math.floor(total * cut_frac))
    p = step / cut if step < cut else max(0.0, 1 - (step - cut) / (cut * (1 / cut_frac - 1)))
    return (1 + p * (ratio - 1)) / ratio


def _same(a: list[float], b: list[float]) -> bool:
    return all(close(x, y, 1e-9) for x, y in zip(a, b, strict=True))


def _straight(values: list[float]) -> bool:
    steps = [b - a for a, b in itertools.pairwise(values)]
    return max(steps) - min(steps) < 1e-6
