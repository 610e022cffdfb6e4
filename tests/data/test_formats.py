"""公式の形式の読み取り: torchvision の読み方との一致と、形式違いの知らせ。"""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from data_mirror import Mirror, idx_gz, svhn_mat, usps_bz2
from torchvision import datasets

from tlkit.data import formats


def test_idx_reads_what_torchvision_reads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    content = idx_gz(values)
    (tmp_path / "raw").write_bytes(gzip.decompress(content))
    ours = formats.read_idx(content)
    assert np.array_equal(ours, values)
    assert np.array_equal(ours, datasets.mnist.read_sn3_pascalvincent_tensor(str(tmp_path / "raw")).numpy())


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"", "IDX 形式"),
        (b"<html>login</html>", "IDX 形式"),
        (b"\x00\x00\x0d\x01" + b"\x00\x00\x00\x01" + b"\x00" * 4, "00000d01"),
        (b"\x00\x00\x08\x01" + b"\x00\x00\x00\x09" + b"abc", "途中で切れて"),
        (b"\x00\x00\x08\x03" + b"\x00\x00\x00\x01", "途中で切れて"),
    ],
)
def test_idx_of_another_kind_is_told(raw: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        formats.read_idx(gzip.compress(raw))


def test_usps_keeps_values_that_torchvision_rounds(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    pixels = random.uniform(-1, 1, (7, 256)).round(4)
    pixels[0, :3] = (-1, 0, 1)
    content = usps_bz2(pixels, np.array([0, 9, 1, 2, 3, 4, 5]))
    images, labels = formats.read_usps(content)
    np.testing.assert_allclose(images.reshape(7, 256), (pixels + 1) / 2, atol=1e-6)
    assert labels.tolist() == [0, 9, 1, 2, 3, 4, 5]
    (tmp_path / "usps.bz2").write_bytes(content)
    official = datasets.USPS(str(tmp_path), train=True)
    assert np.abs(images * 255 - official.data).max() < 1.001  # torchvision は 256 段階に切り捨てる
    assert official.targets == labels.tolist()


def test_svhn_puts_channels_first_and_ten_back_to_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(2).integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    content = svhn_mat(images, np.array([0, 1, 9, 5, 0, 3]))
    ours, labels = formats.read_svhn(content)
    assert np.array_equal(ours, images) and labels.tolist() == [0, 1, 9, 5, 0, 3]
    (tmp_path / "test_32x32.mat").write_bytes(content)
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
    official = datasets.SVHN(str(tmp_path), split="test")
    assert np.array_equal(ours, official.data) and np.array_equal(labels, official.labels)


def test_torchvision_itself_reads_the_files_of_the_mirror(mirror: Mirror, tmp_path: Path) -> None:
    """検査用のファイルが公式の形式であることを、torchvision に取らせて確かめる。"""
    official = datasets.MNIST(str(tmp_path), train=False, download=True)
    expected, labels = mirror.arrays["mnist", "test"]
    assert torch.allclose(official.data[:, None] / 255, torch.from_numpy(expected))
    assert official.targets.tolist() == labels.tolist()
