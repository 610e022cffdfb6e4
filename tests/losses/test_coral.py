"""coral を、NumPy の共分散、閉じた式、中心差分と比べる。"""

import numpy as np
import pytest
import torch

from tlkit.losses import coral


def pair(n: int = 9, m: int = 6, d: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g, dtype=torch.float64) + 3, torch.randn(
        m, d, generator=g, dtype=torch.float64
    ) * 2


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_equals_numpy_cov(device: str) -> None:
    x, y = pair()
    want = ((np.cov(x.T.numpy()) - np.cov(y.T.numpy())) ** 2).sum() / (4 * 4**2)
    value = coral(x.to(device), y.to(device))
    assert value.shape == ()
    assert value.item() == pytest.approx(want, rel=1e-12)


def test_by_hand_in_one_dimension() -> None:
    assert coral(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])).item() == pytest.approx((2 - 8) ** 2 / 4)


def test_means_do_not_matter_but_scales_do() -> None:
    x, y = pair()
    assert coral(x, x + 100).item() == pytest.approx(0, abs=1e-18)
    assert coral(x, y - 7).item() == pytest.approx(coral(x, y).item(), rel=1e-10)
    assert coral(x, 2 * x).item() > 0.01


def test_gradients_agree_with_central_differences() -> None:
    x, y = (z.requires_grad_() for z in pair(5, 4, 3))
    assert torch.autograd.gradcheck(coral, (x, y))


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 4), "(3, 4)"),
        (torch.zeros(1, 2), torch.zeros(3, 2), "2 以上"),
        (torch.zeros(3, 2, 1), torch.zeros(3, 2, 1), "(3, 2, 1)"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.float64), "torch.float64"),
    ],
)
def test_bad_input_is_explained(x: torch.Tensor, y: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match="。") as caught:
        coral(x, y)
    assert word in str(caught.value)
