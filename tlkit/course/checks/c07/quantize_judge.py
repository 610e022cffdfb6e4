"""演習 07-8 の判定。破れた性質から診断を選ぶ。

例外、返り値の種類と形、目盛りの幅とゼロ点と整数（`quantize_judge_values.py`）、整数から戻した値の順に調べる。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.quantize_judge_values import numbers
from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Cases = dict[str, dict[str, Any]]
TENSOR, CHANNEL = "テンソル全体で一つ", "出力チャネルごと"


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    weights, integers = data["weights"], data["integers"]
    found = {name: record["value"] for name, record in weights.items() if not failed(record)}
    return (
        first_raised({"base": weights["base"]})
        or first_raised({name: r for name, r in weights.items() if name.endswith("zeros")}, "重みがすべて0のとき、")
        or first_raised({name: r for name, r in weights.items() if name.startswith("sym")}, "symmetric=True のとき、")
        or first_raised({n: r for n, r in weights.items() if n.startswith("channel")}, "per_channel=True のとき、")
        or first_raised(weights)
        or first(_forms(found, inputs["weights"]))
        or first(numbers(found, inputs["weights"]))
        or first_raised(integers, "dequantize で、")
        or first(_restored_form(integers, inputs["integers"]))
        or first(_restored(integers, inputs["integers"]))
        or PASSED
    )


def _forms(found: Cases, cases: Cases) -> Finding:
    """三つのテンソル、その dtype と形。"""
    for name, record in found.items():
        if record["count"] != 3:
            yield (
                "not-three",
                f"quantize の返り値が {record['type']}（{record['count']} 個）です。整数 q、scale、zero_point の三つを、この順に返してください。",
            )
            continue
        yield from _tensors(record)
        yield from _integers(record, cases[name])
        yield from _scale(record, cases[name])


def _tensors(record: dict[str, Any]) -> Finding:
    for part in ("q", "scale", "zero_point"):
        if not record[part]["tensor"]:
            yield (
                "not-tensor",
                f"{part} が {record[part]['type']} です。torch.Tensor で返してください。"
                "`.item()` や `float()` で数に直すと、チャネルごとの値を入れられません。",
            )
        elif record[part]["tracked"]:
            yield (
                "gradient-kept",
                f"nn.Parameter を渡すと、{part} が勾配を記録しています。保存するための値なので、torch.no_grad() の中で計算してください。",
            )


def _integers(record: dict[str, Any], case: dict[str, Any]) -> Finding:
    q, zero, shape = record["q"], record["zero_point"], list(case["w"].shape)
    if q["dtype"] != "int8":
        yield (
            "not-int8",
            f"q の dtype が {q['dtype']} です。−128 から 127 の整数にしてから、torch.int8 で返してください。1要素が1バイトになります。",
        )
    if q["shape"] != shape:
        yield (
            "shape-changed",
            f"形 {tuple(shape)} の重みを渡すと、q の形が {tuple(q['shape'])} になりました。同じ形にしてください。",
        )
    if zero["dtype"] != "int8":
        yield (
            "zero-point-dtype",
            f"zero_point の dtype が {zero['dtype']} です。0.0に当たる整数 q の値なので、q と同じ torch.int8 にしてください。",
        )


def _scale(record: dict[str, Any], case: dict[str, Any]) -> Finding:
    w, scale, zero = case["w"], record["scale"], record["zero_point"]
    dtype = str(w.dtype).removeprefix("torch.")
    if scale["dtype"] != dtype:
        yield (
            "scale-dtype",
            f"重みが {dtype} なのに、scale が {scale['dtype']} です。scale の dtype は重みにそろえてください。",
        )
    want = [len(w)] + [1] * (w.ndim - 1) if case["per_channel"] else []
    for name, part in (("scale", scale), ("zero_point", zero)):
        if part["shape"] == want:
            continue
        count = torch.Size(part["shape"]).numel()
        got = f"形 {tuple(w.shape)} の重みで、{name} の形が {tuple(part['shape'])} になりました。"
        if not case["per_channel"]:
            yield "tensor-shape", got + f"per_channel=False なら{TENSOR}なので、0次元のテンソルにします。"
        elif count == 1:
            yield (
                "channel-shared",
                got + f"per_channel=True なら{CHANNEL}（0番目の次元）に求め、{tuple(want)} にします。",
            )
        else:
            yield (
                "channel-shape",
                got + f"出力チャネルは0番目の次元です。重みと掛け算できるよう、{tuple(want)} にしてください。",
            )


def _restored_form(records: Records, cases: Cases) -> Finding:
    """戻した値の種類、形、dtype。"""
    for name, record in records.items():
        shape, dtype = list(cases[name]["q"].shape), str(cases[name]["scale"].dtype).removeprefix("torch.")
        if record["kind"] != "tensor":
            yield "restored-not-tensor", f"dequantize の返り値が {record['type']} です。torch.Tensor を返してください。"
        elif record["shape"] != shape:
            yield (
                "restored-shape",
                f"形 {tuple(shape)} の整数を渡すと、dequantize が形 {tuple(record['shape'])} を返しました。同じ形にしてください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "restored-dtype",
                f"scale が {dtype} のとき、dequantize が {record['dtype']} を返しました。戻した値の dtype は scale にそろえてください。",
            )


def _restored(records: Records, cases: Cases) -> Finding:
    """戻した値。ゼロ点、桁あふれ、それ以外の順に調べる。"""
    for name, record in records.items():
        case = cases[name]
        q, zero = case["q"].double(), case["zero_point"].double()
        got, step = torch.tensor(record["value"]).double(), case["scale"].double()
        at_zero = got[(q == zero).expand_as(got)]
        if not bool((at_zero.abs() <= 1e-6 * step.max()).all()):
            yield (
                "zero-lost",
                f"q が zero_point と同じ所で、0になるはずの値が {float(at_zero.abs().max()):.4g} になりました。"
                "整数から、先に zero_point を引いてください。",
            )
        wrong = ~((got - (q - zero) * step).abs() <= 1e-5 * (q - zero).abs() * step + 1e-12)
        if bool(wrong.any()):
            yield _restored_finding(wrong, got, q, zero, step)


def _restored_finding(wrong: Tensor, got: Tensor, q: Tensor, zero: Tensor, step: Tensor) -> tuple[str, str]:
    zero, step = zero.expand_as(q), step.expand_as(q)
    beyond = (q - zero < -128) | (q - zero > 127)
    at = tuple(int(i) for i in wrong.nonzero()[0])
    shown = (
        f"q = {int(q[at])}、zero_point = {int(zero[at])}、scale = {float(step[at]):.4g} で、"
        f"{float((q - zero)[at] * step[at]):.4g} になるはずの値が {float(got[at]):.4g} になりました。"
    )
    if bool(beyond.any()) and bool((wrong == beyond).all()):
        return (
            "int8-overflow",
            shown + "q − zero_point が−128から127の外に出る所だけ違います。int8のまま引くと桁があふれます。"
            "先に浮動小数点数へ直してください。",
        )
    return "restored-wrong", shown + "(q − zero_point)·scale の順に計算しているか確かめてください。"
