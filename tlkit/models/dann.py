"""DANN: 特徴抽出器、ラベル分類器、勾配反転層を挟んだドメイン識別器からなるネットワーク。

損失と学習は `tlkit/adapt/`、勾配反転層は `tlkit/nn/gradient_reversal.py` にある。
"""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from tlkit.nn.gradient_reversal import gradient_reversal

HIDDEN = 100  # ラベル分類器とドメイン識別器の、隠れ層の幅


class _Network(NamedTuple):
    """特徴抽出器の形。5×5 の畳み込み（詰め物なし）と 2×2 のプーリングを、2 回くり返す。"""

    size: int  # 入力の縦横の画素数
    channels: tuple[int, int]  # 2 回の畳み込みの出力のチャネル数

    @property
    def num_features(self) -> int:
        """平らにした特徴の次元。縦横は size → (size − 4) / 2 → ((size − 4) / 2 − 4) / 2 と縮む。"""
        side = ((self.size - 4) // 2 - 4) // 2
        return self.channels[1] * side * side


NETWORKS = {"rgb32": _Network(32, (64, 128)), "mnist28": _Network(28, (32, 48))}


class Activations(NamedTuple):
    """適応する層の出力。features (N, D)、hidden (N, 100)、logits (N, C)。"""

    features: Tensor
    hidden: Tensor
    logits: Tensor


class DANN(nn.Module):
    """ドメイン敵対的ネットワーク。入力 x は (N, 3, S, S)。

    特徴抽出器 → ラベル分類器 → クラスのロジット (N, C)
             └→ 勾配反転層 → ドメイン識別器 → ドメインのロジット (N, 2)。0 がソース、1 がターゲット。

    バッチ正規化はドメインごとの統計で測る。ソースとターゲットは、別々に forward へ渡すこと
    （混ぜたバッチでは、正規化の統計がドメインの割合で決まってしまう）。ドメイン識別器には、バッチ正規化を置かない。

    Args:
        num_classes: クラス数 C。
        network: "rgb32" は 3×32×32 の入力で、チャネル数は 64 と 128、特徴は 128×5×5 = 3,200 次元。
            "mnist28" は論文の MNIST 用で、入力は 3×28×28、チャネル数は 32 と 48、特徴は 48×4×4 = 768 次元。
        norm: "batch" なら畳み込みと最初の全結合の後にバッチ正規化を置く。"none" なら論文の図のとおり置かない。

    Attributes:
        num_features: 特徴の次元 D。
        extractor: 特徴抽出器 (N, 3, S, S) → (N, D)。
        hidden、label_classifier: ラベル分類器 (N, D) → (N, 100) → (N, C)。
        domain_classifier: ドメイン識別器 (N, D) → (N, 2)。

    Raises:
        ValueError: num_classes、network、norm が不正なとき。

    出典: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17 (2016), 図 4 (a)。
        ドメイン識別器の幅は 5.2.2 節の x → 100 → 2。2 個のソフトマックスと 1 個のシグモイドは、同じ確率を表せる。
    """

    def __init__(
        self,
        num_classes: int = 10,
        network: Literal["rgb32", "mnist28"] = "rgb32",
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        _check(num_classes, network, norm)
        self.network = NETWORKS[network]
        self.num_features = self.network.num_features
        batch_norm = norm == "batch"
        first, second = self.network.channels
        self.extractor = nn.Sequential(*_stage(3, first, batch_norm), *_stage(first, second, batch_norm), nn.Flatten())
        self.hidden = nn.Sequential(
            nn.Linear(self.num_features, HIDDEN), *([nn.BatchNorm1d(HIDDEN)] if batch_norm else []), nn.ReLU()
        )
        self.label_classifier = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_classes))
        self.domain_classifier = nn.Sequential(nn.Linear(self.num_features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) → 特徴 (N, D)。

        Raises:
            ValueError: 形が (N, 3, S, S) でないとき。
        """
        size = self.network.size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise ValueError(
                f"形 {tuple(x.shape)} の入力が渡されました。このネットワークには (N, 3, {size}, {size}) が要ります。"
                "白黒の画像は x.expand(-1, 3, -1, -1) で 3 チャネルにします。"
                '28×28 の画像には DANN(network="mnist28")、32×32 には DANN(network="rgb32") を使ってください。'
            )
        features: Tensor = self.extractor(x)
        return features

    def activations(self, x: Tensor) -> Activations:
        """(N, 3, S, S) → 特徴、ラベル分類器の隠れ層、クラスのロジット。分布の違いを測る層として使う。"""
        features = self.features(x)
        hidden = self.hidden(features)
        return Activations(features, hidden, self.label_classifier(hidden))

    def forward(self, x: Tensor, lambda_: float = 1.0) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) → クラスのロジット (N, C)、ドメインのロジット (N, 2)。

        Args:
            x: 一つのドメインの画像。
            lambda_: 勾配反転層の係数 λ。特徴抽出器へ戻る勾配だけに掛かる。
        """
        features, _, logits = self.activations(x)
        return logits, self.domain_classifier(gradient_reversal(features, lambda_))


def _stage(in_channels: int, out_channels: int, batch_norm: bool) -> list[nn.Module]:
    """5×5 の畳み込み（縦横が 4 減る）、バッチ正規化、ReLU、縦横を半分にする最大値プーリング。"""
    normalize = [nn.BatchNorm2d(out_channels)] if batch_norm else []
    return [nn.Conv2d(in_channels, out_channels, 5), *normalize, nn.ReLU(), nn.MaxPool2d(2)]


def _check(num_classes: int, network: str, norm: str) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes に {num_classes!r} が渡されました。1 以上の整数にしてください。")
    if network not in NETWORKS:
        raise ValueError(f"network に {network!r} が渡されました。{'、'.join(NETWORKS)} のどれかにしてください。")
    if norm not in ("batch", "none"):
        raise ValueError(f'norm に {norm!r} が渡されました。"batch" か "none" を指定してください。')
