"""演習 03-1 の判定。破れた性質から診断を選ぶ。

順伝播、勾配の係数、ほかの計算との組み合わせ、形、2 階の微分、断るべき λ の順に調べる。
組み合わせと 2 階の微分の性質は `gradient_reversal_judge_scenes.py`、場合の作り方は `gradient_reversal.py` にある。
"""

import itertools
import math
from typing import Any

from tlkit.course.checks.c03.gradient_reversal_judge_scenes import composed, flat, near, second
from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.findings import Finding, Records, close, first
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

USUAL = ("plain", "double", "zero", "whole", "large")
SLOTS = ("incorrect number of gradients", "gradient different than None")  # backward の返り値の並びが違うときの文
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    single, cases = data["single"], inputs["single"]
    usual = {name: single[name] for name in USUAL}
    return (
        _stopped(usual, cases)
        or first(_form(usual, cases))
        or first(_forward(usual, cases))
        or _backward_stopped(usual)
        or first(_coefficients(usual, cases))
        or _composed_stopped(data["composed"])
        or first(composed(data["composed"], inputs["composed"]))
        or _frozen(data["frozen"], cases["plain"])
        or first(_shapes(single, cases))
        or first(second(data["composed"]["second"], inputs["composed"]))
        or first(_refused(data["refused"], inputs["refused"]))
        or PASSED
    )


def _stopped(usual: Records, cases: dict[str, Any]) -> Verdict | None:
    for name, record in usual.items():
        if failed(record) and record["error"]["type"] == "ValueError":
            message = (
                f"λ = {cases[name]['lambda_']:.3g} で ValueError が起きました。0以上の有限な λ は、受け取ってください。"
            )
            return wrong("rejects-valid", message, record["error"]["index"])
        if failed(record):
            return raised(record["error"], f"λ = {cases[name]['lambda_']:.3g} のとき、")
    return None


def _form(records: Records, cases: dict[str, Any]) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        value, want = record["value"], cases[name]["x"].mT if "strided" in cases[name] else cases[name]["x"]
        dtype = str(want.dtype).removeprefix("torch.")
        if value is None or value["type"] != "Tensor":
            got = "扱えない値" if value is None else value["type"]
            yield "not-tensor", f"返り値が{got}です。x と同じ形のテンソルを一つだけ返してください。"
        elif value["shape"] != list(want.shape):
            yield "shape-changed", f"形 {tuple(want.shape)} の x を渡すと、形 {tuple(value['shape'])} が返りました。"
        elif value["dtype"] != dtype:
            yield "dtype-changed", f"{dtype} の x を渡すと、{value['dtype']} が返りました。dtype を変えないでください。"


def _forward(usual: Records, cases: dict[str, Any]) -> Finding:
    """順伝播は、λ によらない恒等写像か。"""
    if any(record["value"]["changed"] for record in usual.values()):
        yield "argument-overwritten", "渡した x の中身が書き換わりました。新しいテンソルか、ビューを返してください。"
    if not all(math.isfinite(v) for record in usual.values() for v in flat(record["value"]["y"])):
        yield "forward-not-finite", "順伝播の値に NaN か無限大があります。x の値をそのまま返してください。"
    x = flat(cases["plain"]["x"].tolist())
    plain, double = (flat(usual[name]["value"]["y"]) for name in ("plain", "double"))
    if not near(plain, double):
        yield (
            "lambda-in-forward",
            "λ を変えると、順伝播の値が変わりました。順伝播は恒等写像です。λ を使うのは、逆伝播だけです。",
        )
    if sum(a * b for a, b in zip(plain, x, strict=True)) < 0:
        yield (
            "forward-reversed",
            "順伝播の値の符号が、x と逆です。反転するのは勾配です。値はそのまま返してください。",
        )
    for record in usual.values():
        if not near(record["value"]["y"], x):
            yield (
                "forward-changed",
                f"順伝播の値が x と違います（{x[0]:.4g} の要素が {flat(record['value']['y'])[0]:.4g} になりました）。x をそのまま返します。",
            )


def _backward_stopped(records: Records) -> Verdict | None:
    for record in records.values():
        error = record["value"].get("backward_error")
        if error and any(text in error["message"] for text in SLOTS):
            message = (
                "backward の返り値の並びが違います。forward の引数（ctx を除く）と同じ数だけ、同じ順に返します。"
                "λ は数で、勾配を持たないので、その場所は None にします。"
            )
            return wrong("backward-slots", message, error["index"])
        if error:
            return raised(error, "順伝播は動きましたが、逆伝播で止まりました。")
    return None


def _coefficients(usual: Records, cases: dict[str, Any]) -> Finding:
    """下流の勾配 w に掛かった係数。正しければ、どの要素でも −λ。"""
    if any(record["value"]["grads"][0] is None for record in usual.values()):
        yield (
            "gradient-cut",
            "値は正しいのですが、x に勾配が流れません。`detach`、`.data`、`no_grad` で計算が切れていないか確かめてください。",
        )
        return
    factors = {name: _factors(record["value"]["grads"][0], cases[name]["weight"]) for name, record in usual.items()}
    lambda_ = cases["plain"]["lambda_"]
    if not all(map(math.isfinite, itertools.chain(*factors.values()))):
        yield "gradient-not-finite", "x の勾配に NaN か無限大があります。λ で割っていないか確かめてください。"
    if max(map(abs, factors["plain"])) < 1e-9:
        yield "gradient-zero", f"λ = {lambda_:.3g} なのに、x の勾配がすべて0です。勾配は −λ 倍になるはずです。"
    if max(factors["plain"]) - min(factors["plain"]) > 1e-6:
        yield (
            "not-uniform",
            "下流から来た勾配に掛かる数が、要素ごとに違います。どの要素にも、同じ −λ を掛けてください。",
        )
    factor = {name: values[0] for name, values in factors.items()}
    yield from _direction(factor)
    yield from _size(factor, cases)


def _factors(grads: Any, weight: Any) -> list[float]:
    return [got / w for got, w in zip(flat(grads), flat(weight.tolist()), strict=True)]


def _direction(factor: dict[str, float]) -> Finding:
    same = close(factor["plain"], factor["double"], 1e-9)
    if factor["plain"] > 0 and same:
        yield (
            "not-reversed",
            "勾配が反転していません。λ によらず、下流から来た勾配と同じ向きです。backward で −λ を掛けてください。",
        )
    if factor["plain"] > 0:
        yield (
            "sign-kept",
            "勾配の大きさは λ で変わりますが、向きが下流と同じです。マイナスがないと、特徴抽出器はドメイン識別器に協力します。",
        )
    if same:
        yield "lambda-ignored", "勾配は反転しましたが、λ を変えても大きさが変わりません。渡された λ を掛けてください。"


def _size(factor: dict[str, float], cases: dict[str, Any]) -> Finding:
    """係数は λ に比例し、比例定数は −1 か。"""
    lambda_ = cases["plain"]["lambda_"]
    if abs(factor["zero"]) > 1e-9:
        yield "zero-lambda", f"λ = 0 のとき、勾配は0のはずですが、{factor['zero']:.3g} 倍でした。"
    growth = factor["double"] / factor["plain"]
    if not close(growth, 2, 1e-6):
        yield (
            "not-linear",
            f"λ を2倍にすると、勾配が {growth:.3g} 倍になりました。勾配は λ に比例します。λ を掛けるのは1回だけです。",
        )
    if not close(factor["plain"], -lambda_, 1e-6):
        yield (
            "gradient-scale",
            f"λ = {lambda_:.3f} で、勾配が −{lambda_:.3f} 倍でなく {factor['plain']:.3f} 倍です。λ のほかの数を掛けないでください。",
        )
    for name, got in factor.items():
        if not close(got, -cases[name]["lambda_"], 1e-6):
            yield "other-lambda", f"λ = {cases[name]['lambda_']:g} のとき、勾配が −λ 倍でなく {got:.4g} 倍です。"


def _composed_stopped(records: Records) -> Verdict | None:
    """2 階の微分のほかは、止まらないはずである。"""
    first_order = {name: record for name, record in records.items() if name != "second"}
    for record in first_order.values():
        if failed(record):
            return raised(record["error"], "ほかの計算と組み合わせると、")
    return _backward_stopped(first_order)


def _frozen(record: dict[str, Any], case: dict[str, Any]) -> Verdict | None:
    if failed(record):
        where = raised(record["error"]).message
        message = f"x が勾配を要求しないとき（評価のときなど）に止まります。値をそのまま返してください。{where}"
        return wrong("no-grad-input", message, record["error"]["index"])
    if verdict := first(_form({"plain": record}, {"plain": case})):
        return verdict
    if not near(record["value"]["y"], flat(case["x"].tolist())):
        return wrong("no-grad-input", "x が勾配を要求しないとき（評価のときなど）に、値が x と違います。")
    return None


def _shapes(single: Records, cases: dict[str, Any]) -> Finding:
    """0 次元、空、4 次元、転置、float32。"""
    for name in ("strided", "scalar", "empty", "image", "float32"):
        record, case = single[name], cases[name]
        shape = f"{case['x'].dtype}、形 {tuple(case['x'].shape)}{'（転置）' if 'strided' in case else ''}"
        error = record.get("error") or record["value"].get("backward_error")
        if error:
            yield "shape-limited", f"{shape} の x で止まりました: {error['type']}: {error['message'][:200]}"
            return
        yield from _form({name: record}, {name: case})
        tolerance = TOLERANCE[record["value"]["dtype"]]
        x = flat((case["x"].mT if "strided" in case else case["x"]).tolist())
        grads = [-case["lambda_"] * v for v in flat(case["weight"].tolist())]
        got = record["value"]["grads"][0]
        if got is None or not near(record["value"]["y"], x, tolerance) or not near(got, grads, tolerance):
            yield (
                "shape-mismatch",
                f"{shape} の x で、値か勾配が違います。形によらず、要素ごとに同じ計算をしてください。",
            )


def _refused(records: Records, refused: dict[str, float]) -> Finding:
    for name, record in records.items():
        if not failed(record) and name == "negative":
            yield (
                "negative-accepted",
                f"λ = {refused[name]:.3g} を受け取りました。負の λ は反転をもう一度反転します。ValueError にしてください。",
            )
        elif not failed(record):
            yield (
                "not-finite-accepted",
                f"λ = {refused[name]} を受け取りました。有限でない λ は、ValueError にしてください。",
            )
        elif record["error"]["type"] != "ValueError":
            kind = record["error"]["type"]
            yield "wrong-exception", f"λ = {refused[name]:.3g} で、ValueError でなく {kind} が起きました。"
