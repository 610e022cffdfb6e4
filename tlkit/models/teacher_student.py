"""32×32 画素のカラー画像のための、教師モデルと生徒モデルの対。中間の地図の縦横は、二つの間でそろっている。"""

from torch import Tensor, nn


class _StagedCNN(nn.Module):
    """畳み込みの段を三つ重ね、位置で平均し、線形層で分類する。段ごとに縦横が半分になる（32→16→8→4 画素）。"""

    def __init__(self, num_classes: int, widths: tuple[int, int, int], depth: int) -> None:
        super().__init__()
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes に {num_classes!r} が渡されました。1 以上の整数にしてください。")
        inputs = (3, *widths[:2])
        self.stages = nn.ModuleList(_stage(a, b, depth) for a, b in zip(inputs, widths, strict=True))
        self.classifier = nn.Linear(widths[2], num_classes)

    def maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 32, 32) → 三つの段の出力 (N, C_1, 16, 16)、(N, C_2, 8, 8)、(N, C_3, 4, 4)。

        `hint_loss` と `attention_transfer_loss` に渡す。

        Raises:
            ValueError: 形が (N, 3, 32, 32) でないとき。
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, 32, 32):
            raise ValueError(f"形 {tuple(x.shape)} の入力が渡されました。(N, 3, 32, 32) にしてください。")
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return tuple(found)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) → 最後の段の出力を位置で平均した特徴 (N, C_3)。"""
        return self.maps(x)[-1].mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) → ロジット (N, num_classes)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Teacher(_StagedCNN):
    """教師モデル。チャネル数は 64、128、256、一つの段に畳み込みが 2 回（10 クラスで約 115 万パラメータ）。

    Args:
        num_classes: クラス数。

    Raises:
        ValueError: num_classes が 1 以上の整数でないとき。
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes, (64, 128, 256), depth=2)


class Student(_StagedCNN):
    """生徒モデル。チャネル数は 16、32、64、一つの段に畳み込みが 1 回（10 クラスで約 2.4 万パラメータ）。

    Args:
        num_classes: クラス数。

    Raises:
        ValueError: num_classes が 1 以上の整数でないとき。
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes, (16, 32, 64), depth=1)


def _stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    """3×3 の畳み込み、バッチ正規化、ReLU を depth 回くり返し、縦横を半分にする最大値プーリング。"""
    layers: list[nn.Module] = []
    for _ in range(depth):
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]
        in_channels = out_channels
    return nn.Sequential(*layers, nn.MaxPool2d(2))
