"""EfficientNet-Lite0 のファインチューニングの部品: 入力、最後の段だけのモデル、動かさない BatchNorm。

固定した特徴を取り出すだけなら、`_imagenet.py` にある。
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.models import EfficientNetLite0


def lite_input(images: Tensor, size: int) -> Tensor:
    """0 から 1 の画像（1 か 3 チャネル）を、size × size、3 チャネル、−1 から 1 にする。"""
    large = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    return large.expand(-1, 3, -1, -1) * 2 - 1


@torch.no_grad()
def below_last_block(network: EfficientNetLite0, x: Tensor) -> Tensor:
    """最後の段の手前までの出力 (N, 192, H/32, W/32)。評価モードで計算する。"""
    network.eval()
    return torch.cat([network.stages[:-1](network.stem(part)) for part in x.split(100)])


class LastBlock(nn.Module):
    """Lite0 の最後の段と分類の層。入力は、凍結した手前の段の出力である。

    手前の段は評価モードのまま動かないので、出力を一度だけ計算しておけば、`set_freeze(model, "partial")` での学習と同じ計算になる。
    """

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.last = nn.Sequential(network.stages[-1], network.head)
        self.classifier = network.classifier

    def features(self, x: Tensor) -> Tensor:
        """(N, 192, H, W) → 特徴 (N, 1280)。"""
        features: Tensor = self.last(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 192, H, W) → ロジット (N, クラスの数)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def hold_statistics(model: nn.Module) -> None:
    """バッチ正規化を、`train()` の後も評価モードのままにする。係数（γ と β）は学習する。"""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = functools.partial(_unchanged, module)  # type: ignore[method-assign]


def _unchanged(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 train() と同じ引数を受け取る
    return module
