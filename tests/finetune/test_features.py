"""特徴の取り出し: 手で計算した特徴との一致、学習に使えること、状態の復元、誤った引数。"""

import copy

import pytest
import torch
import torch.nn.functional as F
from finetune_kit import DEVICES, glyph_loader, moved
from torch import nn
from torchvision.models import get_model

from tlkit.finetune import extract_features
from tlkit.models import GlyphCNN


@pytest.mark.parametrize("device", DEVICES)
def test_features_equal_a_forward_by_hand(device: str) -> None:
    batches, x, y = glyph_loader()
    model = GlyphCNN(3)
    features, labels = extract_features(model, batches, device=device)
    assert features.shape == (10, 128) and features.device.type == "cpu" and torch.equal(labels, y)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(features, model.features(x.to(device)).cpu(), rtol=1e-4, atol=1e-5)


def test_features_can_train_a_classifier() -> None:
    for batch_size in (4, 16):  # バッチが一つだけのときも
        features, labels = extract_features(GlyphCNN(3), glyph_loader(batch_size=batch_size)[0])
        assert not features.is_inference() and not labels.is_inference() and not features.requires_grad
        head = nn.Linear(128, 3)
        F.cross_entropy(head(features), labels).backward()
        assert head.weight.grad is not None and head.weight.grad.abs().sum() > 0


def test_training_flags_come_back_one_by_one() -> None:
    model = GlyphCNN(3).train()
    model.stages[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    statistics = copy.deepcopy(model.state_dict())
    extract_features(model, glyph_loader()[0])
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
