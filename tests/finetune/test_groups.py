"""層別学習率: どのパラメータもちょうど一度ずつ入ること、式どおりの学習率、実際に動いた量、誤った引数。"""

import math
from collections.abc import Callable

import pytest
import torch
from finetune_kit import DEVICES, MODELS, Tied, build, loss, small_vit
from torch import nn
from torchvision.models import get_model

from tlkit.finetune import param_groups, set_freeze, stage_names
from tlkit.models import GlyphCNN, TransferModel

LARGE = ["vit_b_32", "swin_t", "vgg11", "maxvit_t", "convnext_tiny"]
ALL: dict[str, Callable[[], nn.Module]] = {
    **{name: make for name, (make, _) in MODELS.items()},
    "TransferModel partial": lambda: TransferModel(4, weights=None),
    "small ViT": small_vit,
    "tied": Tied,
    **{name: lambda name=name: get_model(name, weights=None) for name in LARGE},
}


def make(name: str) -> nn.Module:
    with torch.device("meta" if name in LARGE else "cpu"):
        return ALL[name]()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mode", [None, "partial", "all"])
def test_every_trainable_parameter_is_in_exactly_one_group(name: str, mode: str | None) -> None:
    model = make(name)
    if mode is not None:
        set_freeze(model, mode)
    groups = param_groups(model, 0.1)
    found = [p for group in groups for p in group["params"]]
    want = [p for p in model.parameters() if p.requires_grad]
    assert sorted(map(id, found)) == sorted(map(id, want)) and want
    assert sum(p.numel() for p in found) == sum(p.numel() for p in want)
    assert all(group["params"] for group in groups)
    torch.optim.AdamW(groups)  # 二つのグループに同じパラメータがあると、ここで断られる


@pytest.mark.parametrize("name", [name for name in ALL if name != "TransferModel partial"])
def test_groups_follow_the_stages_and_hold_the_stem(name: str) -> None:
    model = make(name)
    groups = param_groups(model, 0.1)
    names = stage_names(model)
    got = [group["name"] for group in groups]
    assert got == [n for n in names if n in got]
    assert got[-1] == names[-1] and groups[-1]["lr"] == 0.1
    first = next(iter(model.parameters()))
    assert any(p is first for p in groups[0]["params"])


def test_loose_parameters_of_a_transformer_are_not_left_out() -> None:
    model = small_vit()
    first = param_groups(model, 0.1)[0]["params"]
    assert any(p is model.class_token for p in first)
    assert sum(p is model.encoder.pos_embedding for g in param_groups(model, 0.1) for p in g["params"]) == 1


def test_shared_parameters_belong_to_the_stage_nearest_the_input() -> None:
    model = Tied()
    owner = {id(p): group["name"] for group in param_groups(model, 1.0) for p in group["params"]}
    assert owner[id(model.fourth.weight)] == "first" and owner[id(model.fourth.bias)] == "fourth"
    assert owner[id(model.third[0].weight)] == "second" and "third" not in owner.values()
    head = {group["name"]: group["lr"] for group in param_groups(model, 1.0, decay=2.0)}
    assert head == {"first": 1 / 16, "second": 1 / 8, "fourth": 1 / 2, "fc": 1.0}  # third の分も数える


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("decay", [2.6, 1.0, 0.5, 10])
def test_rates_equal_the_formula(name: str, decay: float) -> None:
    groups = param_groups(build(name)[0], 3e-3, decay=decay)
    rate, want = 3e-3, []
    for _ in groups:
        want.append(rate)
        rate /= decay
    assert [group["lr"] for group in groups] == pytest.approx(want[::-1], rel=1e-12)


def test_default_decay_is_that_of_the_paper() -> None:
    rates = {group["name"]: group["lr"] for group in param_groups(GlyphCNN(3), 1.0)}
    assert rates == pytest.approx(
        {"stem": 1 / 45.6976, "stages.0": 1 / 17.576, "stages.1": 1 / 6.76, "head": 1 / 2.6, "classifier": 1.0},
        rel=1e-12,
    )


def test_frozen_stages_give_no_group_but_count_in_the_depth() -> None:
    model = set_freeze(GlyphCNN(3), ["stem", "stages.1"])
    rates = {group["name"]: group["lr"] for group in param_groups(model, 1.0, decay=2.0)}
    assert rates == {"stages.0": 1 / 8, "head": 1 / 2, "classifier": 1.0}
    headless = set_freeze(GlyphCNN(3), ["classifier"])
    assert param_groups(headless, 1.0, decay=2.0)[-1]["lr"] == 0.5


def test_a_stage_frozen_by_halves_gives_only_its_trainable_half() -> None:
    model = GlyphCNN(3)
    model.stem[0].weight.requires_grad_(False)
    stem = param_groups(model, 1.0)[0]
    assert stem["name"] == "stem" and [id(p) for p in stem["params"]] == [id(p) for p in model.stem[1].parameters()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_one_step_moves_each_parameter_by_the_rate_of_its_stage(name: str, device: str) -> None:
    model, x, y = build(name)
    model.to(device)
    optimizer = torch.optim.SGD(param_groups(model, 0.5, decay=2.0))
    loss(model, (x.to(device), y.to(device))).backward()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    names = stage_names(model)
    rates = {n: 0.5 / 2 ** (len(names) - 1 - i) for i, n in enumerate(names)}
    group_of = {id(p): group["name"] for group in optimizer.param_groups for p in group["params"]}
    optimizer.step()
    for key, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[key] - rates[group_of[id(p)]] * p.grad, rtol=1e-6, atol=1e-7)
    assert not any(torch.equal(p, before[key]) for key, p in model.named_parameters() if p.grad.abs().max() > 1e-4)


def test_the_model_is_not_changed() -> None:
    model = set_freeze(GlyphCNN(3), "partial")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    param_groups(model, 0.1)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("argument", ["base_lr", "decay"])
def test_rates_that_make_no_sense_are_refused(argument: str, value: float) -> None:
    arguments = {"base_lr": 0.1, "decay": 2.6, argument: value}
    with pytest.raises(ValueError, match=rf"{argument} に {value!r} が渡されました。正の有限の値"):
        param_groups(GlyphCNN(3), arguments["base_lr"], decay=arguments["decay"])


def test_nothing_to_train_is_refused_with_the_stages() -> None:
    with pytest.raises(ValueError, match=r"一つもありません.*'stem', 'stages.0'.*set_freeze\(model, \"none\"\)"):
        param_groups(GlyphCNN(3).requires_grad_(False), 0.1)
    with pytest.raises(ValueError, match="分類の層が見つかりません"):
        param_groups(nn.Sequential(nn.ReLU()), 0.1)
