"""演習 08-7 の判定のうち、微分。初めに性質（和が 0 など）を調べ、最後に、PyTorch のバッチ正規化の勾配と比べる。

PyTorch のバッチ正規化は、vmap の外でなら、二階の勾配も正しい（中心差分と合うことを、検査で確かめてある）。
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tlkit.course.checks.c08.normalise_task_slopes import Case, looped_meta, second_slopes
from tlkit.course.checks.findings import Finding

NAMES = ("x", "gamma", "beta")


def reference(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """比べる値。移動統計を渡さない、PyTorch のバッチ正規化。"""
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def _tensor(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _differs(found: Tensor, wanted: Tensor) -> bool:
    return found.shape != wanted.shape or not bool((found - wanted).norm() <= 1e-6 * (1 + wanted.norm()))


def gradient_findings(found: dict[str, Any], case: Case) -> Finding:
    """一つの場合の、一階と二階の勾配。"""
    for name, slope in zip(NAMES, found["first"], strict=True):
        if slope is None:
            yield (
                f"{name}-cut",
                f"出力から {name} へ、勾配が流れません。detach、no_grad、.data、float() や .item() で切れていませんか。",
            )
    yield from _statistics(_tensor(found["first"][0]), case["x"])
    wanted = second_slopes(reference, case)
    for name, slope, right in zip(NAMES, found["first"], wanted["first"], strict=True):
        if _differs(_tensor(slope), right):
            yield "gradient-mismatch", f"値は正しいのに、{name} についての勾配が、中心差分と合いません。"
    for name, slope, right in zip(NAMES, found["second"], wanted["second"], strict=True):
        if slope is None:
            yield (
                "second-order-missing",
                f"一階の勾配は正しいのに、それを {name} でもう一度微分できません。二階のメタ勾配には、勾配の勾配が要ります。",
            )
            return
        if _differs(_tensor(slope), right):
            yield (
                "second-order-mismatch",
                f"一階の勾配は正しいのに、それを {name} でもう一度微分した値が、中心差分と合いません。"
                "平均と分散を、微分できる演算だけで求めてください。",
            )


def _statistics(slope: Tensor, x: Tensor) -> Finding:
    """平均と分散を通る勾配。x をチャネルごとにずらしても広げても、出力がほとんど変わらないことを使う。"""
    axes = [i for i in range(x.ndim) if i != 1]
    centred = x - x.mean(axes, keepdim=True)
    for c, (total, size) in enumerate(zip(slope.sum(axes), slope.abs().sum(axes), strict=True)):
        if not abs(total) <= 1e-6 * (1 + size):
            yield (
                "mean-detached",
                f"チャネル {c} に同じ数を足しても出力は変わらないのに、x の勾配の和が 0 でなく {float(total):.3g} です。"
                "平均を通る勾配が切れています。",
            )
    pull, size = (slope * centred).sum(axes), (slope * centred).abs().sum(axes)
    for c, wide in enumerate(centred.square().mean(axes) > 1e-2):
        if wide and not abs(pull[c]) <= 1e-2 * size[c]:
            yield (
                "variance-detached",
                f"チャネル {c} を平均から何倍に広げても、出力はほとんど変わらないのに、その向きの傾きが {float(pull[c]):.3g} です。"
                "分散を通る勾配が切れています。",
            )


def stacked_findings(found: dict[str, Any], meta: Case) -> Finding:
    """課題の軸をまとめたときの、損失とメタ勾配。"""
    wanted = looped_meta(reference, meta)
    if _differs(_tensor(found["loss"]), wanted["loss"]):
        yield (
            "stacked-value",
            "torch.func.vmap で課題の軸をまとめると、クエリの損失が、一つずつ呼んだときと違います。"
            "統計が、課題をまたいでいませんか。",
        )
    error = float((_tensor(found["slope"]) - wanted["slope"]).norm() / wanted["slope"].norm())
    if not error <= 1e-6:
        yield (
            "stacked-second-order",
            f"torch.func.vmap の中で内側の勾配を求めると、損失は正しいのに、メタ勾配が、一つずつ求めたときと {error:.1%} 違います。"
            "γ を渡した F.batch_norm や nn.BatchNorm の二階の勾配は、vmap の中で誤ります。平均と分散から、自分で計算してください。",
        )
