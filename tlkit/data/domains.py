"""数字のドメインを、同じ形 (N, 3, size, size) にそろえて読み込む。

どの 2 つを組にしても、名前を替えるだけで同じコードが動く。読み込みは登録簿（registry.py）を通す。
"""

import torch.nn.functional as F
from torch import Tensor

from tlkit.data.labeled import LabeledImages
from tlkit.data.registry import load

DIGIT_DOMAINS = ("mnist5k", "mnist_m", "uci_digits", "mnist", "usps", "svhn")
_SIZES = (28, 32)


def digit_domain(name: str, *, size: int = 28, **options: object) -> LabeledImages:
    """数字のデータ集合を (N, 3, size, size)、0 から 1 にそろえて読み込む。

    白黒の画像は、同じ値を 3 チャネルに並べる。大きさは、どのデータ集合でも双線形補間（縮めるときは折り返しを防ぐ）で
    変える。余白を足す形の 28→32 は使わない。だから、数字が枠に占める割合は元のまま変わらない。

    Args:
        name: `DIGIT_DOMAINS` にある名前。mnist、usps、svhn はオンライン。
        size: 28 か 32。
        **options: データ集合ごとの引数（`tlkit.data.load` と同じ）。例: split="test"。

    Returns:
        名前、ラベル、クラス名は元のデータ集合のもの。

    Raises:
        ValueError: 知らない名前、28 でも 32 でもない size、使えない引数のとき。
        DataUnavailableError: オンラインのデータ集合が手元に無く、取りにも行けないとき。
    """
    if name not in DIGIT_DOMAINS:
        raise ValueError(f"数字のドメイン {name!r} はありません。使える名前は {'、'.join(DIGIT_DOMAINS)} です。")
    if size not in _SIZES:
        raise ValueError(f"size に {size!r} が渡されました。28 か 32 を指定してください。")
    data = load(name, **options)
    return LabeledImages(data.name, _common_form(data.images, size), data.labels, data.classes, data.source)


def _common_form(images: Tensor, size: int) -> Tensor:
    """(N, 1 か 3, H, W) を (N, 3, size, size) にする。大きさが同じなら、補間は通さない。"""
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp_(0, 1)
    return images.expand(-1, 3, -1, -1).contiguous()
