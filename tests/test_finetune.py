"""特徴の取り出しと凍結: 手で計算した特徴との一致、状態の復元、凍結した層が本当に動かないこと（動く対照つき）。"""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import get_model

from tlkit._stages import find_head, split_stages
from tlkit.finetune import extract_features, set_freeze
from tlkit.models import EfficientNetLite0, GlyphCNN, TransferModel

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "GlyphCNN": (lambda: GlyphCNN(4, width=4), (1, 28, 28)),
    "Lite0": (lambda: EfficientNetLite0(4, weights=None), (3, 32, 32)),
    "resnet18": (lambda: get_model("resnet18", weights=None, num_classes=4), (3, 32, 32)),
    "TransferModel": (lambda: TransferModel(4, "shufflenet_v2_x0_5", weights=None), (3, 64, 64)),
}


def build(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return make(), torch.rand(6, *shape), torch.tensor([0, 1, 2, 3, 0, 1])


def train_steps(model: nn.Module, x: Tensor, y: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}


def names_of(model: nn.Module, stages: list) -> set[str]:
    """段に入るパラメータと、段の部品のバッファの名前。"""
    inside = {id(p) for stage in stages for p in stage.parameters}
    inside |= {id(b) for stage in stages for module in stage.modules for b in module.buffers()}
    every = [*model.named_parameters(), *model.named_buffers()]
    return {name for name, value in every if id(value) in inside}


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
    model = set_freeze(GlyphCNN(3), "partial")
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


# ---------------------------------------------------------------- 段の分け方


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vit_b_32", "swin_t", "squeezenet1_1", "maxvit_t"])
def test_every_parameter_is_in_exactly_one_stage(name: str) -> None:
    with torch.device("meta"):
        model = get_model(name, weights=None)
    stages = split_stages(model)
    inside = [id(p) for stage in stages for p in stage.parameters]
    assert sorted(inside) == sorted(id(p) for p in model.parameters())
    assert len(stages) >= 5
    assert stages[-1].modules == (find_head(model)[1],)


def test_stage_names_of_known_models() -> None:
    lite = [stage.name for stage in split_stages(EfficientNetLite0(weights=None))]
    assert lite == ["stem", *(f"stages.{i}" for i in range(7)), "classifier"]
    with torch.device("meta"):
        resnet = [stage.name for stage in split_stages(get_model("resnet18", weights=None))]
    assert resnet == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [stage.name for stage in split_stages(GlyphCNN(3))] == ["stem", "stages.0", "stages.1", "classifier"]


# ---------------------------------------------------------------- 特徴の取り出し


def loader(n: int = 10, batch_size: int = 4) -> tuple[DataLoader, Tensor, Tensor]:
    x = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 3
    return DataLoader(TensorDataset(x, y), batch_size=batch_size), x, y


@pytest.mark.parametrize("device", DEVICES)
def test_features_equal_a_forward_by_hand(device: str) -> None:
    batches, x, y = loader()
    model = GlyphCNN(3)
    features, labels = extract_features(model, batches, device=device)
    assert features.shape == (10, 128) and features.device.type == "cpu" and torch.equal(labels, y)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(features, model.features(x.to(device)).cpu(), rtol=1e-4, atol=1e-5)


def test_features_can_train_a_classifier() -> None:
    for batch_size in (4, 16):  # バッチが一つだけのときも
        features, labels = extract_features(GlyphCNN(3), loader(batch_size=batch_size)[0])
        assert not features.is_inference() and not labels.is_inference() and not features.requires_grad
        head = nn.Linear(128, 3)
        F.cross_entropy(head(features), labels).backward()
        assert head.weight.grad is not None and head.weight.grad.abs().sum() > 0


def test_training_flags_come_back_one_by_one() -> None:
    model = GlyphCNN(3).train()
    model.stages[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    statistics = copy.deepcopy(model.state_dict())
    extract_features(model, loader()[0])
    assert {name: module.training for name, module in model.named_modules()} == before
    assert moved(statistics, model) == set()


def test_training_flags_come_back_after_an_error_too() -> None:
    model = GlyphCNN(3).train()
    with pytest.raises(RuntimeError):
        extract_features(model, [(torch.rand(2, 5, 28, 28), torch.zeros(2))])
    assert all(module.training for module in model.modules())


def test_dtype_follows_the_model() -> None:
    x, y = torch.rand(3, 1, 28, 28, dtype=torch.float64), torch.zeros(3)
    assert extract_features(GlyphCNN(3).double(), [(x, y)])[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("model", "batches", "message"),
    [
        (nn.Linear(3, 2), [], r"Linear に features\(x\) がありません.*TransferModel"),
        (GlyphCNN(3), [], "loader が空です"),
        (GlyphCNN(3), [torch.rand(2, 1, 28, 28)], "Tensor を返しました.*2 個のテンソルの組"),
        (GlyphCNN(3), [{"x": 1}], "dict を返しました"),
    ],
)
def test_wrong_arguments_are_explained(model: nn.Module, batches: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_features(model, batches)


def test_raw_torchvision_feature_maps_are_refused() -> None:
    model = get_model("squeezenet1_1", weights=None)  # .features が (N, C, H, W) を返す
    with pytest.raises(ValueError, match=r"\(2, 512, 3, 3\) を返しました"):
        extract_features(model, [(torch.rand(2, 3, 64, 64), torch.zeros(2))])
