"""写真。scikit-image と scikit-learn に入っているので、ネットワークなしで使える。"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


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


def photos(names: tuple[str, ...] = tuple(_TITLES)) -> list[Photo]:
    """名前を指定して写真を読み込む。省くと全部を返す。

    Raises:
        ValueError: 知らない名前のとき。使える名前を並べて知らせる。
        FileNotFoundError: scikit-image か scikit-learn のファイルがないとき。
    """
    unknown = [name for name in names if name not in _TITLES]
    if unknown:
        raise ValueError(f"写真 {unknown} はありません。使える名前は {list(_TITLES)} です。")
    return [Photo(name, _TITLES[name], _read(name)) for name in names]


def _read(name: str) -> np.ndarray:
    from PIL import Image

    with Image.open(_locate(name)) as image:
        return np.asarray(image.convert("RGB"))


def _locate(name: str) -> Path:
    """同梱のフォルダだけを探す。skimage.data の関数は、無いファイルを取りに行くことがあるので使わない。"""
    import skimage
    import sklearn

    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    for folder in folders:
        for suffix in (".png", ".jpg"):
            if (path := folder / (name + suffix)).is_file():
                return path
    raise FileNotFoundError(
        f"写真 {name} が見つかりません。`pip install --force-reinstall scikit-image scikit-learn` で入れ直してください。"
    )
