"""課題ごとに勾配まで求めてから計算の記録を捨て、平均の勾配だけを残す。課題の数によらない記憶で済む。"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Terms = Mapping[str, Tensor]


class _Precomputed(Function):
    """値と、もう求めてある勾配を、自動微分の一つの演算に見せる。"""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(grad_output * gradient for gradient in ctx.saved_tensors))


def mean_over_tasks(
    task_loss: Callable[[Any], Terms], tasks: Iterable[Any], parameters: Iterable[nn.Parameter]
) -> dict[str, Tensor]:
    """課題の損失の平均と、その勾配。`.backward()` を呼ぶと、平均の勾配が parameters に入る。

    L = (1/T) Σ_t L_t を、T 個の計算の記録を残したまま足してから逆伝播すると、記憶は T 倍になる。
    ここでは、課題ごとに ∂L_t/∂θ を求めて足し、記録を捨てる。値と勾配は同じで、記憶は課題 1 個分で済む。
    勾配を記録しない状態（`torch.no_grad()`）で呼べば、値だけを返す。もう一度微分すること（二階）はできない。

    Args:
        task_loss: 課題 → "loss"（0 次元）を持つ辞書。ほかの値は、平均だけを求める。
        tasks: 課題の並び。
        parameters: 勾配を求めるパラメータ。requires_grad が False のものは除く。

    Returns:
        値ごとの平均。"loss" にだけ勾配がある。

    Raises:
        ValueError: 課題が一つもないとき。
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    sums, totals, count = [torch.zeros_like(p) for p in wanted], dict[str, Tensor](), 0
    for task in tasks:
        terms = task_loss(task)
        if torch.is_grad_enabled():
            for total, gradient in zip(sums, _gradients(terms["loss"], wanted), strict=True):
                if gradient is not None:
                    total += gradient
        count += 1
        for name, value in terms.items():
            totals[name] = totals.get(name, torch.zeros_like(value)).detach() + value.detach()
    if count == 0:
        raise ValueError("課題が一つもありません。エピソードを 1 個以上渡してください。")
    means = {name: total / count for name, total in totals.items()}
    if torch.is_grad_enabled():
        means["loss"] = _Precomputed.apply(means["loss"], [total / count for total in sums], *wanted)
    return means


def _gradients(loss: Tensor, wanted: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, wanted, allow_unused=True)
