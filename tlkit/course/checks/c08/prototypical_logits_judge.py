"""演習 08-5 の判定。返り値の形、一つの場面の性質、場面どうしの関係、例外、勾配の順に調べる。

一つの場面の性質は `prototypical_logits_points.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.prototypical_logits_points import (
    centres,
    distance_findings,
    logits,
    point_findings,
    weights,
)
from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

Scene = dict[str, Tensor]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    values, scenes = data["values"], inputs["scenes"]
    plain = {name: record for name, record in values.items() if name not in ("narrow", "float32")}
    return (
        first_raised(plain)
        or first_raised({"narrow": values["narrow"]}, "D = 1、クエリ1件のとき、")
        or first_raised(values, "float32 のとき、")
        or first(_form(values, scenes))
        or first(_values({name: _tensor(record["value"]) for name, record in values.items()}, scenes))
        or first(_refusals(data["gap"], inputs["gap"]))
        or first_raised(data["gradients"], "勾配を求めるとき、")
        or first(_gradients(data["gradients"], inputs["gradients"]))
        or PASSED
    )


def _tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _form(records: Records, scenes: dict[str, Scene]) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        scene = scenes[name]
        shape = [len(scene["query"]), int(scene["support_y"].max()) + 1]
        if record["kind"] != "tensor":
            yield "not-tensor", f"返り値が {record['type']} です。形 (Q, N) の torch.Tensor を返してください。"
        elif record["shape"] != shape:
            tail = "行と列が逆です。" if record["shape"] == shape[::-1] else ""
            yield (
                "shape",
                f"Q = {shape[0]}、N = {shape[1]}、D = {scene['query'].shape[1]}、サポート {len(scene['support'])} 枚で、"
                f"返り値の形が {tuple(record['shape'])} です。{tail}(Q, N) にしてください。",
            )
    for name, record in records.items():
        dtype = str(scenes[name]["support"].dtype).removeprefix("torch.")
        if record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} の埋め込みに、{record['dtype']} が返りました。入力の dtype を保ってください。",
            )


def _values(values: dict[str, Tensor], scenes: dict[str, Scene]) -> Finding:
    """1 枚ずつの場面で距離を、ほかの場面でプロトタイプを調べる。"""
    for name, found in values.items():
        if not bool(found.isfinite().all()):
            yield "not-finite", f"サポートが {len(scenes[name]['support'])} 枚の場面で、NaNか無限大が返りました。"
    if _far(values["other-queries"][0], values["base"][0], 1e-9):
        yield (
            "queries-mixed",
            "1件めのクエリのロジットが、ほかのクエリを替えると変わりました。クエリは1件ずつ、サポートだけを手がかりに分類します。",
        )
    yield from distance_findings(values["single"], scenes["single"])
    for name in ("ordered", "equal", "base"):
        yield from point_findings(values[name], scenes[name], name)
    if _far(values["sorted"], values["base"], 1e-9):
        yield "order-dependent", "サポートの行を並べ替えると、ロジットが変わりました。ラベルで行を選んでください。"
    for name, tolerance in (("narrow", 1e-9), ("sorted", 1e-9), ("float32", 1e-4)):
        scene, want = scenes[name], logits(scenes[name])
        if _far(values[name], want, tolerance):
            yield (
                "value-mismatch",
                f"D = {scene['query'].shape[1]}、{scene['query'].dtype} の場面で、ロジットが定義から最大 "
                f"{float((values[name] - want).abs().max()):.3g} 違います。平均、差、二乗、和を、一つずつ表示して確かめてください。",
            )


def _far(found: Tensor, want: Tensor, tolerance: float) -> bool:
    return not float((found - want).abs().max()) <= tolerance * (1 + float(want.abs().max()))


def _refusals(refusals: list[dict[str, str]], scenes: list[Scene]) -> Finding:
    """サポートのないクラスがあるときの例外。"""
    for refusal, scene in zip(refusals, scenes, strict=True):
        seen = f"support_y が {scene['support_y'].tolist()} で、サポートのないクラスがあるのに"
        if not refusal["type"]:
            yield (
                "empty-accepted",
                f"{seen}、例外が起きません。空の平均はNaNになります。番号を詰めると、列とクラスの対応がずれます。ValueError を起こしてください。",
            )
        elif refusal["type"] != "ValueError":
            yield "empty-type", f"{seen}、ValueError でなく {refusal['type']} が起きました。先に確かめてください。"
        elif not any("ぁ" <= letter <= "ヿ" or "一" <= letter <= "鿿" for letter in refusal["message"]):
            yield (
                "error-language",
                f"ValueError の文「{refusal['message'][:60]}」を、どのクラスが足りないか分かる日本語にしてください。",
            )


def _gradients(records: Records, scenes: dict[str, Scene]) -> Finding:
    """つながり、有限さ、値の順。"""
    for record in records.values():
        for name, found in zip(("support", "query"), record["grads"], strict=True):
            if found is None:
                yield (
                    f"{name}-cut",
                    f"値は正しいのですが、{name} に勾配が流れません。埋め込みのネットワークは、サポートとクエリの両方から学びます。"
                    "detach、.data、no_grad を使わないでください。",
                )
    for name, record in records.items():
        for side, found, want in zip(("support", "query"), record["grads"], _reference(scenes[name]), strict=True):
            grad = _tensor(found)
            if not bool(grad.isfinite().all()):
                yield (
                    "gradient-not-finite",
                    f"クエリがプロトタイプと同じ点のとき、{side} の勾配にNaNか無限大があります。0での平方根の微分は無限大です。"
                    "距離を二乗し直すのでなく、平方根を取らずに二乗和を求めてください。",
                )
            if _far(grad, want, 1e-8):
                yield (
                    "gradient-mismatch",
                    f"値は正しいのですが、{side} の勾配の要素が最大 {float((grad - want).abs().max()):.3g} 違います。"
                    "計算の途中で、つながりが一部だけ切れていないか確かめてください。",
                )


def _reference(scene: Scene) -> tuple[Tensor, Tensor]:
    """重み W を掛けて足した値の、サポートとクエリについての勾配。手で微分した式。"""
    labels, points = scene["support_y"], centres(scene)
    weight = weights(scene["query"], labels)
    pulls = 2 * weight[:, :, None] * (scene["query"][:, None] - points)
    counts = labels.bincount()[:, None]
    return (pulls.sum(0) / counts)[labels], -pulls.sum(1)
