"""演習 08-7 の判定。形、平均、広がり、ε、γ と β、安定さ、状態、微分の順に調べる。前の性質が成り立つことを、後の性質が使う。

微分の判定は `normalise_task_gradients.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.normalise_task_gradients import gradient_findings, stacked_findings
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

Cases = dict[str, dict[str, Any]]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    return (
        first_raised(data["values"])
        or first_raised({"again": data["again"]})
        or first(_form(data["values"], inputs["cases"]))
        or first(_values(data, inputs))
        or first_raised(data["slopes"], "勾配の勾配を求めるとき、")
        or first(_gradients(data["slopes"], inputs))
        or first_raised({"stacked": data["stacked"]}, "torch.func.vmap で課題の軸をまとめたとき、")
        or first(stacked_findings(data["stacked"]["value"], inputs["meta"]))
        or PASSED
    )


def _form(values: Cases, cases: Cases) -> Finding:
    for name, record in values.items():
        x = cases[name]["x"]
        dtype = str(x.dtype).removeprefix("torch.")
        if record["kind"] != "tensor":
            yield "not-tensor", f"返り値が {record['type']} です。torch.Tensor を一つだけ返してください。"
        if record["shape"] != list(x.shape):
            yield (
                "shape",
                f"x の形が {tuple(x.shape)} なのに、返り値の形が {tuple(record['shape'])} です。同じ形にしてください。",
            )
        if record["dtype"] != dtype:
            yield "dtype-changed", f"x が {dtype} なのに、返り値が {record['dtype']} です。x と同じ型で返してください。"


def _channels(x: Tensor) -> Tensor:
    """(M, C, …) → (C, M, 画素)。"""
    return x.double().flatten(2).movedim(1, 0) if x.ndim > 2 else x.double().T[:, :, None]


def _values(data: Any, inputs: dict[str, Any]) -> Finding:
    cases = inputs["cases"]
    if data["again"]["value"] != data["values"]["rows"]["value"]:
        yield (
            "state",
            "同じ x、gamma、beta で、間に別の集合を挟んでもう一度呼ぶと、違う値が返りました。"
            "前に渡された集合の統計（移動統計など）を、覚えて使わないでください。",
        )
    found = {
        name: _channels(torch.tensor(record["value"], dtype=torch.float64)) for name, record in data["values"].items()
    }
    for name, z in found.items():
        if not z.isfinite().all():
            yield (
                "not-finite",
                f"{_kind(name)}で、返り値に nan か inf があります。0 で割っていませんか。ε は根号の中で足します。",
            )
    for name in ("rows", "images", "small"):
        yield from _centre(found[name], _kind(name))
    for name in ("rows", "images"):
        yield from _scale(found[name], _channels(cases[name]["x"]), _kind(name))
    yield from _eps(found, cases)
    for name in ("rows", "images"):
        yield from _affine(found[f"{name}/affine"], found[name], cases[f"{name}/affine"], _kind(name))
    yield from _stable(found, cases)


def _kind(name: str) -> str:
    words = {
        "images": "(M, C, H, W) の x",
        "constant": "値がすべて同じチャネル",
        "offset": "平均が 1000 の float32 の x",
    }
    return words.get(name.partition("/")[0], "(M, C) の x")


def _zero(means: Tensor) -> bool:
    return bool((means.abs() < 1e-6).all())


def _centre(z: Tensor, kind: str) -> Finding:
    """γ = 1、β = 0 での平均。z は (C, M, 画素)。"""
    if not _zero(z.mean((1, 2))):
        c = int(z.mean((1, 2)).abs().argmax())
        seen = f"{kind}で、γ = 1、β = 0 のとき、チャネル {c} の平均が {float(z[c].mean()):.3g} です（0 のはずです）。"
        if _zero(z.mean((0, 2))):
            yield (
                "per-row",
                seen
                + "x[0]、x[1]、… の一つずつの中で平均すると 0 です。集合の全体で、チャネルごとに平均してください。",
            )
        if _zero(z.mean()):
            yield "channels-pooled", seen + "全部の平均だけが 0 です。平均は、チャネルごとに求めてください。"
        yield "not-centred", seen + "チャネルごとに、集合の平均を引いてください。"
    if z.shape[2] > 1 and _zero(z.mean(2)):
        yield "per-image", f"{kind}で、1枚ずつの平均が 0 です。H と W だけでなく、集合の軸でも平均してください。"
    if z.shape[2] > 1 and _zero(z.mean(1)):
        yield "per-pixel", f"{kind}で、画素ごとの平均が 0 です。集合の軸だけでなく、H と W でも平均してください。"


def _ratio(z: Tensor, x: Tensor, eps: float) -> Tensor:
    """チャネルごとの、式どおりの広がりに対する、返り値の広がり。"""
    var = x.var((1, 2), correction=0)
    return z.square().mean((1, 2)).sqrt() / (var / (var + eps)).sqrt()


def _off(ratio: Tensor, tolerance: float = 1e-6) -> bool:
    return bool(((ratio - 1).abs() > tolerance).any())


def _scale(z: Tensor, x: Tensor, kind: str) -> Finding:
    ratio, count = _ratio(z, x, 1e-5), x[0].numel()
    worst = int((ratio - 1).abs().argmax())
    if not _off(ratio * (count / (count - 1)) ** 0.5, 1e-4):
        yield (
            "unbiased-variance",
            f"{kind}で、広がりが √({count - 1}/{count}) 倍です。不偏分散（n − 1 で割る）でなく、n で割る分散を使ってください。",
        )
    if _off(ratio, 1e-3):
        yield (
            "scale",
            f"{kind}で、γ = 1、β = 0 のとき、チャネル {worst} の標準偏差が {float(ratio[worst]):.3g} です（1 のはずです）。"
            "チャネルごとに、標準偏差（分散でなく、その平方根）で割ってください。",
        )
    centred = x - x.mean((1, 2), keepdim=True)
    wanted = centred / (centred.square().mean((1, 2), keepdim=True) + 1e-5).sqrt()
    if (z - wanted).abs().max() > 1e-2:
        yield "not-linear", f"{kind}で、平均と標準偏差は合うのに、値の並びが x と違います。1次式で移してください。"


def _eps(found: dict[str, Tensor], cases: Cases) -> Finding:
    if torch.allclose(found["eps"], found["rows"], rtol=0, atol=1e-4):
        yield "eps-ignored", "eps を 1e-5 から 0.5 に変えても、返り値が変わりません。渡された eps を使ってください。"
    for name in ("eps", "rows", "images"):
        case = cases[name]
        if _off(_ratio(found[name], _channels(case["x"]), case["eps"])):
            yield (
                "eps-place",
                f"eps = {case['eps']} のとき、広がりが式と違います。割る数は √(σ² + ε) です。ε は、根号の中で、分散に足します。",
            )
    if _off(_ratio(found["small"], _channels(cases["small"]["x"]), 1e-5)):
        yield "eps-default", "eps を渡さないとき、広がりが ε = 1e-5 の式と違います。既定値を 1e-5 にしてください。"


def _affine(y: Tensor, z: Tensor, case: dict[str, Any], kind: str) -> Finding:
    gamma, beta = (case[name][:, None, None] for name in ("gamma", "beta"))
    if _zero(y - gamma * z - beta):
        return
    if _zero(y - z - beta):
        yield "gamma-ignored", f"{kind}で、gamma を変えても、返り値が変わりません。正規化した値に掛けてください。"
    if _zero(y - gamma * z):
        yield "beta-ignored", f"{kind}で、beta を変えても、返り値が変わりません。γ を掛けたあとに足してください。"
    yield (
        "affine",
        f"{kind}で、γ と β が 1 と 0 でないとき、返り値が γ_c × 正規化した値 + β_c になりません。"
        "γ と β は、チャネルの軸（1）に沿って並べ、掛けてから足してください。",
    )


def _stable(found: dict[str, Tensor], cases: Cases) -> Finding:
    if (found["constant"][2] - cases["constant"]["beta"][2]).abs().max() > 1e-6:
        yield "constant", "値がすべて同じチャネルで、返り値が β になりません。"
    x = _channels(cases["offset"]["x"])
    if _off(_ratio(found["offset"], x, 1e-5), 1e-2) or found["offset"].mean((1, 2)).abs().max() > 1e-2:
        yield (
            "unstable",
            "平均が 1000、標準偏差が 1 の float32 の x で、返り値の標準偏差や平均が、1 と 0 から 1% を超えてずれます。"
            "分散を「2乗の平均 − 平均の2乗」で求めると、桁が落ちます。平均を引いてから、2乗してください。",
        )


def _gradients(slopes: Cases, inputs: dict[str, Any]) -> Finding:
    values = {name: record["value"] for name, record in slopes.items()}
    for name, found in values.items():
        case, y = inputs["slopes"][name], torch.tensor(found["value"], dtype=torch.float64)
        axes = [i for i in range(y.ndim) if i != 1]
        if (y.mean(axes) - case["beta"]).abs().max() > 1e-6:
            yield (
                "grad-mode",
                "x の勾配を求めるときだけ、返り値が変わりました（チャネルの平均が β になりません）。"
                "勾配を記録しているかどうかによらず、渡された集合の統計を使ってください。",
            )
        yield from gradient_findings(found, case)
