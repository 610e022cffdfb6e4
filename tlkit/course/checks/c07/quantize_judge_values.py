"""演習 07-8 の判定が使う、quantize の返す数の性質。前の性質が成り立つことを、後の性質が使う。

正しい目盛りの幅とゼロ点は、tlkit の実装を使わず、範囲の定義から float64 で求める。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.findings import Finding

Cases = dict[str, dict[str, Any]]
ONE_SIDED = ("positive", "negative", "constant")
NEAR = 1e-3  # float32 の丸めで、w/s は 1 万分の 1 段ほどずれる


def numbers(found: Cases, cases: Cases) -> Finding:
    """破れた性質を順に挙げる。一つの例について、目盛りの幅、ゼロ点、整数の順に調べる。"""
    for name, record in found.items():
        w = cases[name]["w"].detach().double()
        rows = w.reshape(len(w), -1) if cases[name]["per_channel"] else w.reshape(1, -1)
        scale, zero = (torch.tensor(record[part]["value"]).double().reshape(-1, 1) for part in ("scale", "zero_point"))
        q = torch.tensor(record["q"]["value"]).double().reshape(rows.shape)
        yield from _finite(rows, scale)
        yield from _steps(name, rows, scale, symmetric=cases[name]["symmetric"])
        yield from _zero_point(rows, scale, zero, symmetric=cases[name]["symmetric"])
        yield from _nearest(rows, scale, zero, q)


def _finite(rows: Tensor, scale: Tensor) -> Finding:
    bad = ~(scale.isfinite() & (scale > 0)).squeeze(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        kind = "すべて0の" if not bool(rows[row].any()) else "0でない値のある"
        yield (
            "scale-not-positive",
            f"{kind}重み（{_range(rows[row])}）で、scale が {float(scale[row, 0]):.4g} になりました。"
            "scale は正の有限な数にします。範囲の幅が0なら1に替え、0で割らないようにしてください。",
        )


def _steps(name: str, rows: Tensor, scale: Tensor, *, symmetric: bool) -> Finding:
    """範囲の幅が、目盛り何段に当たるか。非対称なら 255 段、対称なら片側 127 段。"""
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    width, want = (torch.maximum(high, -low), 127) if symmetric else (high - low, 255)
    steps = width / scale.squeeze(1)
    off = (width > 0) & ~((steps / want - 1).abs() <= NEAR)
    if not bool(off.any()):
        return
    row = int(off.nonzero()[0])
    shown = f"{_range(rows[row])}の重みで、scale が {float(scale[row, 0]):.5g} になりました。"
    if name.startswith("channel"):
        yield (
            "channel-scale",
            f"per_channel=True で、チャネル {row} の{shown}そのチャネルの値だけから、scale を決めているか確かめてください。",
        )
    elif symmetric:
        yield (
            "symmetric-steps",
            f"symmetric=True で、{shown}0から絶対値の最大までが {float(steps[row]):.4g} 段です。127段になるようにしてください。",
        )
    elif name in ONE_SIDED:
        yield (
            "zero-not-included",
            f"{shown}0から端までが {float(steps[row]):.4g} 段です。範囲に0が入っていないと、0.0を整数で正確に表せません。"
            "最小と0、最大と0を比べて、範囲を0まで広げてから255で割ってください。",
        )
    else:
        yield (
            "steps",
            f"{shown}最小から最大までが {float(steps[row]):.5g} 段です。−128から127までは255段なので、幅を255で割ってください。",
        )


def _zero_point(rows: Tensor, scale: Tensor, zero: Tensor, *, symmetric: bool) -> Finding:
    if symmetric:
        if bool(zero.any()):
            yield (
                "symmetric-zero-point",
                f"symmetric=True なのに、zero_point が {int(zero[zero != 0][0])} です。対称な量子化では、ゼロ点はいつも0です。",
            )
        return
    low = rows.amin(1, keepdim=True).clamp(max=0)
    want = -128 - low / scale
    off = ((rows != 0).any(1, keepdim=True) & ~((zero - want).abs() <= 0.5 + NEAR)).squeeze(1)
    if bool(off.any()):
        row = int(off.nonzero()[0])
        yield (
            "zero-point",
            f"{_range(rows[row])}、scale {float(scale[row, 0]):.4g} の重みで、zero_point が {int(zero[row, 0])} になりました"
            f"（丸める前の正しい値は {float(want[row, 0]):.2f}）。範囲の下の端 min(0, min w) が、−128に移るように決めます。",
        )


def _nearest(rows: Tensor, scale: Tensor, zero: Tensor, q: Tensor) -> Finding:
    """整数は、端で切った w/s + z から、半段より離れない。だから、戻した値の誤差は s/2 以下になる。"""
    want = (rows / scale + zero).clamp(-128, 127)
    gap = (q - want).abs()
    if bool((gap <= 0.5 + NEAR).all()):
        return
    at = tuple(int(i) for i in (gap == gap.max()).nonzero()[0])
    s, z = (float(part.expand_as(q)[at]) for part in (scale, zero))
    shown = (
        f"w = {float(rows[at]):.4g}（scale {s:.4g}、zero_point {int(z)}）が、q = {int(q[at])} になりました。"
        f"w/s + z は {float(rows[at]) / s + z:.2f} です。"
    )
    if float(gap.max()) > 200:
        yield (
            "wrapped",
            shown
            + "int8に入らない値をそのまま変換すると、反対の端へ回り込みます。変換の前に、−128から127に収めてください。",
        )
    elif float(gap.max()) <= 1 + NEAR:
        yield (
            "not-nearest",
            shown
            + "戻したときの誤差が、s/2を超えます。いちばん近い整数に丸めてから、int8に変換してください（変換そのものは、小数を切り捨てます）。",
        )
    else:
        yield "integers-wrong", shown + "round(w/s) + z を求めてから、−128から127に収めているか確かめてください。"


def _range(row: Tensor) -> str:
    return f"最小 {float(row.min()):.4g}、最大 {float(row.max()):.4g}"
