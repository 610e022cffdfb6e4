"""演習 08-3 の判定が比べる値。モデルの計算を書き下し、重みを少しずつ動かした組を、まとめて計算する。

重みの先頭の軸は、組の番号 P である。組ごとの損失は互いに関係しないので、和を微分すれば、組ごとの勾配になる。
"""

import torch
from torch import Tensor

from tlkit.course.checks.c08.maml_loss_model import Scene

Weights = dict[str, Tensor]
STEP = 1e-5  # 中心差分の刻み


def start(scene: Scene) -> Weights:
    """初めの重みを、1 組だけ。"""
    return {name: value[None] for name, value in scene["weights"].items()}


def adapted(weights: Weights, scene: Scene) -> Weights:
    """サポートの損失を steps 回下った重み。"""
    current = weights
    for _ in range(scene["steps"]):
        current = {
            name: current[name] - scene["lr"] * slope for name, slope in support_gradient(current, scene).items()
        }
    return current


def support_gradient(weights: Weights, scene: Scene) -> Weights:
    """サポートの損失の勾配。"""
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    with torch.enable_grad():
        total = cross_entropy(leaves, scene, "support").sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def query_loss(scene: Scene) -> float:
    """正しい返り値。"""
    return cross_entropy(adapted(start(scene), scene), scene, "query").item()


def meta_gradient(scene: Scene) -> Tensor:
    """返り値の、初めの重みについての勾配を、一列に並べたもの。中心差分で求める。

    一次近似なら、クエリの損失の、適応した重みでの勾配である。
    """
    if scene["first_order"]:
        return first_order_gradient(scene)
    moved = adapted(_moves(start(scene)), scene)
    return _differences(cross_entropy(moved, scene, "query"))


def first_order_gradient(scene: Scene) -> Tensor:
    """クエリの損失の、適応した重みでの勾配。"""
    return _differences(cross_entropy(_moves(adapted(start(scene), scene)), scene, "query"))


def _moves(weights: Weights) -> Weights:
    """重みの要素を一つずつ +STEP したものと、−STEP したものを並べる。"""
    flat = torch.cat([value.detach().flatten() for value in weights.values()])
    moves = STEP * torch.eye(len(flat), dtype=flat.dtype)
    columns = torch.split(torch.cat([flat + moves, flat - moves]), [value.numel() for value in weights.values()], dim=1)
    return {name: part.reshape(-1, *weights[name].shape[1:]) for name, part in zip(weights, columns, strict=True)}


def _differences(losses: Tensor) -> Tensor:
    up, down = losses.detach().chunk(2)
    return (up - down) / (2 * STEP)


def cross_entropy(weights: Weights, scene: Scene, side: str) -> Tensor:
    """組ごとの交差エントロピー (P,)。"""
    x, y = scene[f"{side}_x"], scene[f"{side}_y"]
    hidden = x @ weights["first.weight"].mT + weights["first.bias"][:, None]
    if scene["norm"]:
        hidden = _normalised(hidden, scene) * weights["norm.weight"][:, None] + weights["norm.bias"][:, None]
    logits = hidden.tanh() @ weights["last.weight"].mT + weights["last.bias"][:, None]
    chosen = logits.log_softmax(-1)[:, torch.arange(len(y)), y]
    losses: Tensor = -chosen.mean(1)
    return losses


def _normalised(hidden: Tensor, scene: Scene) -> Tensor:
    if scene["training"]:
        mean, var = hidden.mean(1, keepdim=True), hidden.var(1, correction=0, keepdim=True)
    else:
        mean, var = scene["statistics"]["norm.running_mean"], scene["statistics"]["norm.running_var"]
    return (hidden - mean) / (var + 1e-5).sqrt()
