"""attention_transfer_loss: 定義どおりのループ、不変性、微分、断り方。"""

import math

import pytest
import torch
from torch import Tensor

from tlkit.losses import attention_transfer_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def maps(n: int = 3, ours: int = 4, theirs: int = 6, h: int = 3, w: int = 2) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, c, h, w, generator=g, dtype=torch.float64) for c in (ours, theirs))


def naive(s: Tensor, t: Tensor) -> float:
    """定義の式を、添字のままのループで計算する。"""

    def attention(f: Tensor) -> list[float]:
        c, h, w = f.shape
        a = [math.fsum(float(f[k, i, j]) ** 2 for k in range(c)) / c for i in range(h) for j in range(w)]
        length = math.sqrt(math.fsum(x * x for x in a))
        return [x / length for x in a]

    gaps = [(a - b) ** 2 for f, g in zip(s, t, strict=True) for a, b in zip(attention(f), attention(g), strict=True)]
    return math.fsum(gaps) / len(gaps)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sizes", [(3, 4, 6, 3, 2), (1, 1, 1, 2, 5), (2, 5, 5, 4, 4)])
def test_equals_the_definition_by_loops(sizes: tuple[int, ...], device: str) -> None:
    s, t = maps(*sizes)
    value = attention_transfer_loss(s.to(device), t.to(device))
    assert value.shape == () and value.dtype == torch.float64 and value.device.type == device
    assert value.item() == pytest.approx(naive(s, t), rel=1e-12)


def test_by_hand() -> None:
    """生徒 (1, 0)、教師 (0, 1) の地図。差の二乗は (1, 1)、平均は 1。符号は関係しない。"""
    s, t = torch.tensor([[[[-3.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
    assert attention_transfer_loss(s, t).item() == pytest.approx(1.0)


def test_depends_on_where_and_not_on_how_strong_or_on_the_order_of_channels() -> None:
    s, t = maps()
    value = attention_transfer_loss(s, t).item()
    each = torch.tensor([0.1, 7.0, 3.0], dtype=torch.float64)[:, None, None, None]
    assert attention_transfer_loss(s * each, t / each).item() == pytest.approx(value, rel=1e-12)
    assert attention_transfer_loss(-s[:, [2, 0, 3, 1]], t).item() == pytest.approx(value, rel=1e-12)
    repeated = s.repeat(1, 3, 1, 1)  # チャネルの平均なので、同じチャネルを増やしても変わらない
    assert attention_transfer_loss(repeated, s).item() == pytest.approx(0, abs=1e-30)


def test_gradients_of_both_sides() -> None:
    s, t = (z.requires_grad_() for z in maps(2, 2, 3, 2, 2))
    assert torch.autograd.gradcheck(attention_transfer_loss, (s, t))
    assert torch.autograd.gradgradcheck(attention_transfer_loss, (s, t))
    attention_transfer_loss(s, t.detach()).backward()
    assert s.grad.abs().sum() > 0 and t.grad is None


def test_maps_of_only_zeros_are_finite() -> None:
    """ReLU の後では、ある標本の地図がすべて 0 になることがある。"""
    s = torch.zeros(1, 2, 2, 2, requires_grad=True)
    value = attention_transfer_loss(s, torch.ones(1, 2, 2, 2))
    value.backward()
    assert value.item() == pytest.approx(0.25) and torch.equal(s.grad, torch.zeros_like(s))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_follows_the_student_without_overflow(dtype: torch.dtype) -> None:
    s, t = (300 * z.to(dtype) for z in maps())  # 二乗は float16 の上限を超える
    value = attention_transfer_loss(s, t)
    want = attention_transfer_loss(s.double(), t.double()).item()
    assert value.dtype == dtype and value.item() == pytest.approx(want, rel=torch.finfo(dtype).eps + 1e-5)


@pytest.mark.parametrize(
    ("s", "t", "words"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8), ["(2, 3, 8, 8)", "adaptive_avg_pool2d"]),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4), ["(1, 3, 4, 4)", "(N, C, H, W)"]),
        (torch.zeros(2, 3), torch.zeros(2, 3), ["(2, 3)", "(N, C, H, W)"]),
        (torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4), ["(0, 3, 4, 4)", "1 以上"]),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.int32), ["torch.int32", "浮動小数点"]),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, device="meta"), ["meta", "同じ device"]),
    ],
)
def test_bad_input_says_what_came_and_what_is_wanted(s: Tensor, t: Tensor, words: list[str]) -> None:
    with pytest.raises(ValueError, match="。") as caught:
        attention_transfer_loss(s, t)
    for word in words:
        assert word in str(caught.value)
