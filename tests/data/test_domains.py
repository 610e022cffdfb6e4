"""数字のドメイン: どの名前でも同じ形になること、画素の値、誤った引数。"""

import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from data_mirror import COUNT, Mirror
from torchvision.transforms.v2 import functional as tv

from tlkit import data
from tlkit.data.domains import DIGIT_DOMAINS, digit_domain
from tlkit.data.mnist_m import mnist_m

EMBEDDED = tuple(name for name in DIGIT_DOMAINS if name in data.names("同梱"))
ONLINE = tuple(name for name in DIGIT_DOMAINS if name in data.names("オンライン"))


def is_common_form(ours: data.LabeledImages, count: int, size: int) -> bool:
    images = ours.images
    in_range = bool(images.min() >= 0 and images.max() <= 1)
    return images.shape == (count, 3, size, size) and images.dtype == torch.float32 and in_range


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_domain_has_the_common_form(name: str, size: int) -> None:
    ours, plain = digit_domain(name, size=size), data.load(name)
    assert is_common_form(ours, len(plain.labels), size)
    assert ours.name == name and ours.classes == tuple("0123456789") and torch.equal(ours.labels, plain.labels)
    assert torch.equal(ours.images, digit_domain(name, size=size).images)


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("name", ONLINE)
def test_online_domain_has_the_common_form(mirror: Mirror, name: str, size: int) -> None:
    ours = digit_domain(name, size=size, split="test")
    assert is_common_form(ours, COUNT, size)
    assert torch.equal(ours.labels, data.load(name, split="test").labels)


def test_grey_digits_become_three_equal_channels_without_other_change() -> None:
    ours, plain = digit_domain("mnist5k").images, data.mnist5k().images
    assert all(torch.equal(ours[:, [channel]], plain) for channel in range(3))
    colours = digit_domain("mnist_m").images
    assert torch.equal(colours, mnist_m().images)
    assert not torch.equal(colours[:, 0], colours[:, 1])


@pytest.mark.parametrize("name", ["uci_digits", "usps", "mnist"])
def test_grey_domain_stays_grey_after_the_resize(mirror: Mirror, name: str) -> None:
    images = digit_domain(name, size=32).images
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    plain = data.load(name).images
    assert (images.mean(dim=(1, 2, 3)) - plain.mean(dim=(1, 2, 3))).abs().max() < 0.03


def test_growing_interpolates_and_adds_no_margin() -> None:
    ours, plain = digit_domain("mnist5k", size=32).images[::500], data.mnist5k().images[::500]
    torch.testing.assert_close(ours, F.interpolate(plain, size=32, mode="bilinear").expand(-1, 3, -1, -1))
    assert (ours.mean(dim=(1, 2, 3)) - plain.mean(dim=(1, 2, 3))).abs().max() < 0.01  # 余白を足せば 4 分の 3 になる


def test_shrinking_is_antialiased(mirror: Mirror) -> None:
    ours, plain = digit_domain("svhn", split="train").images, data.load("svhn", split="train").images
    torch.testing.assert_close(ours, tv.resize(plain, [28, 28], antialias=True), atol=1e-5, rtol=0)
    assert not torch.allclose(ours, tv.resize(plain, [28, 28], antialias=False), atol=1e-2)


def test_options_reach_the_data_set() -> None:
    assert torch.equal(digit_domain("mnist_m", seed=5).images, mnist_m(seed=5).images)
    with pytest.raises(ValueError, match="引数 split が渡されました"):
        digit_domain("uci_digits", split="test")


@pytest.mark.parametrize("name", ["glyphs", "fashion_mnist", "cifar10"])
def test_other_sets_are_refused_with_the_usable_names(name: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        digit_domain(name)
    assert all(known in str(caught.value) for known in DIGIT_DOMAINS)


@pytest.mark.parametrize("size", [16, 0, "28"])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="28 か 32"):
        digit_domain("mnist5k", size=size)


@pytest.mark.realdata
def test_real_mnist_becomes_a_domain_and_a_target(own_cache: Path) -> None:
    folder = own_cache / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("images-idx3", "labels-idx1"):
        shutil.copy(Path(os.environ["TLKIT_TEST_DATA"]) / "mnist-t10k" / f"t10k-{part}-ubyte.gz", folder)
    source = digit_domain("mnist", split="test", download=False)
    target = digit_domain("mnist_m", digits="mnist", split="test", size=32)
    assert is_common_form(source, 10_000, 28) and is_common_form(target, 10_000, 32)
    assert torch.equal(source.labels, target.labels)
    mean, spread = target.images.mean().item(), target.images.std().item()
    assert 0.2 < mean < 0.7 and spread > 0.15  # 写真の背景があるので、白黒の数字（平均 0.13）よりずっと明るい
    assert source.images.mean().item() == pytest.approx(0.1325, abs=1e-3)
