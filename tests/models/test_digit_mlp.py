"""DigitMLP: 形、パラメータ数、断り方。"""

import pytest
import torch

from tlkit.models import DigitMLP

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("hidden", "classes"), [(64, 10), (16, 7), (1, 2)])
def test_shapes_and_number_of_parameters(hidden: int, classes: int, device: str) -> None:
    model, x = DigitMLP(hidden, classes).to(device), torch.rand(5, 1, 28, 28, device=device)
    assert model.features(x).shape == (5, hidden) and model(x).shape == (5, classes)
    torch.testing.assert_close(model.classifier(model.features(x)), model(x))
    want = 784 * hidden + hidden + hidden**2 + hidden + (hidden + 1) * classes
    assert sum(p.numel() for p in model.parameters()) == want


def test_is_not_linear() -> None:
    torch.manual_seed(0)
    model, x = DigitMLP(64).double(), torch.rand(4, 1, 28, 28).double()
    zero = model(torch.zeros_like(x))
    assert (model(-x) - zero + model(x) - zero).norm() > 1e-3


@pytest.mark.parametrize("arguments", [{"hidden": 0}, {"hidden": 6.4}, {"num_classes": True}, {"num_classes": -1}])
def test_bad_sizes_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} に .*1 以上の整数"):
        DigitMLP(**arguments)
