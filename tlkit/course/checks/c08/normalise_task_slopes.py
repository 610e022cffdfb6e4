"""演習 08-7 の、微分の仕方。正規化の関数を受け取り、正解を知らない。答えと、判定の比べる値とで、同じものを使う。"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Case = dict[str, Any]
Normalise = Callable[..., Tensor]


def second_slopes(normalise: Normalise, case: Case) -> dict[str, Any]:
    """重みつきの tanh の和を、x、γ、β で微分したものと、それと向きとの内積を、もう一度微分したもの。"""
    leaves = [case[name].clone().requires_grad_() for name in ("x", "gamma", "beta")]
    y = normalise(*leaves, eps=case["eps"])
    found: dict[str, Any] = {"value": y.detach(), "first": [None] * 3, "second": [None] * 3}
    if not y.requires_grad:
        return found
    first = torch.autograd.grad((case["w"] * y.tanh()).sum(), leaves, create_graph=True, allow_unused=True)
    found["first"] = [None if slope is None else slope.detach() for slope in first]
    parts = [(slope * way).sum() for slope, way in zip(first, case["way"], strict=True) if slope is not None]
    total = torch.stack(parts).sum()
    if total.requires_grad:
        second = torch.autograd.grad(total, leaves, allow_unused=True)
        found["second"] = [None if slope is None else slope.detach() for slope in second]
    return found


def _loss(normalise: Normalise, params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    hidden = normalise(x @ params["first"], params["gamma"], params["beta"]).tanh()
    return (hidden @ params["last"] - y).square().mean()


def stacked_meta(normalise: Normalise, meta: Case) -> dict[str, Any]:
    """1 回の更新の MAML の損失とメタ勾配。内側の勾配を、課題の軸の vmap の中で求める。"""
    params = {name: value.clone().requires_grad_() for name, value in meta["params"].items()}

    def task(params: dict[str, Tensor], sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        slopes = torch.func.grad(lambda values: _loss(normalise, values, sx, sy))(params)
        return _loss(normalise, {k: v - meta["lr"] * slopes[k] for k, v in params.items()}, qx, qy)

    losses = torch.func.vmap(task, (None, 0, 0, 0, 0))(params, *meta["sets"])
    return _outer(losses.mean(), params)


def looped_meta(normalise: Normalise, meta: Case) -> dict[str, Any]:
    """同じものを、課題を一つずつ、torch.autograd で求める。"""
    params = {name: value.clone().requires_grad_() for name, value in meta["params"].items()}
    losses = []
    for sx, sy, qx, qy in zip(*meta["sets"], strict=True):
        slopes = torch.autograd.grad(_loss(normalise, params, sx, sy), list(params.values()), create_graph=True)
        moved = {k: v - meta["lr"] * slope for (k, v), slope in zip(params.items(), slopes, strict=True)}
        losses.append(_loss(normalise, moved, qx, qy))
    return _outer(torch.stack(losses).mean(), params)


def _outer(loss: Tensor, params: dict[str, Tensor]) -> dict[str, Any]:
    if not loss.requires_grad:
        return {"loss": loss.detach(), "slope": torch.zeros(0)}
    slopes = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    return {"loss": loss.detach(), "slope": torch.cat([slope.flatten() for slope in slopes])}
