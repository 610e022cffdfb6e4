"""演習 03-3 の正しい値と勾配。tlkit の実装を使わず、float64 で定義どおりに計算する。

判定の側だけが使う。名前に judge が入るモジュールは、採点のとき、答えの動く檻の中に置かれない。
"""

import itertools

import torch
from torch import Tensor

MULTIPLIERS = (0.5, 0.5**0.5, 1.0, 2.0**0.5, 2.0)


def profile(times: float) -> float:
    """距離の二乗が中央値の times² 倍の 2 点のカーネルの値。σ² = 中央値 / 2 なので exp(−times² / c²) の平均。"""
    return float(sum(torch.tensor(-((times / c) ** 2)).double().exp() for c in MULTIPLIERS)) / len(MULTIPLIERS)


def value(x: Tensor, y: Tensor) -> float:
    """損失の値。"""
    return float(_loss(x.double(), y.double()))


def gradients(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x と y の勾配。帯域幅は定数とみなす。"""
    x, y = (z.detach().double().requires_grad_() for z in (x, y))
    grad_x, grad_y = torch.autograd.grad(_loss(x, y), (x, y))
    return grad_x, grad_y


def _loss(x: Tensor, y: Tensor) -> Tensor:
    variance = _median([float((a - b).square().sum()) for a, b in itertools.combinations(torch.cat([x, y]), 2)]) / 2
    variance = variance or 1.0  # 全点が一致。距離がすべて 0 なので、幅は値に響かない

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = (a[:, None] - b[None]).square().sum(2)
        return torch.stack([torch.exp(-squared / (2 * c**2 * variance)) for c in MULTIPLIERS]).mean(0)

    def within(z: Tensor) -> Tensor:
        off = ~torch.eye(len(z), dtype=torch.bool)
        return kernel(z, z)[off].mean()

    return within(x) + within(y) - 2 * kernel(x, y).mean()


def _median(numbers: list[float]) -> float:
    ordered = sorted(numbers)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
