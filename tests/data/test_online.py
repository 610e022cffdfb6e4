"""取りに行くデータ集合: 中身、置き場所、ネットワークに触れないこと、誤った引数。"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_mirror import COUNT, Mirror

from tlkit import data
from tlkit.data import download

ONLINE = data.names("オンライン")


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "urlopen", lambda *a, **k: pytest.fail("ネットワークに触れました"))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ONLINE)
def test_every_set_gives_the_official_pictures(mirror: Mirror, name: str, split: str) -> None:
    expected, labels = mirror.arrays[name, split]
    ours = data.load(name, split=split)
    assert ours.name == name and ours.images.dtype == torch.float32 and ours.labels.dtype == torch.int64
    np.testing.assert_allclose(ours.images.numpy(), expected, atol=1e-6)
    assert ours.labels.tolist() == labels.tolist() and len(ours.classes) == 10


def test_train_is_the_default(mirror: Mirror) -> None:
    assert torch.equal(data.load("usps").images, data.load("usps", split="train").images)
    assert not torch.equal(data.load("usps").images, data.load("usps", split="test").images)


@pytest.mark.parametrize("name", ONLINE)
def test_second_load_never_touches_the_network(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    first = data.load(name, split="test")
    no_network(monkeypatch)
    for allowed in (True, False):
        assert torch.equal(data.load(name, split="test", download=allowed).images, first.images)


def test_each_set_has_its_folder_under_one_root(mirror: Mirror, own_cache: Path) -> None:
    for name in ONLINE:
        data.load(name, split="test")
    found = sorted(path.relative_to(own_cache).as_posix() for path in own_cache.rglob("*") if path.is_file())
    images, labels = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
    mnist_like = [f"{kind}/raw/{name}" for kind in ("FashionMNIST", "MNIST") for name in (images, labels)]
    assert found == sorted([*mnist_like, "SVHN/test_32x32.mat", "USPS/usps.t.bz2"])


def test_only_the_files_of_the_split_are_fetched(mirror: Mirror) -> None:
    data.load("mnist", split="test")
    assert mirror.requests == ["mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz"]


def test_files_that_torchvision_fetched_are_used(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    datasets.MNIST(str(tmp_path / "own"), train=True, download=True)
    no_network(monkeypatch)
    ours = data.load("mnist", split="train", root=tmp_path / "own")
    np.testing.assert_allclose(ours.images.numpy(), mirror.arrays["mnist", "train"][0], atol=1e-6)


@pytest.mark.parametrize("name", ONLINE)
def test_without_download_a_missing_set_is_told(name: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch)
    with pytest.raises(data.DataUnavailableError, match=r"がありません。download=True.*\n.*同梱の data\.load"):
        data.load(name, download=False)
    assert not own_cache.exists()


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("option", [{"split": "extra"}, {"split": None}, {"download": "no"}, {"train": True}])
def test_wrong_options_are_refused(name: str, option: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch)
    (key,) = option
    with pytest.raises(ValueError, match=key):
        data.load(name, **option)


def test_a_broken_file_of_one_part_leaves_the_other_parts(mirror: Mirror, own_cache: Path) -> None:
    data.load("mnist", split="test")
    data.load("mnist", split="train")
    folder = own_cache / "MNIST" / "raw"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = folder / "t10k-labels-idx1-ubyte.gz"
    broken.write_bytes(before[broken.name][:-3])
    with pytest.raises(data.DataCorruptedError, match=r"t10k-labels-idx1-ubyte\.gz が壊れています"):
        data.load("mnist", split="test")
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    (aside,) = set(left) - set(before)
    assert left.pop(aside) == before[broken.name][:-3]
    assert left == {name: content for name, content in before.items() if name != broken.name}
    assert len(data.load("mnist", split="test").images) == COUNT


@pytest.fixture
def real_mnist(tmp_path: Path) -> Path:
    """テストの側の 2 ファイルだけがある置き場所。"""
    folder = tmp_path / "real" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("images-idx3", "labels-idx1"):
        shutil.copy(Path(os.environ["TLKIT_TEST_DATA"]) / "mnist-t10k" / f"t10k-{part}-ubyte.gz", folder)
    return tmp_path / "real"


@pytest.mark.realdata
def test_real_mnist_test_split_loads_without_the_train_files(real_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch)
    ours = data.load("mnist", split="test", root=real_mnist)
    assert ours.images.shape == (10_000, 1, 28, 28)
    assert ours.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert ours.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert ours.images.min() == 0 and ours.images.max() == 1
    with pytest.raises(data.DataUnavailableError, match="train-images-idx3"):
        data.load("mnist", split="train", download=False, root=real_mnist)


@pytest.mark.realdata
def test_one_wrong_bit_in_the_real_file_is_noticed(real_mnist: Path) -> None:
    path = real_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DataCorruptedError, match="9fb629c4189551a2d022fa330f9573f3"):
        data.load("mnist", split="test", root=real_mnist)
