"""段階的解凍: `fit` で実際に学習し、どのエポックにどのパラメータが動くか（凍結しない対照つき）、再開との一致。"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from finetune_kit import DEVICES, MODELS, build, loss, moved, names_of
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from tlkit._stages import split_stages
from tlkit.finetune import GradualUnfreezing, param_groups, set_freeze, slanted_triangular, stage_names
from tlkit.models import GlyphCNN
from tlkit.training import fit

OPTIMIZERS: dict[str, Callable[[list], Optimizer]] = {
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.1),
    "AdamW": lambda groups: torch.optim.AdamW(groups, weight_decay=0.1),
}


def moves_by_epoch(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: Optimizer, epochs: int, device: str, **options: object
) -> list[set[str]]:
    """エポックごとに、値の変わったパラメータとバッファの名前。"""
    found: list[set[str]] = []
    before = copy.deepcopy(model.to(device).state_dict())

    def look(net: nn.Module) -> float:
        found.append(moved(before, net))
        before.update(copy.deepcopy(net.state_dict()))
        return 0.0

    loader = DataLoader(TensorDataset(x, y), batch_size=3)
    arguments = {"epochs": epochs, "device": device, "progress": False, "restore_best": False, **options}
    fit(model, loader, loss, optimizer, validate=look, **arguments)
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 2])
def test_each_epoch_moves_the_top_stages_and_nothing_else(every: int, optimizer: str, device: str) -> None:
    model, x, y = build("GlyphCNN")
    stages = split_stages(model)
    groups = param_groups(model.to(device), 0.01, decay=1.5)
    found = moves_by_epoch(
        model,
        x,
        y,
        OPTIMIZERS[optimizer](groups),
        epochs=5 * every + 1,
        device=device,
        on_epoch=GradualUnfreezing(model, every=every),
    )
    want = [names_of(model, stages[-(1 + min(epoch // every, 4)) :]) for epoch in range(5 * every + 1)]
    assert [sorted(names) for names in found] == [sorted(names) for names in want]
    assert "stem.1.running_mean" in found[-1] and "stem.1.running_mean" not in found[3 * every]


@pytest.mark.parametrize("device", DEVICES)
def test_without_it_everything_moves_from_the_first_epoch(device: str) -> None:
    model, x, y = build("GlyphCNN")
    optimizer = OPTIMIZERS["AdamW"](param_groups(model.to(device), 0.01, decay=1.5))
    assert moves_by_epoch(model, x, y, optimizer, 1, device) == [set(model.state_dict())]


@pytest.mark.parametrize("name", MODELS)
def test_state_of_every_model_is_that_of_set_freeze(name: str) -> None:
    model, _, _ = build(name)
    names = stage_names(model)
    unfreeze = GradualUnfreezing(model)
    for epoch in range(len(names) + 2):
        unfreeze(epoch)
        flags = [(p.requires_grad, m.training) for m in model.modules() for p in m.parameters(recurse=False)]
        set_freeze(model, names[: -(epoch + 1)] or "none")
        assert flags == [(p.requires_grad, m.training) for m in model.modules() for p in m.parameters(recurse=False)]
        learning = {id(p) for stage in split_stages(model)[-(epoch + 1) :] for p in stage.parameters}
        assert {id(p) for p in model.parameters() if p.requires_grad} == learning


def test_state_depends_on_the_epoch_alone() -> None:
    def flags(calls: list[int]) -> list:
        model = GlyphCNN(3).train()
        unfreeze = GradualUnfreezing(model, every=2)
        for epoch in calls:
            unfreeze(epoch)
        return [p.requires_grad for p in model.parameters()] + [m.training for m in model.train().modules()]

    assert flags([0, 1, 2, 3, 4, 5]) == flags([5]) == flags([99, 5, 5])
    assert flags([4]) == flags([5]) != flags([3])


def test_a_frozen_weight_with_a_zero_gradient_would_drift() -> None:
    """対照: 勾配が None でなく 0 だと、荷重減衰が凍結した重みを動かす。"""
    model = GlyphCNN(3)
    optimizer = torch.optim.AdamW(param_groups(model, 0.1), weight_decay=0.1)
    before = copy.deepcopy(model.state_dict())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    GradualUnfreezing(model)(0)
    optimizer.step()
    assert moved(before, model) == {"classifier.weight", "classifier.bias"}
    model.stem[0].weight.grad = torch.zeros_like(model.stem[0].weight)
    optimizer.step()
    assert "stem.0.weight" in moved(before, model)


def trained(checkpoint: Path | None, device: str, stop: int | None = None) -> tuple[nn.Module, list[int]]:
    """6 エポックの ULMFiT（段階的解凍、層別学習率、斜め三角）。stop エポックの検証で止める。"""
    model, x, y = build("GlyphCNN")
    set_freeze(model.to(device), "none")
    optimizer = torch.optim.AdamW(param_groups(model, 0.01), weight_decay=0.1)
    loader = DataLoader(TensorDataset(x, y), 2, shuffle=True, generator=torch.Generator().manual_seed(7))
    unfreeze, called, seen = GradualUnfreezing(model), [], []

    def on_epoch(epoch: int) -> None:
        called.append(epoch)
        unfreeze(epoch)

    def validate(_: nn.Module) -> float:
        seen.append(len(seen))
        if stop is not None and len(seen) > stop:
            raise KeyboardInterrupt
        return float(len(seen))

    fit(
        model,
        loader,
        loss,
        optimizer,
        epochs=6,
        scheduler=slanted_triangular(optimizer, 6 * len(loader)),
        on_epoch=on_epoch,
        validate=validate,
        restore_best=False,
        checkpoint=checkpoint,
        device=device,
        progress=False,
    )
    return model, called


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA でも同じ計算が同じビットになるように、畳み込みの選び方を固定する。"""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.usefixtures("repeatable")
def test_resuming_gives_the_same_weights_to_the_last_bit(tmp_path: Path, stop: int, device: str) -> None:
    whole, called = trained(None, device)
    assert called == list(range(6))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "c.pt", device, stop)
    resumed, called = trained(tmp_path / "c.pt", device)
    assert called == list(range(stop, 6))
    assert moved(whole.state_dict(), resumed) == set()
    assert [p.requires_grad for p in resumed.parameters()] == [p.requires_grad for p in whole.parameters()]


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "1"])
def test_wrong_every_is_refused(every: object) -> None:
    with pytest.raises(ValueError, match=rf"every に {every!r} が渡されました。1 以上の整数"):
        GradualUnfreezing(GlyphCNN(3), every=every)


@pytest.mark.parametrize("epoch", [-1, 0.0, True, None])
def test_wrong_epoch_is_refused_and_changes_nothing(epoch: object) -> None:
    model = GlyphCNN(3)
    with pytest.raises(ValueError, match=rf"epoch に {epoch!r} が渡されました。0 以上の整数"):
        GradualUnfreezing(model)(epoch)
    assert all(p.requires_grad for p in model.parameters())


def test_model_without_a_classifier_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="分類の層が見つかりません"):
        GradualUnfreezing(nn.Sequential(nn.ReLU()))
