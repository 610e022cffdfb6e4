"""TransferModel: 形、元のネットワークとの一致、重みの一致、前処理、ネットワークなしでの知らせ方。"""

import socket
import urllib.error
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from tlkit import data
from tlkit.data import DataCorruptedError, DataUnavailableError
from tlkit.models import EfficientNetLite0, TransferModel, imagenet_input

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
# 分類の層の置き方が違うものを、一つずつ（名前、入力の一辺、特徴の次元）
BACKBONES = [
    ("resnet18", 64, 512),
    ("regnet_y_400mf", 64, 440),
    ("shufflenet_v2_x0_5", 64, 1024),
    ("mobilenet_v2", 64, 1280),
    ("mobilenet_v3_small", 64, 1024),
    ("efficientnet_b0", 64, 1280),
    ("convnext_tiny", 64, 768),
    ("densenet121", 64, 1024),
    ("mnasnet0_5", 64, 1280),
    ("squeezenet1_1", 64, 512),
    ("googlenet", 64, 1024),
    ("inception_v3", 128, 2048),
    ("alexnet", 64, 4096),
    ("swin_t", 64, 768),
    ("vit_b_32", 224, 768),
    ("maxvit_t", 224, 512),
]


@pytest.mark.parametrize(("name", "size", "width"), BACKBONES)
def test_any_torchvision_backbone_gives_features_and_logits(name: str, size: int, width: int) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = TransferModel(7, name, weights=None).eval()
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        features = model.features(x)
        assert features.shape == (2, width) and model.num_features == width
        torch.testing.assert_close(model(x), model.classifier(features))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "densenet121"])
def test_features_are_the_input_of_the_original_head(name: str) -> None:
    """外した分類の層を元の重みで掛け直すと、元のネットワークのロジットになる。"""
    torch.manual_seed(0)
    whole = models.get_model(name, weights=None).eval()
    head = [m for m in whole.modules() if isinstance(m, torch.nn.Linear)][-1]
    model = TransferModel(1000, name, weights=None).eval()
    missing = model.backbone.load_state_dict(whole.state_dict(), strict=False)
    assert missing.missing_keys == [] and len(missing.unexpected_keys) == 2  # 分類の層の重みとバイアスだけ
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(head(model.features(x)), whole(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_default_backbone_carries_the_imagenet_weights(device: str) -> None:
    model, lite = TransferModel(5).eval().to(device), EfficientNetLite0().eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = model.features(model.normalize(x.to(device)))
        assert features.shape == (2, 1280) and model(x.to(device)).shape == (2, 5)
        torch.testing.assert_close(features.cpu(), lite.features(x * 2 - 1), rtol=1e-3, atol=1e-4)


def test_default_freezes_all_but_the_last_stage_and_the_head() -> None:
    model = TransferModel(5, weights=None)
    learning = {
        name.removeprefix("backbone.").split(".0")[0] for name, p in model.named_parameters() if p.requires_grad
    }
    assert learning == {"stages.6", "head", "head.1.weight", "head.1.bias", "classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(("freeze", "share"), [("all", 0.0), ("none", 1.0)])
def test_freeze_is_handed_on(freeze: str, share: float) -> None:
    model = TransferModel(5, freeze=freeze, weights=None)
    flags = [p.requires_grad for p in model.backbone.parameters()]
    assert sum(flags) / len(flags) == share and model.classifier.weight.requires_grad


def test_photo_becomes_the_input_of_the_weights() -> None:
    photo = data.photos(("chelsea",))[0].image
    lite = TransferModel(2, weights=None)
    assert torch.equal(lite.input_transform(photo), imagenet_input(photo))
    resnet = TransferModel(2, "resnet18", weights=None)
    prepared = resnet.input_transform(photo)
    official = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert torch.equal(prepared, official(torch.from_numpy(photo.copy()).permute(2, 0, 1)))
    grey = resnet.normalize(torch.full((1, 3, 2, 2), 0.5))
    assert grey[0, :, 0, 0].tolist() == pytest.approx(
        [(0.5 - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TransferModel(0), "num_classes に 0"),
        (lambda: TransferModel(3, "resnet19", weights=None), "'resnet19' はありません.*resnet18"),
        (lambda: TransferModel(3, "raft_large", weights=None), "'raft_large' はありません"),
        (lambda: TransferModel(3, "resnet18", weights="V9"), "'V9' はありません.*IMAGENET1K_V1"),
        (lambda: TransferModel(3, weights="V9"), "'V9'"),
        (lambda: TransferModel(3, freeze="some", weights=None), "'some'"),
        (lambda: TransferModel(3, weights=None)(torch.rand(2, 1, 28, 28)), r"\(2, 1, 28, 28\).*expand"),
        (lambda: TransferModel(3, weights=None).input_transform(np.zeros((4, 4))), "uint8"),
    ],
)
def test_wrong_arguments_are_explained(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- 重みの取得


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLKIT_DATA", str(tmp_path))
    return tmp_path


def test_missing_network_names_the_backbone_that_works(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "urlopen", cut)
    hub, timeout = torch.hub.get_dir(), socket.getdefaulttimeout()
    with pytest.raises(DataUnavailableError, match=r"resnet18 の重みを取りに行けません.*efficientnet_lite0"):
        TransferModel(3, "resnet18")
    assert torch.hub.get_dir() == hub and socket.getdefaulttimeout() == timeout


def test_damaged_download_is_told_and_not_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Reply(io.BytesIO):
        headers: dict[str, str] = {}  # noqa: RUF012

        def info(self) -> "Reply":
            return self

        def get_all(self, name: str) -> None:
            return None

    monkeypatch.setattr(torch.hub, "urlopen", lambda *args, **kwargs: Reply(b"half a file"))
    with pytest.raises(DataCorruptedError, match="壊れて届きました"):
        TransferModel(3, "resnet18")
    assert [path for path in own_cache.rglob("*") if path.is_file()] == []


def test_stored_weights_are_used_without_a_network(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "urlopen", lambda *args, **kwargs: pytest.fail("ネットワークに触れました"))
    torch.manual_seed(1)
    whole = models.get_model("squeezenet1_1", weights=None)
    stored = own_cache / "torch-hub" / "checkpoints" / Path(models.SqueezeNet1_1_Weights.DEFAULT.url).name
    stored.parent.mkdir(parents=True)
    torch.save(whole.state_dict(), stored)
    for weights in ("default", "IMAGENET1K_V1"):
        model = TransferModel(3, "squeezenet1_1", weights=weights)
        assert torch.equal(model.backbone.features[0].weight, whole.features[0].weight)
