"""プロトタイプと距離のロジットを、定義どおりのループ、中心差分と比べる。"""

import pytest
import torch
from fewshot_kit import DEVICES
from torch import Tensor

from tlkit.fewshot import prototypes, prototypical_logits


def points(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("device", DEVICES)
def test_means_follow_the_sorted_labels_whatever_the_order(device: str) -> None:
    z, labels = points(7, 3), torch.tensor([9, -2, 9, 4, -2, 9, 4])
    found = prototypes(z.to(device), labels.to(device))
    wanted = torch.stack([z[[1, 4]].mean(0), z[[3, 6]].mean(0), z[[0, 2, 5]].mean(0)])
    assert found.device.type == device and found.dtype == torch.float64
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-14, atol=1e-15)


def test_shuffling_the_support_changes_nothing() -> None:
    z, labels, order = points(12, 5), torch.arange(4).repeat(3), torch.randperm(12)
    torch.testing.assert_close(prototypes(z[order], labels[order]), prototypes(z, labels))


def test_logits_are_minus_the_squared_distance() -> None:
    q, c = points(6, 4), points(3, 4, seed=1)
    wanted = [[-sum((a - b) ** 2 for a, b in zip(z.tolist(), k.tolist(), strict=True)) for k in c] for z in q]
    found = prototypical_logits(q, c)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-13, atol=1e-13)


def test_two_points_on_paper() -> None:
    c = prototypes(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 0, 1]))
    assert c.tolist() == [[1.0, 0.0], [4.0, 0.0]]
    logits = prototypical_logits(torch.tensor([[2.0, 0.0]]), c)
    assert logits.tolist() == [[-1.0, -4.0]]  # 2 乗しなければ [-1, -2]
    assert logits.softmax(1)[0, 0].item() == pytest.approx(1 / (1 + 2.718281828**-3), rel=1e-6)


def test_far_from_the_origin_the_digits_stay() -> None:
    q, c = points(50, 64).float() + 1000, points(5, 64, seed=1).float() + 1000
    exact = prototypical_logits(q.double(), c.double())
    assert ((prototypical_logits(q, c) - exact) / exact).abs().max() < 1e-5


def test_a_query_on_its_prototype_is_zero_and_keeps_a_finite_gradient() -> None:
    q = points(3, 4).requires_grad_()
    logits = prototypical_logits(q, q.detach())
    assert logits.diagonal().abs().max() < 1e-14 and logits.max() <= 0
    (grad,) = torch.autograd.grad(logits.diagonal().sum(), q)
    assert grad.abs().max() < 1e-12


def test_gradients_and_second_gradients_match_central_differences() -> None:
    labels = torch.tensor([1, 0, 1, 0, 1])

    def logits(support: Tensor, query: Tensor) -> Tensor:
        return prototypical_logits(query, prototypes(support, labels))

    inputs = points(5, 3).requires_grad_(), points(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(logits, inputs)
    assert torch.autograd.gradgradcheck(logits, inputs)


def test_memory_does_not_hold_every_difference() -> None:
    q, c = torch.zeros(2000, 256), torch.ones(100, 256)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, Tensor))
            return out

    with Watch():
        prototypical_logits(q, c)
    assert max(sizes) <= max(q.numel(), len(q) * len(c))


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3).long(), r"形 \(3,\)"),
        (torch.zeros(0, 4), torch.zeros(0).long(), "1 件以上"),
        (torch.zeros(3, 2).long(), torch.zeros(3).long(), "浮動小数点数"),
        (torch.zeros(3, 2), torch.zeros(4).long(), r"同じ \(3,\) の整数"),
        (torch.zeros(3, 2), torch.zeros(3), "torch.float32 の labels"),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3).long(), r"flatten\(1\)"),
    ],
)
def test_wrong_support_is_named(embeddings: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prototypes(embeddings, labels)


@pytest.mark.parametrize("other", [torch.zeros(2, 5), torch.zeros(2, 3, dtype=torch.float64)])
def test_query_and_prototypes_must_fit(other: Tensor) -> None:
    with pytest.raises(ValueError, match="D と、dtype を同じに"):
        prototypical_logits(torch.zeros(4, 3), other)
