"""バッチ正規化が、渡した集合の統計だけで動き、移動統計を読みも書きもしないこと。"""

import copy

import pytest
import torch
from torch import nn

from tlkit.nn import batch_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.BatchNorm1d(27))
    model(torch.randn(8, 1, 5, 5) * 3 + 2)  # 移動統計を、初めの 0 と 1 から動かす
    return model


@pytest.mark.parametrize("training", [True, False])
def test_uses_the_statistics_of_the_set_and_leaves_the_running_ones(training: bool) -> None:
    model = network().train(training)
    layer, x = model[1], torch.randn(6, 3, 4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    before = copy.deepcopy(model.state_dict())
    with batch_statistics(model):
        given = layer(x)
        model(torch.randn(4, 1, 5, 5))
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    wanted = (x - mean) / (var + layer.eps).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]
    torch.testing.assert_close(given, wanted)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_layers_keep_their_mode() -> None:
    model = network().eval()
    with batch_statistics(model):
        assert not model.training and not model[2].training
        assert torch.equal(model[2](torch.ones(50)), torch.ones(50))
    assert not any(module.training for module in model.modules())
    assert all(layer.track_running_stats for layer in (model[1], model[4]))


def test_the_state_comes_back_after_an_error_and_after_nesting() -> None:
    model = network().eval()
    with pytest.raises(KeyError), batch_statistics(model):
        raise KeyError
    with batch_statistics(model):
        with batch_statistics(model):
            pass
        assert model[1].training and not model[1].track_running_stats
    assert not model[1].training and model[1].track_running_stats


def test_several_models_and_models_without_the_layer() -> None:
    first, second = network().eval(), network().eval()
    with batch_statistics(first, second, nn.Linear(2, 2)):
        assert not first[1].track_running_stats and not second[1].track_running_stats
    assert first[1].track_running_stats and second[1].track_running_stats
