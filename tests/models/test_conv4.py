"""Conv4 の形、パラメータの数、正規化の選び方。"""

import pytest
import torch
from torch import nn

from tlkit.models import Conv4


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "features", "parameters"),
    [
        ({}, 64, 111_936),  # (9·1·64 + 64) + 3·(9·64·64 + 64) + 4·2·64
        ({"in_channels": 3, "image_size": 32}, 256, 113_088),
        ({"in_channels": 3, "image_size": 84}, 1600, 113_088),
        ({"norm": "none"}, 64, 111_424),
        ({"norm": "group"}, 64, 111_936),
        ({"width": 32, "num_classes": 5}, 32, (9 + 1) * 32 + 3 * (9 * 32 + 1) * 32 + 8 * 32 + 33 * 5),
    ],
)
def test_standard_shape(options: dict, features: int, parameters: int) -> None:
    model = Conv4(**options)
    x = torch.randn(4, *model.input_shape)
    assert model.num_features == features
    assert model.features(x).shape == (4, features)
    assert count(model) == parameters
    assert model(x).shape == (4, options.get("num_classes", features))


def test_sides_are_halved_four_times() -> None:
    sides = []
    model = Conv4(width=2)
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, output: sides.append(tuple(output.shape[2:])))
    model(torch.randn(2, 1, 28, 28))
    assert sides == [(14, 14), (7, 7), (3, 3), (1, 1)]


def test_without_a_head_the_output_is_the_features() -> None:
    model = Conv4(width=4).eval()
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(model(x), model.features(x))


@pytest.mark.parametrize("norm", ["group", "none"])
def test_other_normalisations_do_not_mix_images(norm: str) -> None:
    model, x = Conv4(3, width=6, norm=norm), torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(model(x)[:2], model(x[:2]))


def test_batch_norm_mixes_images() -> None:
    model, x = Conv4(3, width=6), torch.randn(5, 1, 28, 28)
    assert not torch.allclose(model(x)[:2], model(x[:2]))


def test_groups_divide_the_width() -> None:
    groups = {width: Conv4(width=width, norm="group").blocks[0][1].num_groups for width in (64, 6, 7, 5)}
    assert groups == {64: 8, 6: 6, 7: 7, 5: 5}


def test_float64_and_gradients() -> None:
    model = Conv4(3, width=4).double()
    model(torch.randn(6, 1, 28, 28, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float64 for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "layer"}, "norm に 'layer'"),
        ({"image_size": 15}, "16 画素以上"),
        ({"width": 0}, "width に 0"),
        ({"num_classes": 0}, "num_classes に 0"),
    ],
)
def test_wrong_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Conv4(**options)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32), (1, 28, 28)])
def test_wrong_inputs_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\) が要ります"):
        Conv4()(torch.zeros(shape))
