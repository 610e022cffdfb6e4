"""ImageNet の特徴を、0 から 1 の画像（1 か 3 チャネル、大きさは自由）から取り出す。"""

import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.models import EfficientNetLite0


class ImageNetFeatures(nn.Module):
    """画像を size × size に拡大し、3 チャネル、−1 から 1 にして、固定した EfficientNet-Lite0 に渡す。"""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.network = EfficientNetLite0(weights="default")

    def features(self, x: Tensor) -> Tensor:
        """(N, 1 か 3, H, W) → 特徴 (N, 1280)。"""
        return self.network.features(self._pixels(x))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 か 3, H, W) → 1000 クラスのロジット。"""
        logits: Tensor = self.network(self._pixels(x))
        return logits

    def _pixels(self, x: Tensor) -> Tensor:
        large = F.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        return large.expand(-1, 3, -1, -1) * 2 - 1
