"""データ集合を名前で呼び出す窓口。

同梱（ネットワーク不要）: "mnist5k"、"uci_digits"、写真 `photos()`。
    digits.py  数字の画像      photos.py  写真      files.py  置き場所と照合（sha256）
import しただけでは何も読み込まず、何も取りに行かない。
"""

from collections.abc import Callable

from tlkit.data.digits import LabeledImages, mnist5k, uci_digits
from tlkit.data.photos import Photo, photos

__all__ = ["LabeledImages", "Photo", "load", "mnist5k", "photos", "uci_digits"]

_LOADERS: dict[str, Callable[[], LabeledImages]] = {"mnist5k": mnist5k, "uci_digits": uci_digits}


def load(name: str) -> LabeledImages:
    """データ集合を名前で読み込む。

    Raises:
        ValueError: 知らない名前のとき。使える名前を並べて知らせる。
    """
    if name not in _LOADERS:
        known = "、".join(sorted(_LOADERS))
        raise ValueError(f"データ集合 {name!r} はありません。使える名前は {known} です。")
    return _LOADERS[name]()
