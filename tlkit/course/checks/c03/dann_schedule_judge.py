"""演習 03-2 の判定。破れた性質から診断を選ぶ。

返り値の形、出発点、増え方、γ の使い方、行き着く先、傾き、既定値、断るべき p の順に調べる。
場合の作り方は `dann_schedule.py` にある。
"""

import itertools
import math
from typing import Any

from tlkit.course.checks.findings import Finding, Records, close, first, first_raised, not_a_number
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

Curves = dict[str, list[float]]
NEAR = 1e-6


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    records = {f"{name}/{i}": record for name, rows in data["curves"].items() for i, record in enumerate(rows)}
    if verdict := _rejected(data["curves"], inputs["progress"]) or _overflow(data["curves"]["huge"]):
        return verdict
    if verdict := first_raised(records) or first(not_a_number(records, "λ")) or first(_not_float(records)):
        return verdict
    curves = {name: [record["value"] for record in rows] for name, rows in data["curves"].items()}
    return (
        first(_finite(curves))
        or first(_properties(curves, inputs))
        or first(_all_values(curves, inputs))
        or first(_refused(data["refused"], inputs["refused"]))
        or PASSED
    )


def _rejected(curves: dict[str, Any], progress: list[float]) -> Verdict | None:
    for rows in curves.values():
        for p, record in zip(progress, rows, strict=False):  # 例外が起きた曲線は、そこで終わる
            if failed(record) and record["error"]["type"] == "ValueError":
                message = (
                    f"progress = {p:g} で ValueError が起きました。0と1を含む、0以上1以下の数は受け取ってください。"
                )
                return wrong("rejects-valid", message, record["error"]["index"])
    return None


def _overflow(huge: list[dict[str, Any]]) -> Verdict | None:
    for record in huge:
        if failed(record) and record["error"]["type"] == "OverflowError":
            return wrong("overflow", _OVERFLOW, record["error"]["index"])
    return None


_OVERFLOW = (
    "gamma = 10000 のとき、計算があふれました。exp に大きな正の数を渡していませんか。"
    "式のとおり exp(−γp) を使えば、p が0以上なので、あふれません。"
)


def _not_float(records: Records) -> Finding:
    for record in records.values():
        if record["type"] not in ("float", "float64", "int"):
            yield (
                "not-float",
                f"返り値が {record['type']} です。λ は、`.item()` や float() で Python の数に直して返してください。",
            )


def _finite(curves: Curves) -> Finding:
    for name, values in curves.items():
        if name != "huge" and not all(map(math.isfinite, values)):
            yield "not-finite", "λ が NaN か無限大になる p があります。0での割り算がないか確かめてください。"
    if not all(map(math.isfinite, curves["huge"])):
        yield "overflow", _OVERFLOW


def _properties(curves: Curves, inputs: dict[str, Any]) -> Finding:
    yield from _start(curves)
    yield from _growth(curves["curve"][:-1])
    yield from _gamma(curves)
    yield from _limit(curves)
    yield from _slope(curves["curve"][-1], inputs)
    if not _same(curves["default"], curves["ten"]):
        yield (
            "default-gamma",
            "gamma を省いたときの値が、10を渡したときと違います。ひな形の既定値を変えないでください。",
        )


def _start(curves: Curves) -> Finding:
    for values in curves.values():
        if abs(values[0]) > NEAR:
            yield (
                "start",
                f"p = 0 で λ が {values[0]:.4g} です。0のはずです。exp(0) = 1 を式に入れて、確かめてください。",
            )


def _growth(values: list[float]) -> Finding:
    """γ が 3 から 6 の、等間隔の p での値。"""
    if min(values) < -NEAR:
        yield "negative", f"λ が負（{min(values):.4g}）になります。exp の中の符号を確かめてください。"
    steps = [b - a for a, b in itertools.pairwise(values)]
    if min(steps) < 1e-8:
        yield (
            "not-increasing",
            f"p を0.05ずつ増やしても、λ が増えない所があります（p = {steps.index(min(steps)) / 20:.2f} の後）。"
            "p を丸めたり、途中で値を切ったりしていませんか。",
        )
    if values[-1] > 0.5 and max(steps) - min(steps) < 1e-4:
        yield (
            "straight",
            "λ がまっすぐに増えています。初めは速く、あとはゆるやかに増える、S字の右半分の曲線になるはずです。",
        )


def _gamma(curves: Curves) -> Finding:
    if _same(curves["curve"], curves["doubled"]):
        yield "gamma-ignored", "gamma を2倍にしても、λ が変わりません。渡された gamma を使ってください。"


def _limit(curves: Curves) -> Finding:
    """γp が大きいときと、γ が小さいときの、行き着く先。"""
    far, gentle = curves["huge"][-2], curves["gentle"][-2]
    if not close(far, 1, NEAR):
        yield (
            "limit",
            f"gamma = 10000、p = 1 で、λ が1でなく {far:.4g} です。γp が大きければ、λ は1に近づきます。掛ける数と引く数を確かめてください。",
        )
    if close(gentle, 1, NEAR):
        yield (
            "end-forced",
            "gamma = 1、p = 1 で、λ がちょうど1になりました。式のままなら、γ が小さいと1に届きません。終わりの値をそろえないでください。",
        )


def _slope(early: float, inputs: dict[str, Any]) -> Finding:
    """p が小さいとき、λ ≈ γp / 2。"""
    ratio = early / (inputs["gammas"]["curve"] * inputs["progress"][-1] / 2)
    if ratio > 1.01:
        yield (
            "too-steep",
            f"出発点の傾きが、γ/2 の {ratio:.3g} 倍です。λ の増え方が速すぎます。exp の中を確かめてください。",
        )
    if ratio < 0.99:
        yield (
            "too-gentle",
            f"出発点の傾きが、γ/2 の {ratio:.3g} 倍です。λ の増え方が遅すぎます。exp の中を確かめてください。",
        )


def _all_values(curves: Curves, inputs: dict[str, Any]) -> Finding:
    for name, values in curves.items():
        gamma = inputs["gammas"][name] or 10.0
        for p, value in zip(inputs["progress"], values, strict=True):
            want = math.tanh(gamma * p / 2)
            if not close(value, want, NEAR):
                yield (
                    "value-mismatch",
                    f"gamma = {gamma:.3g}、p = {p:.3g} で、λ が {want:.5f} でなく {value:.5f} です。",
                )


def _refused(records: Records, refused: dict[str, float]) -> Finding:
    for name, record in records.items():
        if not failed(record) and name == "nan":
            yield "nan-accepted", "progress が NaN でも、値が返りました。NaN は、どの大小の比較でも偽になります。"
        elif not failed(record):
            yield (
                "outside-accepted",
                f"progress = {refused[name]} を受け取りました。エポックの番号や百分率を渡した誤りに気づけるように、ValueError にしてください。",
            )
        elif record["error"]["type"] != "ValueError":
            kind = record["error"]["type"]
            yield "wrong-exception", f"progress = {refused[name]} で、ValueError でなく {kind} が起きました。"


def _same(a: list[float], b: list[float]) -> bool:
    return all(close(x, y, 1e-9) for x, y in zip(a, b, strict=True))
