"""転移元: どの元も同じ画像を受け取り、正しい特徴と確率を返すこと。自分の重みの登録と、その照合。"""

import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from tlkit import sources as module
from tlkit.data import DataUnavailableError, uci_digits
from tlkit.models import EfficientNetLite0, GlyphCNN
from tlkit.sources import load_source, register_source, sources

EMBEDDED = {"imagenet": (1280, 1000), "glyphs": (128, 52), "uci": (128, 10), "random": (128, None)}


@pytest.fixture
def grey() -> Tensor:
    return torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, GlyphCNN]:
    """学習者が書いた重みのファイル、その sha256、元のモデル。"""
    monkeypatch.setattr(module, "_REGISTERED", {})
    torch.manual_seed(0)
    model = GlyphCNN(7, width=8).eval()
    path = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest(), model


def test_the_list_names_every_embedded_source() -> None:
    assert sources() == list(EMBEDDED)
    assert sources(online=True) == [*EMBEDDED, "coco"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_grey_and_colour_images_give_features_and_probabilities(name: str, grey: Tensor) -> None:
    source, (width, classes) = load_source(name), EMBEDDED[name]
    for images in (grey, grey.expand(-1, 3, -1, -1), torch.rand(2, 3, 40, 50)):
        features = source.features(images)
        assert features.shape == (len(images), width) and torch.isfinite(features).all()
        assert not features.is_inference() and not features.requires_grad
        if classes is not None:
            p = source.probabilities(images)
            assert p.shape == (len(images), classes)
            torch.testing.assert_close(p.sum(1), torch.ones(len(images)))
    assert (source.probabilities is None) == (classes is None)
    torch.testing.assert_close(source.features(grey), source.features(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_imagenet_source_is_lite0_with_its_own_normalisation(grey: Tensor) -> None:
    large = F.interpolate(grey.expand(-1, 3, -1, -1), size=96, mode="bilinear", align_corners=False) * 2 - 1
    model, source = EfficientNetLite0().eval(), load_source("imagenet")
    with torch.inference_mode():
        torch.testing.assert_close(source.features(grey), model.features(large), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(source.probabilities(grey), model(large).softmax(1), rtol=1e-4, atol=1e-6)


def test_batches_do_not_change_the_result() -> None:
    images = torch.rand(300, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    source = load_source("glyphs")
    whole = source.features(images)
    torch.testing.assert_close(whole[130:260], source.features(images[130:260]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, GlyphCNN.pretrained("letters").features(images).detach(), rtol=1e-4, atol=1e-5)


def test_uci_source_knows_the_digits_it_was_trained_on() -> None:
    digits = uci_digits()
    answers = load_source("uci").probabilities(digits.images).argmax(1)
    assert (answers == digits.labels).float().mean() > 0.97


def test_random_source_is_fixed_and_calibrated(grey: Tensor) -> None:
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = load_source("random").features(grey)
    assert torch.equal(torch.get_rng_state(), state), "呼び出した側の乱数を進めています"
    torch.manual_seed(456)
    assert torch.equal(load_source("random").features(grey), first)
    features = load_source("random").features(uci_digits().images)
    assert features.std(0).mean() > 0.1  # 画像ごとの違いが、層を通るうちに消えていない


def test_own_weights_become_a_source(own, grey: Tensor) -> None:
    path, digest, model = own
    source = register_source("mine", path, digest.upper())
    assert sources() == [*EMBEDDED, "mine"]
    again = load_source("mine")
    with torch.inference_mode():
        assert torch.equal(source.features(grey), model.features(grey))
        assert torch.equal(again.probabilities(grey), model(grey).softmax(1))


def test_own_weights_are_checked_again_when_loaded(own) -> None:
    path, digest, _ = own
    register_source("mine", path, digest)
    save_file(GlyphCNN(7, width=8).state_dict(), path)
    with pytest.raises(ValueError, match="記録と違います"):
        load_source("mine")


@pytest.mark.parametrize("name", ["imagenet", "coco", ""])
def test_embedded_names_cannot_be_taken(own, name: str) -> None:
    with pytest.raises(ValueError, match="使えません"):
        register_source(name, own[0], own[1])


def test_wrong_files_are_refused_and_not_registered(own, tmp_path: Path) -> None:
    path, digest, _ = own
    pickled = tmp_path / "mine.pth"
    torch.save({"x": 1}, pickled)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    bent = tmp_path / "bent.safetensors"
    save_file({**own[2].state_dict(), "head.1.weight": torch.zeros(128, 5)}, bent)
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not safetensors")
    cases = [
        (path, "0" * 64, ValueError, "記録と違います"),
        (pickled, _sha(pickled), ValueError, "safetensors のファイルが必要"),
        (other, _sha(other), ValueError, "GlyphCNN の重みではありません"),
        (bent, _sha(bent), ValueError, r"head.1.weight の形が \(128, 5\)"),
        (garbage, _sha(garbage), ValueError, "safetensors として読めません"),
        (tmp_path / "none.safetensors", digest, FileNotFoundError, "見つかりません"),
    ]
    for file, sha256, error, message in cases:
        with pytest.raises(error, match=message):
            register_source("mine", file, sha256)
    assert "mine" not in sources()


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'cifar'.*imagenet.*register_source"):
        load_source("cifar")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 28, 28), r"\(2, 28, 28\)"),
        (torch.zeros(0, 1, 28, 28), "1 枚以上"),
        (torch.zeros(2, 2, 28, 28), r"\(2, 2, 28, 28\)"),
        (torch.full((1, 1, 28, 28), 255.0), "0〜1 の画像"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_source("glyphs").features(images)


def test_coco_needs_a_network_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setenv("TLKIT_DATA", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", cut)
    with pytest.raises(DataUnavailableError, match="coco の重みを取りに行けません"):
        load_source("coco")


def test_coco_features_come_from_the_stored_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grey: Tensor
) -> None:
    from torchvision.models import detection

    monkeypatch.setenv("TLKIT_DATA", str(tmp_path))
    torch.manual_seed(0)
    detector = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    url = detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1.url
    folder = tmp_path / "torch-hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(detector.state_dict(), folder / Path(url).name)
    source = load_source("coco")
    features = source.features(grey)
    assert features.shape == (3, 960) and source.probabilities is None
    large = F.interpolate(grey.expand(-1, 3, -1, -1), size=96, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        maps = list(detector.eval().backbone.body((large - mean) / std).values())
    want = maps[-1].mean(dim=(2, 3))
    scale = want.std()  # 乱数の重みでは値がとても小さいので、そろえてから比べる
    torch.testing.assert_close(features / scale, want / scale, rtol=1e-3, atol=1e-3)
