"""写真と質感の切り抜き。同じ場所が学習とテストの両方に入らないように、画像を半分に分けてから切り抜く。

本番: 写真は、種ごとに順に、左→右、右→左、上→下、下→上（学習する半分→テストする半分）。質感は左→右だけ。
開発（設定の選択）: 写真は本番と別の画像。質感は左半分だけを使い、その上半分が学習、下半分が検証。
"""

import functools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _vision import Split
from torch import Tensor

from tlkit import data

TEXTURES = ("brick.png", "grass.png", "gravel.png")
OTHERS = ("camera.png", "coins.png", "moon.png", "hubble_deep_field.jpg", "page.png", "cell.png")
CROP = 48


@functools.cache
def scenes(name: str, development: bool) -> tuple[Tensor, ...]:
    """クラスごとに 1 枚の画像 (3, H, W)、画素値は 0 から 1。写真は短い辺を 256 画素にそろえる。"""
    if name == "textures":
        images = [_tensor(_read(texture)) for texture in TEXTURES]
        return tuple(image.tensor_split(2, dim=2)[0] if development else image for image in images)
    pixels = [_read(other) for other in OTHERS] if development else [photo.image for photo in data.photos()]
    images = [_short_side(_tensor(image), 256) for image in pixels]
    return tuple(_without_colour(image) for image in images) if name == "photos_grey" else tuple(images)


def crops(name: str, seed: int, *, development: bool, train: int, test: int) -> Split:
    """クラスごとに train 枚と test 枚を、重ならない半分から、乱数の位置で切り抜く。"""
    generator = torch.Generator().manual_seed(2000 + seed)
    direction = seed % 4 if name != "textures" else 2 if development else 0
    parts: list[list[Tensor]] = [[], []]
    images = scenes(name, development)
    for image in images:
        halves = image.tensor_split(2, dim=2 if direction < 2 else 1)
        for kept, half, count in zip(parts, halves[:: 1 - 2 * (direction % 2)], (train, test), strict=True):
            kept.append(_random_crops(half, count, generator))
    labels = [torch.arange(len(images)).repeat_interleave(count) for count in (train, test)]
    return Split(torch.cat(parts[0]), labels[0], torch.cat(parts[1]), labels[1])


def _random_crops(image: Tensor, count: int, generator: torch.Generator) -> Tensor:
    height, width = image.shape[1] - CROP + 1, image.shape[2] - CROP + 1
    rows = torch.randint(height, (count,), generator=generator).tolist()
    columns = torch.randint(width, (count,), generator=generator).tolist()
    return torch.stack([image[:, y : y + CROP, x : x + CROP] for y, x in zip(rows, columns, strict=True)])


def _read(name: str) -> np.ndarray:
    import skimage
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return np.asarray(image.convert("RGB"))


def _without_colour(image: Tensor) -> Tensor:
    return image.mean(0, keepdim=True).expand(3, -1, -1)


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float().div(255)


def _short_side(image: Tensor, size: int) -> Tensor:
    scale = size / min(image.shape[1:])
    shape = [round(side * scale) for side in image.shape[1:]]
    return F.interpolate(image[None], shape, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
