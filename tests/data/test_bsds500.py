"""MNIST-M の写真を手元の BSDS500 に替えること: 公式の置き方、無いとき、壊れているとき。"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tlkit import data
from tlkit.data.mnist_m import blend, bsds500_photos


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def lay_bsds(tmp_path: Path) -> Callable[[Path], list[np.ndarray]]:
    """公式の置き方の小さな BSDS500 を root の下に作る。縦長も横長もあり、正解の境界線などの余計なファイルもある。"""

    def lay(root: Path) -> list[np.ndarray]:
        images = root / "BSDS500" / "data" / "images"
        sizes = {"train/2092": (31, 48), "train/8049": (48, 31), "val/3096": (31, 48), "test/2018": (48, 31)}
        decoded = []
        for seed, (place, size) in enumerate(sizes.items()):
            path = images / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            Image.fromarray(picture(*size, seed=seed)).save(buffer, "JPEG")
            path.write_bytes(buffer.getvalue())
            (path.parent / "Thumbs.db").write_bytes(b"not a photo")
            decoded.append(np.asarray(Image.open(buffer)))
        return decoded

    return lay


def test_bsds500_photos_are_read_from_the_official_layout(
    tmp_path: Path, lay_bsds: Callable[[Path], list[np.ndarray]]
) -> None:
    expected = lay_bsds(tmp_path / "own")
    ours = bsds500_photos(tmp_path / "own")
    assert [photo.name for photo in ours] == ["2092", "8049", "3096", "2018"]
    assert all(np.array_equal(photo.image, image) for photo, image in zip(ours, expected, strict=True))


def test_bsds500_in_the_cache_is_a_switch_of_the_same_code(
    own_cache: Path, lay_bsds: Callable[[Path], list[np.ndarray]]
) -> None:
    scenes = lay_bsds(own_cache)
    ours = data.load("mnist_m", photos="bsds500")
    assert torch.equal(ours.images, blend(data.mnist5k().images, scenes, seed=0))
    assert "写真 4 枚" in ours.source


def test_missing_bsds500_says_where_to_put_it(own_cache: Path) -> None:
    with pytest.raises(data.DataUnavailableError, match=r"BSR_bsds500\.tgz.*photos を省く") as caught:
        data.load("mnist_m", photos="bsds500")
    assert f"{own_cache} に置いてください" in str(caught.value)
    assert not own_cache.exists()


@pytest.mark.parametrize("kept", [0, 200, -60])
def test_broken_bsds500_photo_is_named(tmp_path: Path, lay_bsds: Callable[[Path], list[np.ndarray]], kept: int) -> None:
    lay_bsds(tmp_path)
    path = tmp_path / "BSDS500" / "data" / "images" / "val" / "3096.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"3096\.jpg が読めません.*取り直して"):
        bsds500_photos(tmp_path)
