"""公式の配布元から取りに行くデータ集合: MNIST、Fashion-MNIST、USPS、SVHN。

配布元と照合値（md5）は torchvision の表を使い、置き方も torchvision と同じにする。
だから、torchvision で取ったファイルはそのまま使える。取得と照合は download.py、形式の読み取りは formats.py にある。
"""

from pathlib import Path

import numpy as np
import torch

from tlkit.data.download import RemoteFile, obtain
from tlkit.data.files import cache_root
from tlkit.data.formats import read_idx, read_svhn, read_usps
from tlkit.data.labeled import LabeledImages

_DIGITS = tuple("0123456789")
_CLOTHES = "Tシャツ ズボン プルオーバー ドレス コート サンダル シャツ スニーカー バッグ ショートブーツ"
_MNIST_PREFIX = {"train": "train", "test": "t10k"}


def mnist(split: str = "train", *, download: bool = True, root: str | Path | None = None) -> LabeledImages:
    """MNIST。手書き数字、訓練 60,000 枚とテスト 10,000 枚、(N, 1, 28, 28)。画素値は 0（背景）から 1（筆跡）。

    指定した側の 2 ファイルだけを使う。テストの側を読むのに、訓練の側は要らない。

    Args:
        split: "train" か "test"。
        download: 手元に無いとき、取りに行くか。
        root: 置き場所。この下の MNIST/raw/ に gz のまま置く。省くとキャッシュフォルダ。

    Raises:
        ValueError: split か download が違うとき。
        DataUnavailableError: 手元に無く、取りにも行けないとき。置き場所に書けないとき。
        DataCorruptedError: 手元のファイルが壊れているとき。
    """
    images, labels = _mnist_like("MNIST", split, download=download, root=root)
    return _labeled("mnist", images, labels, _DIGITS, "MNIST（LeCun, Cortes, Burges）。CC BY-SA 3.0")


def fashion_mnist(split: str = "train", *, download: bool = True, root: str | Path | None = None) -> LabeledImages:
    """Fashion-MNIST。衣料品、訓練 60,000 枚とテスト 10,000 枚、(N, 1, 28, 28)。画素値は 0（背景）から 1。

    引数と例外は `mnist` と同じ。置き場所は root の下の FashionMNIST/raw/。
    """
    images, labels = _mnist_like("FashionMNIST", split, download=download, root=root)
    source = "Fashion-MNIST（Xiao, Rasul, Vollgraf 2017、arXiv:1708.07747）。MIT"
    return _labeled("fashion_mnist", images, labels, tuple(_CLOTHES.split()), source)


def usps(split: str = "train", *, download: bool = True, root: str | Path | None = None) -> LabeledImages:
    """USPS。郵便番号の手書き数字、訓練 7,291 枚とテスト 2,007 枚、(N, 1, 16, 16)。拡大も位置合わせもしない。

    画素値は、元の −1（背景）から 1（筆跡）を (v + 1) / 2 で 0 から 1 に直す。torchvision と違い、256 段階には丸めない。
    引数と例外は `mnist` と同じ。置き場所は root の下の USPS/。
    """
    content = _single_file("USPS", split, download=download, root=root)
    images, labels = read_usps(content)
    return _labeled("usps", images[:, None], labels, _DIGITS, "USPS（Hull 1994）。LIBSVM の配布。利用条件は未確認")


def svhn(split: str = "train", *, download: bool = True, root: str | Path | None = None) -> LabeledImages:
    """SVHN。家の番号の写真を数字 1 つに切り出したもの、訓練 73,257 枚とテスト 26,032 枚、(N, 3, 32, 32)。

    画素値は 0 から 1 の RGB。背景と文字の明暗は、画像ごとに違う。訓練の側は float32 で約 900 MB になり、読み込みの途中ではその 2 倍ほど使う。
    引数と例外は `mnist` と同じ。置き場所は root の下の SVHN/。
    """
    images, labels = read_svhn(_single_file("SVHN", split, download=download, root=root))
    source = "SVHN（Netzer ほか 2011、ufldl.stanford.edu/housenumbers）。非商用に限る"
    return _labeled("svhn", images, labels, _DIGITS, source)


def _mnist_like(kind: str, split: str, *, download: bool, root: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """torchvision の MNIST と同じ置き方の 2 ファイルを読む。"""
    _check(split, download)
    from torchvision import datasets

    official = getattr(datasets, kind)
    md5s = dict(official.resources)
    folder = _root(root) / kind / "raw"
    names = (f"{_MNIST_PREFIX[split]}-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1"))
    files = [RemoteFile(name, tuple(mirror + name for mirror in official.mirrors), md5s[name]) for name in names]
    images, labels = (read_idx(obtain(file, folder, download=download)) for file in files)
    return images[:, None], labels


def _single_file(kind: str, split: str, *, download: bool, root: str | Path | None) -> bytes:
    """片側が 1 ファイルのデータ集合（USPS と SVHN）の、照合の済んだ中身。"""
    _check(split, download)
    from torchvision import datasets

    url, name, md5 = getattr(datasets, kind).split_list[split]
    return obtain(RemoteFile(name, (url,), md5), _root(root) / kind, download=download)


def _check(split: str, download: bool) -> None:
    if split not in ("train", "test"):
        raise ValueError(f'split に {split!r} が渡されました。"train"（訓練）か "test"（テスト）を指定してください。')
    if not isinstance(download, bool):
        raise ValueError(f"download に {download!r} が渡されました。True か False を指定してください。")


def _root(root: str | Path | None) -> Path:
    return cache_root() if root is None else Path(root).expanduser()


def _labeled(name: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], source: str) -> LabeledImages:
    """NumPy の配列を、0 から 1 の float32 と int64 のテンソルにする。"""
    pixels = torch.tensor(images, dtype=torch.float32)
    if images.dtype == np.uint8:
        pixels.div_(255)
    return LabeledImages(name, pixels, torch.tensor(labels, dtype=torch.int64), classes, source)
