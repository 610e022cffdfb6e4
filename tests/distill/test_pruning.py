"""枝刈り: 0 にする重みの選び方、学習しても 0 のままであること、本当に小さいネットワーク。"""

import pytest
import torch
from distill_kit import loader, snapshot, tiny, unchanged
from torch import nn
from torch.nn.utils import prune

from tlkit.distill import HardLabels, count_flops, count_parameters, fit_student, stored_bytes
from tlkit.distill.pruning import count_nonzero, forget_masks, prune_magnitude, remove_channels
from tlkit.models import GlyphCNN

IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)])


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.9])
def test_the_smallest_weights_of_the_whole_network_become_zero(sparsity: float) -> None:
    model = tiny()
    before, whole = snapshot(model), weights(model)
    pruned = prune_magnitude(model, sparsity)
    kept = weights(pruned)
    assert unchanged(model, before)
    assert int((kept == 0).sum()) == round(sparsity * len(whole))
    assert torch.equal(kept[kept != 0], whole[kept != 0])
    if sparsity:
        assert whole[kept == 0].abs().max() <= whole[kept != 0].abs().min()


def test_zeros_stay_zero_while_the_rest_is_trained() -> None:
    pruned = prune_magnitude(tiny(), 0.5)
    zero, before = weights(pruned) == 0, weights(pruned)
    fit_student(pruned, HardLabels(), loader(), steps=20, device="cpu", progress=False)
    assert count_nonzero(pruned) <= count_parameters(pruned) - int(zero.sum()) < count_nonzero(tiny())
    counted = count_nonzero(pruned)
    assert count_nonzero(forget_masks(pruned)) == counted
    after = weights(pruned)
    assert bool((after[zero] == 0).all()) and bool((after != before)[~zero].any())
    assert not prune.is_pruned(pruned) and set(pruned.state_dict()) == set(tiny().state_dict())


def test_zeros_change_neither_the_stored_size_nor_the_work() -> None:
    model, x = tiny(), torch.zeros(2, 4)
    pruned = forget_masks(prune_magnitude(model, 0.8))
    assert stored_bytes(pruned) == stored_bytes(model) and count_flops(pruned, x) == count_flops(model, x)
    assert count_nonzero(pruned) < count_parameters(pruned) == count_parameters(model)


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, True])
def test_unusable_sparsity_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match="0 以上 1 未満"):
        prune_magnitude(tiny(), sparsity)


def test_models_that_cannot_be_pruned_are_refused() -> None:
    with pytest.raises(ValueError, match="印があるモデル"):
        prune_magnitude(prune_magnitude(tiny(), 0.5), 0.5)
    with pytest.raises(ValueError, match=r"nn\.Linear もありません"):
        prune_magnitude(nn.Sequential(nn.ReLU()), 0.5)


def net(width: int = 8, classes: int = 5) -> GlyphCNN:
    torch.manual_seed(0)
    model = GlyphCNN(classes, width)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # 移動統計も、チャネルごとに違う値にする
            nn.init.normal_(module.weight), nn.init.normal_(module.bias), nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def test_removing_nothing_changes_nothing() -> None:
    model = net()
    same = remove_channels(model, 8)
    assert torch.equal(same(IMAGES), model(IMAGES)) and not same.training and remove_channels(model.train(), 8).training


def test_channels_that_do_nothing_are_removed_without_changing_the_output() -> None:
    """半分のチャネルの重みとバイアスを 0 にすると、取り除いても出力は同じである。"""
    model = net()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for conv, norm in (model.stem[:2], *(stage[:2] for stage in model.stages)):
            dead = torch.randperm(len(conv.weight), generator=g)[: len(conv.weight) // 2]
            for value in (conv.weight, norm.bias, norm.running_mean):
                value[dead] = 0
    before = snapshot(model)
    smaller = remove_channels(model, 4)
    assert torch.allclose(smaller(IMAGES), model(IMAGES), atol=1e-5) and unchanged(model, before)
    assert count_parameters(smaller) == count_parameters(GlyphCNN(5, 4))
    assert count_flops(smaller, IMAGES) < 0.5 * count_flops(model, IMAGES)


def test_the_channels_with_the_largest_filters_are_kept_in_their_order() -> None:
    model = net()
    with torch.no_grad():
        model.stem[0].weight.fill_(0.01)
        for channel, size in ((1, 0.5), (6, 2.0), (3, -1.0)):
            model.stem[0].weight[channel] = size
    smaller = remove_channels(model, 3)
    assert smaller.stem[0].weight[:, 0, 0, 0].tolist() == [0.5, -1.0, 2.0]
    assert torch.equal(smaller.stem[1].running_mean, model.stem[1].running_mean[[1, 3, 6]])


@pytest.mark.parametrize("width", [0, 9, True, 2.5])
def test_unusable_widths_are_refused(width: object) -> None:
    with pytest.raises(ValueError, match="1 以上 8"):
        remove_channels(net(), width)  # type: ignore[arg-type]
