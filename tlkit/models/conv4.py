"""Conv4: 少数ショット学習の研究で標準の、畳み込み 4 段のネットワーク。"""

from typing import Literal

from torch import Tensor, nn

Norm = Literal["batch", "group", "none"]
GROUPS = 8  # グループ正規化の組の数。幅がこれで割り切れなければ、割り切れる最大の約数にする


class Conv4(nn.Module):
    """3×3 の畳み込み、正規化、ReLU、2×2 の最大値プーリングを、4 回くり返す。

    縦横は 1 段ごとに半分（端数は切り捨て）になる。28 → 14 → 7 → 3 → 1 画素では特徴は width 次元、
    32 → 16 → 8 → 4 → 2 画素では 4·width 次元である。幅 64、白黒、28 画素、分類の層なしで、111,936 パラメータ。

    Args:
        num_classes: クラス数 C。None なら分類の層を持たず、forward は特徴を返す（プロトタイプネットワーク用）。
        in_channels: 入力のチャネル数。白黒は 1、カラーは 3。
        image_size: 入力の縦横 S [画素]。16 以上。
        width: 各段のチャネル数。論文は 64。
        norm: "batch" はバッチ正規化、"group" はグループ正規化（件数にもほかの画像にもよらない）、"none" は正規化なし。

    Attributes:
        num_features: 特徴の次元 D。
        blocks: 4 段。入力 (N, in_channels, S, S)。
        classifier: 線形層 (N, D) → (N, C)。num_classes が None なら恒等写像。

    Raises:
        ValueError: 引数か、forward に渡した入力の形が不正なとき。

    出典: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016, 4.1 節。
        Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017, 3.1 節。
    """

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        in_channels: int = 1,
        image_size: int = 28,
        width: int = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        _check(num_classes, in_channels, image_size, width, norm)
        self.input_shape = (in_channels, image_size, image_size)
        self.num_features = width * (image_size // 16) ** 2
        channels = [in_channels, width, width, width, width]
        self.blocks = nn.Sequential(*(_block(channels[i], width, norm) for i in range(4)))
        self.classifier = nn.Identity() if num_classes is None else nn.Linear(self.num_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) → 特徴 (N, D)。"""
        if tuple(x.shape[1:]) != self.input_shape:
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(
                f"形 {tuple(x.shape)} の入力が渡されました。このネットワークには (N, {wanted}) が要ります。"
                "in_channels と image_size は、作るときに指定できます。"
            )
        features: Tensor = self.blocks(x).flatten(1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) → ロジット (N, C)。分類の層がなければ特徴 (N, D)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _block(in_channels: int, width: int, norm: Norm) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, width, 3, padding=1)
    return nn.Sequential(convolution, *_normalization(width, norm), nn.ReLU(), nn.MaxPool2d(2))


def _normalization(width: int, norm: Norm) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    if norm == "group":
        return [nn.GroupNorm(max(g for g in range(1, GROUPS + 1) if width % g == 0), width)]
    return []


def _check(num_classes: int | None, in_channels: int, image_size: int, width: int, norm: str) -> None:
    if norm not in ("batch", "group", "none"):
        raise ValueError(f'norm に {norm!r} が渡されました。"batch"、"group"、"none" のどれかにしてください。')
    if image_size < 16:
        raise ValueError(f"image_size に {image_size} が渡されました。4 回半分にするので、16 画素以上にしてください。")
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels), ("width", width)):
        if value is not None and value < 1:
            raise ValueError(f"{name} に {value} が渡されました。1 以上の整数にしてください。")
