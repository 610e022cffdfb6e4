"""hint_loss: 定義、微分、形の違いの断り方。"""

import pytest
import torch
from torch import Tensor

from tlkit.losses import hint_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def features(*shape: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5)])
def test_is_the_mean_over_all_elements(shape: tuple[int, ...], device: str) -> None:
    s, t = features(*shape)
    pairs = list(zip(s.flatten().tolist(), t.flatten().tolist(), strict=True))
    value = hint_loss(s.to(device), t.to(device))
    assert value.shape == () and value.dtype == torch.float64 and value.device.type == device
    assert value.item() == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / len(pairs), rel=1e-12)


def test_by_hand() -> None:
    assert hint_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])).item() == 2.0


def test_gradients_of_both_sides() -> None:
    s, t = (z.requires_grad_() for z in features(2, 3, 2, 2))
    assert torch.autograd.gradcheck(hint_loss, (s, t)) and torch.autograd.gradgradcheck(hint_loss, (s, t))
    value = hint_loss(s, t.detach())
    value.backward()
    torch.testing.assert_close(s.grad, (2 / 24) * (s - t).detach(), rtol=1e-12, atol=0)
    assert t.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_follows_the_student_without_overflow(dtype: torch.dtype) -> None:
    """300² は float16 の上限を超えるが、平均は収まる。"""
    s = torch.zeros(50, 40, dtype=dtype)
    t = torch.zeros(50, 40)
    t[0, 0] = 300.0
    value = hint_loss(s, t)
    assert value.dtype == dtype and value.item() == pytest.approx(45.0, rel=1e-2)


@pytest.mark.parametrize(
    ("s", "t", "words"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 5), ["(4, 3)", "(4, 5)", "1×1"]),
        (torch.zeros(4, 1), torch.zeros(4, 3), ["(4, 1)", "同じ形"]),  # 放っておくと、形が広げられて計算できてしまう
        (torch.zeros(3), torch.zeros(3), ["(3,)", "(N, D)"]),
        (torch.zeros(0, 3), torch.zeros(0, 3), ["(0, 3)", "空でない"]),
        (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3), ["torch.int64", "浮動小数点"]),
        (torch.zeros(4, 3), torch.zeros(4, 3, device="meta"), ["meta", "同じ device"]),
    ],
)
def test_bad_input_says_what_came_and_what_is_wanted(s: Tensor, t: Tensor, words: list[str]) -> None:
    with pytest.raises(ValueError, match="。") as caught:
        hint_loss(s, t)
    for word in words:
        assert word in str(caught.value)
