"""凍結: 凍結した段が本当に動かないこと（動く対照つき）、段の名前での指定、くり返しと復元、誤った指定。"""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from finetune_kit import DEVICES, MODELS, Tied, build, moved, names_of, train_steps
from torch import nn

from tlkit._stages import split_stages
from tlkit.finetune import set_freeze, stage_names
from tlkit.models import GlyphCNN, TransferModel


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("mode", "learning"), [("all", 1), ("partial", 2), ("none", None)])
def test_only_the_learning_stages_move(name: str, mode: str, learning: int | None, device: str) -> None:
    model, x, y = build(name)
    model.to(device)
    assert set_freeze(model, mode) is model
    stages = split_stages(model)
    want = names_of(model, stages if learning is None else stages[-learning:])
    before = copy.deepcopy(model.state_dict())
    train_steps(model, x.to(device), y.to(device))
    assert moved(before, model) == want
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n in want if n in dict(model.named_parameters())
    }


@pytest.mark.parametrize("name", MODELS)
def test_without_set_freeze_the_statistics_move_though_no_weight_learns(name: str) -> None:
    """対照: requires_grad だけを False にしても、バッチ正規化の移動平均は動く。"""
    model, x, _ = build(name)
    set_freeze(model, "none").requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    model.train()
    model(x)
    changed = moved(before, model)
    assert changed
    assert all("running_" in n or "num_batches" in n for n in changed)


def test_frozen_stages_stay_in_eval_and_the_rest_follow_train_and_eval() -> None:
    model = set_freeze(GlyphCNN(3), ["stem", "stages.0"])
    assert model.training
    assert not model.stem.training and not any(m.training for m in model.stem.modules())
    assert not model.stages[0].training
    assert all(m.training for m in model.stages[1].modules()) and model.classifier.training
    assert not any(m.training for m in model.eval().modules())
    model.train()
    assert not model.stem[1].training and model.stages[1][1].training


def test_frozen_dropout_is_silent_too() -> None:
    model = TransferModel(3, "mobilenet_v3_small", freeze="all", weights=None).train()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.features(x), model.features(x))
    set_freeze(model, "none")
    assert not torch.equal(model.features(x), model.features(x))


def test_repeating_changes_nothing_and_none_restores() -> None:
    model, x, y = build("resnet18")
    fresh = copy.deepcopy(model)
    for mode in ("all", "partial", "partial", "all", "none", "none"):
        set_freeze(model, mode)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())
    for net in (model, fresh):
        torch.manual_seed(1)
        train_steps(net, x, y)
    assert moved(fresh.state_dict(), model) == set()


def test_eval_mode_of_the_whole_model_is_kept() -> None:
    model = set_freeze(GlyphCNN(3).eval(), "partial")
    assert not any(m.training for m in model.modules())


def test_stale_gradients_of_frozen_weights_are_dropped() -> None:
    """残った勾配があると、運動量つきの最適化が、凍結したはずの重みを動かし続ける。"""
    model, x, y = build("GlyphCNN")
    set_freeze(model, "none")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(x), y).backward()
    set_freeze(model, "all")
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert moved(before, model) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_frozen_by_itself(duplicate: Callable[[nn.Module], nn.Module]) -> None:
    model = set_freeze(GlyphCNN(3), "all")
    twin = duplicate(model)
    set_freeze(model, "none")
    twin.train()
    assert not twin.stem[1].training and model.train().stem[1].training


def test_unknown_mode_is_refused_and_changes_nothing() -> None:
    model = set_freeze(GlyphCNN(3), "all")
    with pytest.raises(ValueError, match=r"'half'.*partial"):
        set_freeze(model, "half")
    assert not model.stem[0].weight.requires_grad


def test_model_without_a_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="分類の層が見つかりません"):
        set_freeze(nn.Sequential(nn.ReLU()), "all")


# ---------------------------------------------------------------- 段の名前での指定


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_named_stages_stand_still_and_all_others_move(name: str, device: str) -> None:
    model, x, y = build(name)
    model.to(device)
    stages = split_stages(model)
    frozen = [stages[0], stages[-2]]
    with torch.no_grad():  # 移動統計を入力に合わせる。合わせないと、凍結した段を通る勾配が小さくなりすぎる
        for _ in range(30):
            model(x.to(device))
    set_freeze(model, [stage.name for stage in frozen])
    before = copy.deepcopy(model.state_dict())
    train_steps(model, x.to(device), y.to(device))
    assert moved(before, model) == names_of(model, [stage for stage in stages if stage not in frozen])
    for stage in stages:
        assert all(p.requires_grad is (stage not in frozen) for p in stage.parameters)
        assert all(p.grad is None for p in stage.parameters) is (stage in frozen)
        assert all(m.training is (stage not in frozen) for part in stage.modules for m in part.modules())


def test_named_stages_equal_the_modes_and_the_order_is_free() -> None:
    flags = {}
    for key, mode in {
        "all": "all",
        "all names": ("head", "stages.1", "stem", "stages.0"),
        "partial": "partial",
        "partial names": ["stem", "stages.0", "stages.1"],
    }.items():
        model = set_freeze(GlyphCNN(3), mode)
        flags[key] = [(p.requires_grad, m.training) for m in model.modules() for p in m.parameters()]
    assert flags["all"] == flags["all names"] != flags["partial"] == flags["partial names"]


def test_the_last_call_wins_and_everything_can_be_restored() -> None:
    model = GlyphCNN(3)
    set_freeze(model, ["stem", "classifier"])
    set_freeze(set_freeze(model, ["stages.0"]), ["stages.0"])
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        "stages.0.0.weight",
        "stages.0.1.weight",
        "stages.0.1.bias",
    ]
    assert model.train().stem[1].training and model.classifier.training and not model.stages[0][1].training
    set_freeze(model, "none")
    assert all(p.requires_grad for p in model.parameters()) and all(m.training for m in model.train().modules())


def test_stage_names_are_stable_under_freezing() -> None:
    model = GlyphCNN(3)
    names = stage_names(model)
    assert names == ["stem", "stages.0", "stages.1", "head", "classifier"]
    assert stage_names(set_freeze(model, names)) == names  # すべての段を凍結してもよい
    assert not any(p.requires_grad for p in model.parameters())


def test_shared_weights_stay_frozen_when_either_stage_is() -> None:
    model = set_freeze(Tied(), ["first"])
    assert not model.fourth.weight.requires_grad and model.fourth.bias.requires_grad
    model = set_freeze(Tied(), ["fourth"])
    assert not model.first.weight.requires_grad and model.first.bias.requires_grad


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ([], r"空です.*'stem', 'stages.0'"),
        ((), "空です"),
        (["stem", "layer4"], r"段 \['layer4'\] はありません.*'stages.1', 'head', 'classifier'"),
        (["stem.0"], r"'stem.0'.*'stem'"),
        (["stem", "head", "stem"], r"重なっています: \['stem', 'head', 'stem'\].*'stages.0'"),
        ("stem", r"'stem' が渡されました.*段の名前の並び.*'stages.0'"),
        ([0, 1], r"段 \[0, 1\] はありません"),
    ],
)
def test_wrong_stage_names_are_explained_and_change_nothing(mode: object, message: str) -> None:
    model = set_freeze(GlyphCNN(3), "partial")
    before = [p.requires_grad for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        set_freeze(model, mode)
    assert [p.requires_grad for p in model.parameters()] == before and not model.stem.training
