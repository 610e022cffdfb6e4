"""MNIST-M: 数字と、カラー写真の切れはしとの差の絶対値（Ganin ほか 2016、JMLR 17、arXiv:1505.07818）。

論文は写真に BSDS500 を使う。ここでは同梱の写真で作り、BSDS500 が手元にあれば同じ関数で使う。
数字の読み込みは digits.py と online.py、写真は photos.py、ほかの数字との形合わせは domains.py にある。
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlkit.data.digits import mnist5k
from tlkit.data.errors import DataUnavailableError
from tlkit.data.files import cache_root
from tlkit.data.labeled import LabeledImages
from tlkit.data.online import mnist
from tlkit.data.photos import Photo, photos

# 設定を選ぶときの写真と、結果を出すときの写真は、重ならないように分けておく。
TARGET_PHOTOS = ("coffee", "chelsea", "motorcycle_left", "astronaut", "retina")
DEVELOPMENT_PHOTOS = ("china", "flower", "rocket", "ihc")
_SPLITS = ("train", "val", "test")


def blend(images: Tensor, photos: Sequence[Photo] | Sequence[np.ndarray], *, seed: int) -> Tensor:
    """数字 1 枚ごとに、写真と位置を一様に選び、|写真の切れはし − 数字| を画素とチャネルごとに求める。

    I_out[i, j, k] = |I_1[i, j] − I_2[i, j, k]|。I_1 が数字、I_2 が同じ大きさの切れはしである。
    背景（数字が 0）には写真がそのまま、筆跡（数字が 1）には写真の反転した色が出る。

    Args:
        images: (N, 1, H, W)。0 から 1 の浮動小数。0 が背景である。
        photos: 写真。`Photo` か (高さ, 幅, 3) の uint8 の配列。どれも H×W 以上の大きさ。
        seed: 乱数の種。ここだけの乱数を使うので、ほかの乱数の列は動かない。

    Returns:
        (N, 3, H, W)。0 から 1。dtype と device は images と同じ。

    Raises:
        ValueError: images の形や値が違うとき。写真が 1 枚も無いか、形が違うか、数字より小さいとき。
    """
    _check_images(images)
    count, _, height, width = images.shape
    scenes = [_scene(photo, height, width) for photo in photos]
    if not scenes:
        raise ValueError("photos が空です。1 枚以上の写真（例: tlkit.data.photos()）を渡してください。")
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(scenes), (count,), generator=random)
    corner = torch.rand(count, 2, generator=random, dtype=torch.float64)
    blended = images.new_empty(count, 3, height, width)
    for number, scene in enumerate(scenes):
        mine = (chosen == number).nonzero().flatten()
        patches = _patches(scene, corner[mine], height, width).to(images)
        where = mine.to(images.device)
        blended[where] = patches.div_(255).sub_(images[where]).abs_()
    return blended


def mnist_m(
    split: str = "all",
    *,
    photos: str | Sequence[str | Photo] = TARGET_PHOTOS,
    digits: str = "mnist5k",
    seed: int = 0,
) -> LabeledImages:
    """MNIST-M。数字の並びとラベルは、元の数字のデータ集合のまま。(N, 3, 28, 28)、0 から 1 の RGB。

    同梱の数字と写真で作るので、論文の MNIST-M と画像は違う。論文の作り方は digits="mnist"、photos="bsds500" である。
    白黒の数字と違い、「0 が背景」という約束はない。並びはラベルの順（mnist5k）なので、分けるときは並べ替えること。

    Args:
        split: digits="mnist5k" なら "all"。digits="mnist" なら "train" か "test"。
        photos: 同梱の写真の名前か `Photo` を並べた組。または "bsds500"（`bsds500_photos` の全部）。
        digits: "mnist5k"（同梱、5,000 枚）か "mnist"（オンライン、60,000 枚と 10,000 枚）。
        seed: 写真と位置を選ぶ乱数の種。

    Raises:
        ValueError: split、digits、photos が違うとき。
        DataUnavailableError: MNIST か BSDS500 が手元に無く、取りにも行けないとき。
    """
    scenes = _photos(photos)
    source = _digits(digits, split)
    images = blend(source.images, scenes, seed=seed)
    origin = f"{source.source}。写真 {len(scenes)} 枚と重ねた。作り方は Ganin ほか 2016（arXiv:1505.07818）"
    return LabeledImages("mnist_m", images, source.labels, source.classes, origin)


def bsds500_photos(root: str | Path | None = None) -> list[Photo]:
    """手元の BSDS500（Arbeláez ほか 2011）の写真。公式の置き方で、root の下の BSDS500/data/images/ にあるもの。

    論文はどの分け方の写真を使ったかを書いていないので、train、val、test の全部（公式では 500 枚）を使う。

    Args:
        root: BSDS500 フォルダを置いた場所。省くとキャッシュフォルダ（環境変数 TLKIT_DATA で変えられる）。

    Raises:
        DataUnavailableError: 写真が 1 枚も無いとき。取りには行かない。
        ValueError: 写真が壊れているとき。
    """
    folder = (cache_root() if root is None else Path(root).expanduser()) / "BSDS500" / "data" / "images"
    paths = [path for split in _SPLITS for path in sorted((folder / split).glob("*.jpg"))]
    if not paths:
        raise DataUnavailableError(
            f"BSDS500 の写真が {folder} の train、val、test にありません。カリフォルニア大学バークレー校の "
            "Berkeley Segmentation Data Set のページから BSR_bsds500.tgz を取り、"
            f"中の BSDS500 フォルダを {folder.parents[2]} に置いてください。"
            "置かずに続けるには、photos を省くと同梱の写真を使います。"
        )
    return [Photo(path.stem, f"BSDS500 の {path.parent.name}/{path.stem}", _read(path)) for path in paths]


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
        raise ValueError(
            f"images に形 {tuple(images.shape)}、{images.dtype} が渡されました。"
            "(N, 1, H, W) の浮動小数の白黒画像を渡してください。"
        )
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):  # NaN もここで断る
        low, high = images.min().item(), images.max().item()
        raise ValueError(
            f"images の値が {low:.4g} から {high:.4g} です。0 から 1 が必要です。標準化の前の画像を渡してください。"
        )


def _scene(photo: Photo | np.ndarray, height: int, width: int) -> Tensor:
    """写真を (3, 高さ, 幅) の uint8 にする。"""
    name = f"写真 {photo.name}" if isinstance(photo, Photo) else "写真"
    pixels = photo.image if isinstance(photo, Photo) else np.asarray(photo)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"{name} の形が {pixels.shape}、型が {pixels.dtype} です。(高さ, 幅, 3) の uint8 の配列を渡してください。"
        )
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise ValueError(
            f"{name} は {pixels.shape[0]}×{pixels.shape[1]} で、数字の {height}×{width} より小さいため、"
            "切り出せません。数字より大きい写真を渡してください。"
        )
    return torch.tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)  # 左右を返した写真など、負の歩幅も受け取る


def _patches(scene: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    """写真から (M, 3, height, width) を切り出す。corner は (M, 2) で、左上の位置を 0 以上 1 未満の割合で表す。"""
    room = torch.tensor([scene.shape[1] - height + 1, scene.shape[2] - width + 1])
    top, left = (corner * room).long().unbind(dim=1)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    return scene[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def _digits(digits: str, split: str) -> LabeledImages:
    if digits == "mnist5k":
        if split != "all":
            raise ValueError(f'split に {split!r} が渡されました。mnist5k は分かれていないので "all" だけです。')
        return mnist5k()
    if digits == "mnist":
        try:
            return mnist(split)
        except DataUnavailableError as error:
            instead = "ネットワークなしで続けるには、digits を省くと同梱の mnist5k を使います。"
            raise DataUnavailableError(f"MNIST-M の数字: {error}\n{instead}") from error.__cause__
    raise ValueError(f'digits に {digits!r} が渡されました。"mnist5k"（同梱）か "mnist" を指定してください。')


def _photos(chosen: str | Sequence[str | Photo]) -> list[Photo]:
    if isinstance(chosen, str) and chosen == "bsds500":
        return bsds500_photos()
    if isinstance(chosen, str):
        return photos(chosen)  # 文字列 1 つは、写真の窓口が断る
    if not isinstance(chosen, Sequence) or not all(isinstance(item, str | Photo) for item in chosen):
        kinds = sorted({type(item).__name__ for item in chosen}) if isinstance(chosen, Sequence) else []
        raise ValueError(
            f"photos に {type(chosen).__name__}（中身: {'、'.join(kinds) or '不明'}）が渡されました。"
            '同梱の写真の名前か Photo を並べた組、または "bsds500" を渡してください。'
        )
    return [item if isinstance(item, Photo) else photos((item,))[0] for item in chosen]


def _read(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"写真 {path} が読めません（{error}）。公式の配布から取り直してください。") from error
