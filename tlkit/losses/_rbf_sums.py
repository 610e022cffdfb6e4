"""RBF カーネルの MMD² とその勾配を、行のかたまりごとに求める（`mmd.py` の内部部品）。

自動微分に任せると、カーネルごとに (N, M) の中間結果が残る。ここでは値と勾配を同じ周回で求め、
(かたまり, M) の作業領域を使い回す。勾配の式は ∂k(a, b)/∂a = −2γ k(a, b) (a − b)、γ = 1/(2σ²)。
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

TILE = 512  # 512 行 × 数千列の float32 が、数 MB の作業領域に収まる大きさ


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² を (N, M) で返す。a (N, D) と b (M, D) は、平均を引いてあること（桁落ちを防ぐ）。"""
    squares = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)
    return squares.add_(a.square().sum(1, keepdim=True)).clamp_(min=0)


class RBFDiscrepancy(Function):
    """MMD²（RBF カーネルの平均）。x (N, D)、y (M, D) → 0 次元。勾配は forward で求めておく。"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gammas: list[float], unbiased: bool) -> Tensor:
        """値を返し、x と y に対する勾配を backward のために残す。"""
        n, m, grad = len(x), len(y), x.requires_grad or y.requires_grad
        pairs_x, pairs_y = (n * (n - 1), m * (m - 1)) if unbiased else (n * n, m * m)
        sum_xx, grad_xx, _ = _kernel_sum(x, x, gammas, grad=grad)
        sum_yy, grad_yy, _ = _kernel_sum(y, y, gammas, grad=grad)
        sum_xy, grad_xy, grad_yx = _kernel_sum(x, y, gammas, grad=grad)
        if unbiased:  # k(x_i, x_i) = 1 なので、対角の和は件数に等しい
            sum_xx, sum_yy = sum_xx - n, sum_yy - m
        if grad:  # xx の和では x_i が二つの引数に現れるので 2 倍になる
            ctx.gammas, ctx.unbiased = gammas, unbiased
            ctx.save_for_backward(
                x,
                y,
                grad_xx.mul_(2 / pairs_x).sub_(grad_xy, alpha=2 / (n * m)),
                grad_yy.mul_(2 / pairs_y).sub_(grad_yx, alpha=2 / (n * m)),
            )
        return (sum_xx / pairs_x + sum_yy / pairs_y - 2 * sum_xy / (n * m)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """残しておいた勾配に、上流の勾配を掛ける。2 階微分を求められたら、微分できる式で計算し直す。"""
        x, y, grad_x, grad_y = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return grad_output * grad_x, grad_output * grad_y, None, None
        value = _differentiable(x, y, ctx.gammas, unbiased=ctx.unbiased)
        wanted = [z for z in (x, y) if z.requires_grad]
        grads = iter(torch.autograd.grad(value, wanted, grad_output, create_graph=True))
        grad_of_x, grad_of_y = (next(grads) if z.requires_grad else None for z in (x, y))
        return grad_of_x, grad_of_y, None, None


def _differentiable(x: Tensor, y: Tensor, gammas: list[float], *, unbiased: bool) -> Tensor:
    """同じ値を、自動微分に任せて求める。2 階微分のときだけ使う（記憶は O(K (N + M)²)）。"""

    def mean(a: Tensor, b: Tensor, own: int) -> Tensor:
        d2 = (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
        kernel = torch.stack([torch.exp(-gamma * d2) for gamma in gammas]).mean(0)
        return (kernel.sum() - own * len(a)) / (len(a) * (len(b) - own))

    return mean(x, x, int(unbiased)) + mean(y, y, int(unbiased)) - 2 * mean(x, y, 0)


def _kernel_sum(a: Tensor, b: Tensor, gammas: list[float], *, grad: bool) -> tuple[Tensor, Tensor, Tensor]:
    """カーネルの平均の全対の和 S と、∂S/∂a (N, D)、∂S/∂b (M, D) を返す。a is b のとき対角は厳密に 1 とする。"""
    total = torch.zeros((), dtype=_sum_dtype(a), device=a.device)
    grad_a, grad_b = (torch.empty_like(a), torch.zeros_like(b)) if grad else (a, b)
    for start in range(0, len(a), TILE):
        rows = a[start : start + TILE]
        distances = squared_distances(rows, b)
        if a is b:
            distances.diagonal(start).zero_()
        kernel_sum, slope = _kernels(distances, gammas)
        total += kernel_sum
        if grad:  # slope = Σ γ k（符号を除いた dk/dd²）
            grad_a[start : start + TILE] = (slope @ b).sub_(slope.sum(1, keepdim=True) * rows).mul_(2)
            grad_b.addmm_(slope.T, rows, alpha=2).sub_(2 * slope.sum(0).unsqueeze(1) * b)
    return total, grad_a, grad_b


def _kernels(distances: Tensor, gammas: list[float]) -> tuple[Tensor, Tensor]:
    """K 個のカーネルの平均の総和と、各対の Σ γ exp(−γ d²) / K を返す。"""
    total = torch.zeros((), dtype=_sum_dtype(distances), device=distances.device)
    slope, kernel = torch.zeros_like(distances), torch.empty_like(distances)
    for gamma in gammas:
        torch.mul(distances, -gamma, out=kernel).exp_()
        total += kernel.sum(dtype=total.dtype)
        slope.add_(kernel, alpha=gamma / len(gammas))
    return total / len(gammas), slope


def _sum_dtype(x: Tensor) -> torch.dtype:
    """和をとる dtype。MPS には float64 がない。"""
    return torch.float32 if x.device.type == "mps" else torch.float64
