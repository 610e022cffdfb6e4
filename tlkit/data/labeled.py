"""ラベルつきの画像の入れもの。どのデータ集合も、この形で返す。"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LabeledImages:
    """ラベルつきの画像の集まり。

    Attributes:
        name: データ集合の名前。
        images: (N, C, H, W) の float32。画素値は 0 から 1。数字の白黒画像（C = 1）では 0 が背景、1 が筆跡である。
        labels: (N,) の int64。0 からクラス数 − 1 まで。
        classes: ラベル番号順のクラス名。
        source: 出典と利用条件。
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
