"""RBF カーネルの MMD² とその勾配を、行のかたまりごとに求める（`mmd.py` の内部部品）。

自動微分に任せると、カーネルごとに (N, M) の中間結果が残る。ここでは値と勾配を同じ周回で求め、
(かたまり, M) の作業領域を使い回す。勾配の式は ∂k(a, b)/∂a = −2γ k(a, b) (a − b)、γ = 1/(2σ²)。
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

TILE = 256  # 256 行 × 数千列の float32 が、数 MB の作業領域に収まる大きさ


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² を (N, M) で返す。a (N, D) と b (M, D) は、平均を引いてあること（桁落ちを防ぐ）。"""
    squares = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)
    return squares.add_(a.square().sum(1, keepdim=True)).clamp_(min=0)


class RBFDiscrepancy(Function):
    """MMD²（RBF カーネルの平均）。x (N, D)、y (M, D) → 0 次元。勾配は forward で求めておく。"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gammas: list[float], unbiased: bool) -> Tensor:
        """値を返し、x と y に対する勾配を backward のために残す。"""
        n, m, own = len(x), len(y), int(unbiased)
        grads = (torch.zeros_like(x), torch.zeros_like(y)) if x.requires_grad or y.requires_grad else (None, None)
        weights = 1 / (n * (n - own)), 1 / (m * (m - own)), -1 / (n * m)
        sum_xx = _kernel_sum(x, x, gammas, weights[0], grads[0], grads[0])
        sum_yy = _kernel_sum(y, y, gammas, weights[1], grads[1], grads[1])
        sum_xy = _kernel_sum(x, y, gammas, weights[2], *grads)
        if grads[0] is not None:
            ctx.gammas, ctx.unbiased = gammas, unbiased
            ctx.save_for_backward(x, y, *grads)
        # k(x_i, x_i) = 1 なので、除く対角の和は件数に等しい
        value = weights[0] * (sum_xx - own * n) + weights[1] * (sum_yy - own * m) + 2 * weights[2] * sum_xy
        return value.to(x.dtype)

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


def _kernel_sum(
    a: Tensor, b: Tensor, gammas: list[float], weight: float, grad_a: Tensor | None, grad_b: Tensor | None
) -> Tensor:
    """カーネルの平均の、全対の和を返す。grad_a (N, D) と grad_b (M, D) には 4 weight Σ_j c_ij (b_j − a_i) を足し込む。

    c は _kernels の 2 番目。係数 4 は、∂k/∂d² = −c の 2 倍（d² の微分）と、xx、yy では x_i が二つの引数に現れること、
    xy では値に 2 が掛かることから来る。a is b のときは対称なので、対角より右上のかたまりだけを計算する。
    """
    total = torch.zeros((), dtype=_sum_dtype(a), device=a.device)
    for start in range(0, len(a), TILE):
        rows = slice(start, start + TILE)
        columns, skip = (b[start:], len(a[rows])) if a is b else (b, 0)  # 左の skip 列は、転置しても同じかたまり
        distances = squared_distances(a[rows], columns)
        if a is b:
            distances.diagonal().zero_()  # 自分との距離は厳密に 0
        kernel, slope = _kernels(distances, gammas)
        if a is b:
            slope.diagonal().zero_()  # 自分との対の勾配は 0。足して引くと、丸め誤差が残る
        total += kernel.sum(dtype=total.dtype)
        if a is b:
            total += kernel[:, skip:].sum(dtype=total.dtype)
        if grad_a is not None and grad_b is not None:
            _add_pull(grad_a[rows], slope, a[rows], columns, 4 * weight)
            _add_pull(grad_b[len(b) - len(columns) + skip :], slope[:, skip:].T, columns[skip:], a[rows], 4 * weight)
    return total


def _add_pull(grad: Tensor, slope: Tensor, points: Tensor, others: Tensor, weight: float) -> None:
    """grad_i に weight Σ_j slope_ij (others_j − points_i) を足し込む。"""
    grad.addmm_(slope, others, alpha=weight).addcmul_(slope.sum(1, keepdim=True), points, value=-weight)


def _kernels(distances: Tensor, gammas: list[float]) -> tuple[Tensor, Tensor]:
    """K 個のカーネルの平均 Σ exp(−γ d²) / K と、d² での微分の符号を変えた Σ γ exp(−γ d²) / K を返す。"""
    mean, slope, kernel = torch.zeros_like(distances), torch.zeros_like(distances), torch.empty_like(distances)
    for gamma in gammas:
        torch.mul(distances, -gamma, out=kernel).exp_()
        mean.add_(kernel, alpha=1 / len(gammas))
        slope.add_(kernel, alpha=gamma / len(gammas))
    return mean, slope


def _sum_dtype(x: Tensor) -> torch.dtype:
    """和をとる dtype。MPS には float64 がない。"""
    return torch.float32 if x.device.type == "mps" else torch.float64
