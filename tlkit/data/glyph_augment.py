"""文字の画像を、手書きのばらつきに近づける変形。傾き、線の太さ、弱い雑音を、画像ごとに乱数で決める。

バッチをまとめて計算する。乱数は generator だけから引くので、種が同じなら結果も同じになる。
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = 15.0  # [度]
SHEAR = 0.3  # 横ずれ ÷ 高さ
LOG_SCALE = 0.2  # 拡大率の対数。縦と横を別々に決める
SHIFT = 2.0  # [画素]（一辺 28 画素のとき）
THINNEST = -0.5  # 太さの下限。−1 まで細めると、細い書体の線が消えてしまう
NOISE = 0.05  # 画素値の標準偏差の上限


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """画像ごとに違う変形を加える。元の画像は変えない。

    順に、線の太さ（細める・そのまま・太らせるの混合）、アフィン変換（回転、横ずれ、縦横の拡大、移動）、正規分布の雑音を加える。

    Args:
        images: (N, 1, H, W)。画素値は 0（背景）から 1（筆跡）。
        generator: CPU の乱数生成器。

    Returns:
        同じ形、dtype、装置の画像。画素値は 0 から 1。

    Raises:
        ValueError: 形が (N, 1, H, W) でないとき。
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"形 {tuple(images.shape)} の画像が渡されました。(N, 1, H, W) にしてください。")
    moved = _affine(_thickness(images, generator), generator)
    strength = NOISE * torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = strength * torch.randn(images.shape, generator=generator)
    return (moved + noise.to(moved)).clamp(0, 1)


def _thickness(images: Tensor, generator: torch.Generator) -> Tensor:
    """太さ t が負なら細め、正なら太らせる。元の画像と、3×3 の最小値・最大値を |t| の割合で混ぜる。"""
    uniform = torch.rand(len(images), 1, 1, 1, generator=generator)
    amount = (THINNEST + (1 - THINNEST) * uniform).to(images)
    thick = F.max_pool2d(images, 3, stride=1, padding=1)
    thin = -F.max_pool2d(-images, 3, stride=1, padding=1)
    mixed = torch.where(amount > 0, torch.lerp(images, thick, amount), torch.lerp(images, thin, -amount))
    return mixed / mixed.amax(dim=(1, 2, 3), keepdim=True).clamp(min=0.1)  # 細めても、線の濃さは保つ


def _affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """出力の画素 p を、入力の A·p + b から取る（座標は中央を 0、端を ±1 とする）。"""
    draw = 2 * torch.rand(6, len(images), generator=generator) - 1
    angle, shear = draw[0] * math.radians(ROTATION), draw[1] * SHEAR
    width, height = (draw[2:4] * LOG_SCALE).exp()
    shift = draw[4:6] * SHIFT * 2 / 28
    cos, sin = angle.cos(), angle.sin()
    rows = [cos / width, (shear * cos - sin) / width, shift[0], sin / height, (shear * sin + cos) / height, shift[1]]
    matrix = torch.stack(rows, dim=1).reshape(-1, 2, 3).to(images)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
