"""数字の画像のための、小さな多層パーセプトロン。CPU でもすぐに学習できるので、蒸留の生徒モデルに使う。"""

from torch import Tensor, nn


class DigitMLP(nn.Module):
    """全結合だけのネットワーク。平らにした画像（784）→ hidden → hidden → num_classes。

    隣り合う画素という知識を持たないので、同じ枚数のラベルでは畳み込みネットワーク（`GlyphCNN`）に及ばない。
    パラメータ数は、784h + h + h² + h + (h + 1) num_classes（h = hidden）。

    Args:
        hidden: 二つの隠れ層の幅 h。
        num_classes: 出力のクラス数 C。

    Raises:
        ValueError: hidden か num_classes が 1 以上の整数でないとき。
    """

    def __init__(self, hidden: int = 64, num_classes: int = 10) -> None:
        super().__init__()
        for name, value in (("hidden", hidden), ("num_classes", num_classes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} に {value!r} が渡されました。1 以上の整数にしてください。")
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 28, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.classifier = nn.Linear(hidden, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) → 特徴 (N, hidden)。"""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) → ロジット (N, num_classes)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits
