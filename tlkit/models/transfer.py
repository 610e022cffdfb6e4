"""事前学習済みのバックボーンに、新しい分類の層を載せたモデル。

"efficientnet_lite0" の重みはパッケージに入っていて、ネットワークなしで使える。
ほかの名前は torchvision の画像分類モデルで、重みは初めて使うときに取りに行く（`_backbones.py`）。
"""

import numpy as np
import torch
from torch import Tensor, nn

from tlkit.finetune import Freeze, set_freeze
from tlkit.models._backbones import build_backbone


class TransferModel(nn.Module):
    """バックボーン → 特徴 (N, D) → 線形層 → ロジット (N, C)。

    入力 x は (N, 3, H, W) で、重みに合った正規化が済んでいるものとする。
    写真は `input_transform` で、0 から 1 のテンソルは `normalize` で、その形にする。
    正規化は重みと一組である。Lite0 は平均 0.5・標準偏差 0.5、torchvision の多くは ImageNet の平均と標準偏差を使う。

    Args:
        num_classes: 出力のクラス数 C。
        backbone: "efficientnet_lite0"、または torchvision の画像分類モデルの名前（"resnet18" など）。
        freeze: 凍結の範囲。`tlkit.finetune.set_freeze` に渡す。
        weights: "default" なら推奨の重み、torchvision の重みの名前（"IMAGENET1K_V1" など）ならその重み、None なら乱数。

    Attributes:
        num_features: 特徴の次元 D。
        mean, std: 正規化に使う、チャネルごとの平均と標準偏差。

    Raises:
        ValueError: 名前、num_classes、freeze が不正なとき。
        DataUnavailableError: 重みを取りに行けないとき。
        DataCorruptedError: 届いた重みのファイルが壊れているとき。
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "efficientnet_lite0",
        freeze: Freeze = "partial",
        weights: str | None = "default",
    ) -> None:
        super().__init__()
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes に {num_classes!r} が渡されました。1 以上の整数にしてください。")
        built = build_backbone(backbone, weights)
        self.backbone, self.num_features = built.network, built.num_features
        self.mean, self.std = built.mean, built.std
        self._transform = built.transform
        self.classifier = nn.Linear(self.num_features, num_classes)
        set_freeze(self, freeze)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → 特徴 (N, D)。

        Raises:
            ValueError: 形が (N, 3, H, W) でないとき。
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(
                f"形 {tuple(x.shape)} の入力が渡されました。(N, 3, H, W) が必要です。"
                "白黒画像は x.expand(-1, 3, -1, -1) で 3 チャネルにしてください。"
            )
        features: Tensor = self.backbone(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → ロジット (N, num_classes)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits

    def normalize(self, x: Tensor) -> Tensor:
        """画素値 0 から 1 の (N, 3, H, W) を、重みに合わせて正規化する。(x − mean) / std。"""
        mean, std = (torch.tensor(values).to(x).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def input_transform(self, image: np.ndarray) -> Tensor:
        """写真 (H, W, 3) の uint8 を、重みに合った大きさと正規化の (3, S, S) にする。

        Raises:
            ValueError: 形か dtype が合わないとき。
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"形 {image.shape}、dtype {image.dtype} が渡されました。(H, W, 3) の uint8（RGB）が必要です。"
            )
        return self._transform(image)
