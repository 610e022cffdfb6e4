"""演習 03-3 の判定が使う、勾配の性質。値が正しいことを前提に、勾配だけの誤りを見分ける。"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03 import mmd_loss_judge_reference as reference
from tlkit.course.checks.findings import Finding, Records

Case = dict[str, Tensor]


def gradient_properties(records: Records, cases: dict[str, Case]) -> Finding:
    """破れた性質を順に挙げる。"""
    yield from _reaches(records)
    grads = {name: [torch.tensor(grad).double() for grad in record["grads"]] for name, record in records.items()}
    yield from _finite(grads)
    wanted = {name: reference.gradients(case["x"], case["y"]) for name, case in cases.items()}
    for name, pair in grads.items():
        if not _same(pair, wanted[name]):
            yield from _wrong(pair, wanted[name], cases[name])


def _reaches(records: Records) -> Finding:
    for record in records.values():
        if not record["tracked"] or all(grad is None for grad in record["grads"]):
            yield (
                "gradient-cut",
                "値は正しいのですが、x と y に勾配が流れません。損失の全体を `detach` や `no_grad` で切っていないか確かめてください。"
                "勾配を止めるのは、帯域幅だけです。",
            )
        for argument, grad in zip("xy", record["grads"], strict=True):
            if grad is None:
                yield (
                    "gradient-partial",
                    f"{argument} に勾配が流れません。二つのドメインの特徴は同じネットワークから出るので、両方に流します。",
                )


def _finite(grads: dict[str, Any]) -> Finding:
    for name, pair in grads.items():
        if not all(math.isfinite(float(grad.abs().sum())) for grad in pair):
            place = "すべての点が同じ場所にある例" if name == "collapsed" else "N + M 点の中に同じ点のある例"
            yield (
                "gradient-not-finite",
                f"{place}で、勾配に NaN か無限大があります。距離0での平方根の微分は無限大です。"
                "自分自身との距離はいつも0なので、距離の二乗を、平方根を通さずに求めてください。",
            )


def _wrong(pair: list[Tensor], wanted: tuple[Tensor, Tensor], case: Case) -> Finding:
    (n, d), m = case["x"].shape, len(case["y"])
    size = sum(float(grad.norm()) for grad in wanted)
    stretch = sum(float((case[key].double() * grad).sum()) for key, grad in zip("xy", pair, strict=True))
    right = sum(float((case[key].double() * grad).sum()) for key, grad in zip("xy", wanted, strict=True))
    if abs(stretch) < 1e-6 < abs(right):
        yield (
            "median-not-detached",
            "値は正しいのですが、勾配が帯域幅にも流れています（x と y を同じ割合で広げる向きの勾配が、ちょうど0です）。"
            "中央値は、`detach()` や `torch.no_grad()` で勾配を止めて求めてください。",
        )
    if float((pair[0].sum(0) + pair[1].sum(0)).norm()) > 1e-3 * size:
        yield (
            "gradient-unbalanced",
            "値は正しいのですが、x と y の勾配を全部足しても0になりません。両方を同じだけ動かしても値は変わらないので、和は0のはずです。"
            "x と y の組の項の、片側だけが切れていないか確かめてください。",
        )
    far = max(float((grad - want).abs().max()) for grad, want in zip(pair, wanted, strict=True))
    yield (
        "gradient-wrong",
        f"値は正しいのですが、N = {n}、M = {m}、D = {d} の例で、勾配の要素が最大 {far:.3g} 違います（正しい勾配のノルムの和は {size:.3g}）。"
        "三つの項のどれかが `detach` や `.data` で切れていないか確かめてください。",
    )


def _same(pair: list[Tensor], wanted: tuple[Tensor, Tensor]) -> bool:
    scale = 1e-3 * max(float(want.abs().max()) for want in wanted) + 1e-9
    return all(bool(((grad - want).abs() <= scale).all()) for grad, want in zip(pair, wanted, strict=True))
