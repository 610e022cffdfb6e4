"""演習 07-1 の判定。破れた性質から診断を選ぶ。

手計算の答え、返り値の形、確率としての性質、温度の効き方、極端な場合、勾配、断るべき温度の順に調べる。
場合の作り方は `soft_targets.py` にある。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.soft_targets_judge_temperature import expected, extremes, temperatures
from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

TEMPERATURES = (0.5, 1.0, 2.0, 4, 20.0)
HOT, COLD = 1e6, 0.05
HAND = (27.0, 8.0, 1.0)  # 手計算の例の、ロジットの exp。温度 3 で、重みは 3 乗根の 3、2、1
EXTREMES = ("large", "spread", "sharp")
Values = dict[str, Tensor]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    records, cases = data["values"], inputs["cases"]
    if verdict := first(_by_hand(data["by_hand"])) or _rejected(records, cases) or first_raised(records):
        return verdict
    if verdict := first(_form(records, cases)):
        return verdict
    values = {name: torch.tensor(record["value"], dtype=torch.float64) for name, record in records.items()}
    return (
        first(_probabilities(values))
        or first(_rows(values, cases))
        or first(temperatures(values, cases))
        or first(extremes({name: values[name] for name in EXTREMES}, cases))
        or first(_all_values(values, cases))
        or first_raised(data["gradients"], "勾配を求めるとき、")
        or first(_gradients(data["gradients"], inputs["gradients"]))
        or first(_refused(data["refused"], inputs["refused"]))
        or PASSED
    )


def _by_hand(numbers: list[float] | None) -> Finding:
    """手計算の三つの数。"""
    if numbers is None or len(numbers) != len(HAND):
        yield "hand-form", "by_hand には、三つの確率を、数のリストとして書いてください（例: [0.7, 0.2, 0.1]）。"
        return
    total = sum(numbers)
    if not abs(total - 1) < 5e-3:
        yield (
            "hand-sum",
            f"by_hand の三つの数の和が {total:.4g} です。確率の和は1になります。expを取った三つの数を、その和で割ってください。",
        )
    weights = [value ** (1 / 3) for value in HAND]
    if not all(abs(p - w / sum(weights)) < 2e-3 for p, w in zip(numbers, weights, strict=True)):
        ratio = numbers[0] / numbers[2] if numbers[2] else math.inf
        yield (
            "hand-ratio",
            f"by_hand の和は1ですが、確率の比が違います（1番目と3番目の比が {ratio:.4g}）。確率の比は、ロジットの差を温度で割ってexpを取ったものです。"
            "温度で割るのは、expを取る前のロジットです。",
        )


def _rejected(records: Records, cases: dict[str, Any]) -> Verdict | None:
    for name, record in records.items():
        if failed(record) and record["error"]["type"] == "ValueError":
            t = cases[name]["temperature"]
            message = f"temperature = {t:g} で ValueError が起きました（{record['error']['message']}）。正の数なら、1より小さくても受け取ってください。"
            return wrong("rejects-valid", message, record["error"]["index"])
    return None


def _form(records: Records, cases: dict[str, Any]) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        logits = cases[name]["logits"]
        dtype = str(logits.dtype).removeprefix("torch.")
        if record["kind"] != "tensor":
            yield "not-tensor", f"返り値が {record['type']} です。logits と同じ形の torch.Tensor を返してください。"
        elif record["shape"] != list(logits.shape):
            yield (
                "wrong-shape",
                f"logits の形が {tuple(logits.shape)} のとき、返り値の形が {tuple(record['shape'])} です。同じ形にしてください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} の logits を渡すと、{record['dtype']} が返りました。dtype は入力にそろえてください。",
            )


def _probabilities(values: Values) -> Finding:
    """ふつうの大きさのロジットで、確率になっているか。"""
    usual = {f"base/{t:g}": values[f"base/{t:g}"] for t in TEMPERATURES}
    for name, p in usual.items():
        t = name.removeprefix("base/")
        if not bool(p.isfinite().all()):
            yield (
                "not-finite",
                f"T = {t} で、確率に NaN か無限大があります。0での割り算や、負の数の対数がないか確かめてください。",
            )
        elif float(p.min()) < 0:
            yield (
                "negative",
                f"T = {t} で、確率が負（{float(p.min()):.4g}）になりました。ロジットをそのまま割ったり、対数の確率を返したりしていませんか。",
            )
        elif not _ones(p.sum(1)):
            yield from _sums(p, t)


def _sums(p: Tensor, t: str) -> Finding:
    if _ones(p.sum(0)):
        yield (
            "wrong-axis",
            "行の和が1でなく、列の和が1になっています。1行が1枚の画像で、列がクラスです。クラスの方向（dim=1）で正規化してください。",
        )
    sums = "、".join(f"{float(total):.4g}" for total in p.sum(1)[:3])
    yield (
        "row-sum",
        f"T = {t} で、行ごとの確率の和が {sums}、… です。どの行も1になるはずです。"
        "確率を T で割ったり、累乗したりした後に、和で割り直していますか。割る和は、行ごとのものですか。",
    )


def _rows(values: Values, cases: dict[str, Any]) -> Finding:
    """順位と、行どうしの独立。"""
    p, logits = values["base/1"], cases["base/1"]["logits"]
    if not bool((p.gather(1, logits.argsort(1)).diff(dim=1) > 0).all()):
        yield (
            "order-changed",
            "確率の大小の順が、ロジットの大小の順と同じになりません。ロジットの大きいクラスほど、確率も大きくなります。符号や、絶対値を確かめてください。",
        )
    alone, together = values["single"][0], values["base/2"][0]
    if not (_near(values["others"][0], together) and _near(alone, together)):
        yield (
            "row-dependent",
            "同じロジットの行なのに、一緒に渡したほかの行によって、確率が変わりました。1枚の画像の確率は、その画像のロジットだけで決まります。",
        )


def _all_values(values: Values, cases: dict[str, Any]) -> Finding:
    for name, p in values.items():
        logits, t = cases[name]["logits"], cases[name]["temperature"]
        want = expected(logits, t)
        gap = (p - want).abs().max(1).values
        row = int(gap.argmax())
        if not float(gap[row]) < (1e-3 if name in EXTREMES else 1e-5):
            shown = "、".join(f"{float(z):.3g}" for z in logits[row])
            yield (
                "value-mismatch",
                f"ロジット（{shown}）、T = {t:g} で、確率が最大 {float(gap[row]):.3g} 違います。",
            )


def _gradients(records: Records, cases: dict[str, Any]) -> Finding:
    """Σ w_c p_c の勾配は p_c (w_c − Σ_k p_k w_k) / T。"""
    for name, record in records.items():
        if not record.get("tracked") or record["grads"][0] is None:
            yield (
                "gradient-cut",
                "値は正しいのですが、logits に勾配が流れません。`detach`、`.data`、`.numpy()`、`torch.tensor(...)` を挟んでいないか確かめてください。",
            )
            return
        logits, t, w = (cases[name][key] for key in ("logits", "temperature", "weights"))
        p, got = expected(logits, t), torch.tensor(record["grads"][0], dtype=torch.float64)
        want = p * (w - (p * w).sum(1, keepdim=True)) / t
        gap = float((got - want).abs().max())
        if not math.isfinite(gap):
            yield (
                "gradient-not-finite",
                "値は有限ですが、大きなロジットで、勾配に NaN か無限大があります。あふれた値を後から直しても、勾配は直りません。",
            )
        elif gap > (1e-5 if logits.dtype == torch.float64 else 1e-3):  # float32 の ±1000 は、6e-5 刻み
            yield (
                "gradient-wrong",
                f"値は正しいのですが、T = {t:g} で、勾配の要素が最大 {gap:.3g} 違います。"
                "expを取る前と、割る和の、両方に勾配が流れていますか。",
            )


def _refused(records: Records, refused: dict[str, float]) -> Finding:
    for name, record in records.items():
        if not failed(record) and name == "nan":
            yield "nan-accepted", "temperature が NaN でも、値が返りました。NaN は、どの大小の比較でも偽になります。"
        elif not failed(record):
            yield (
                "nonpositive-accepted",
                f"temperature = {refused[name]:g} を受け取りました。0では割れず、負なら順位が逆になります。ValueError にしてください。",
            )
        elif record["error"]["type"] != "ValueError":
            kind = record["error"]["type"]
            yield "wrong-exception", f"temperature = {refused[name]:g} で、ValueError でなく {kind} が起きました。"


def _ones(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() < 1e-5).all())


def _near(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() < 1e-5).all())
