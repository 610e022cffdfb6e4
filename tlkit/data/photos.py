"""写真。scikit-image と scikit-learn に入っているので、ネットワークなしで使える。"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from tlkit.data.labeled import LabeledImages


@dataclass(frozen=True)
class Photo:
    """1 枚の写真。

    Attributes:
        name: ファイル名から取った名前。
        title: 何が写っているかの日本語。
        image: (H, W, 3) の uint8。
    """

    name: str
    title: str
    image: np.ndarray


_TITLES = {
    "coffee": "コーヒー",
    "chelsea": "猫",
    "flower": "花",
    "china": "中国の寺院",
    "rocket": "ロケット",
    "motorcycle_left": "バイク",
    "astronaut": "宇宙飛行士",
    "retina": "網膜",
    "ihc": "組織の染色像",
}


_REINSTALL = "`pip install --force-reinstall --no-deps scikit-image scikit-learn` で入れ直してください。"


def photos(names: Sequence[str] = tuple(_TITLES)) -> list[Photo]:
    """名前を指定して写真を読み込む。省くと全部を返す。

    Raises:
        ValueError: 知らない名前のとき（使える名前を並べて知らせる）。写真が壊れているとき。
        FileNotFoundError: scikit-image か scikit-learn のファイルがないとき。
    """
    if isinstance(names, str):  # 1 文字ずつの名前とみなされるのを防ぐ
        raise ValueError(f'文字列 {names!r} が渡されました。1 枚でも ("{names}",) のように組で渡してください。')
    unknown = [name for name in names if name not in _TITLES]
    if unknown:
        raise ValueError(f"写真 {unknown} はありません。使える名前は {list(_TITLES)} です。")
    return [Photo(name, _TITLES[name], _read(name)) for name in names]


def photo_images(size: int = 128) -> LabeledImages:
    """写真を中央の正方形に切り、size×size にそろえたもの。1 枚を 1 クラスとみなし、クラス名は写っているものである。

    Returns:
        images は (9, 3, size, size)、0 から 1 の RGB。

    Raises:
        ValueError: size が正の整数でないとき。写真が壊れているとき。
        FileNotFoundError: scikit-image か scikit-learn のファイルがないとき。
    """
    from PIL import Image, ImageOps

    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size に {size!r} が渡されました。1 以上の整数（例: 128）を指定してください。")
    every = photos()
    squares = [np.asarray(ImageOps.fit(Image.fromarray(photo.image), (size, size))) for photo in every]
    images = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float().div(255).contiguous()
    source = "scikit-image と scikit-learn に同梱の写真。利用条件は写真ごとに違う（各パッケージの説明にある）"
    return LabeledImages("photos", images, torch.arange(len(every)), tuple(photo.title for photo in every), source)


def _read(name: str) -> np.ndarray:
    from PIL import Image

    path = _locate(name)
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # PIL は、壊れた PNG を SyntaxError で知らせることがある
        raise ValueError(f"写真 {path.name} が読めません（{error}）。ファイルが壊れています。{_REINSTALL}") from error


def _locate(name: str) -> Path:
    """同梱のフォルダだけを探す。skimage.data の関数は、無いファイルを取りに行くことがあるので使わない。"""
    places = {"skimage": "data", "sklearn": "datasets/images"}
    found = {module: find_spec(module) for module in places}
    folders = [Path(spec.origin).parent / places[module] for module, spec in found.items() if spec and spec.origin]
    for folder in folders:
        for suffix in (".png", ".jpg"):
            if (path := folder / (name + suffix)).is_file():
                return path
    raise FileNotFoundError(f"写真 {name} が見つかりません。{_REINSTALL}")
