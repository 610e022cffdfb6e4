"""ドメイン適応の手法。違うのは損失だけなので、一つの学習ループ（`fitting.py`）に部品として渡す。

どの手法も（モデル, 組, 進み具合）→ 損失の辞書、という同じ形をしている。"loss" を最小にし、ほかは記録する。
ソースとターゲットは、別々にネットワークへ通す。バッチ正規化の統計を、ドメインごとに測るためである。
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.adapt.pairs import Pair
from tlkit.losses.coral import coral
from tlkit.losses.mmd import median_bandwidth, mmd2
from tlkit.nn.dann_schedule import dann_lambda

Losses = dict[str, Tensor]


class Method(Protocol):
    """（モデル, 組, 進み具合 0〜1）→ 損失の辞書。"""

    def __call__(self, model: nn.Module, pair: Pair, progress: float) -> Losses:
        """1 回の更新の損失。"""


@dataclass(frozen=True)
class SourceOnly:
    """ソースだけで学習する。ターゲットは見ない。適応の効果を測るための基準である。"""

    def __call__(self, model: Any, pair: Pair, progress: float) -> Losses:  # noqa: ARG002 手法はどれも同じ形で呼ぶ
        """ソースの交差エントロピー。"""
        (x, y), _ = pair
        loss = F.cross_entropy(model.activations(x).logits, y)
        return {"loss": loss, "class": loss}


@dataclass(frozen=True)
class DANNLoss:
    r"""ドメイン敵対的学習。L = CE(ソースのクラス) + ½ CE(ソース → 0) + ½ CE(ターゲット → 1)。

    二つ目からの項は、ドメイン識別器にとっては小さくし、特徴抽出器にとっては大きくする損失である。
    符号は、モデルの中の勾配反転層が変える。だから、ここでは足すだけでよい。
    各ドメインで平均してから足すので、バッチの大きさが違っても、二つのドメインは同じ重みになる。
    λ は特徴抽出器への勾配だけに掛かり、ドメイン識別器はいつも λ = 1 で学習する。

    Attributes:
        gamma: λ の予定の γ（`tlkit.nn.dann_lambda`）。
        lambda_max: 予定の上限。λ = lambda_max · dann_lambda(進み具合, gamma)。
        fixed: 数なら、予定を使わず、λ をこの値に固定する。

    出典: Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, 式 (4)〜(6)。
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17 (2016), 式 (10) と 5.2.2 節。
        式 (10) は、二つのドメインの平均に ½ を掛けずに足す。ここでの λ = 1 は、そこでの λ = ½ に当たる。
    """

    gamma: float = 10.0
    lambda_max: float = 1.0
    fixed: float | None = None

    def lambda_at(self, progress: float) -> float:
        """進み具合での λ。"""
        return self.lambda_max * dann_lambda(progress, self.gamma) if self.fixed is None else self.fixed

    def __call__(self, model: nn.Module, pair: Pair, progress: float) -> Losses:
        """クラスの損失と、ドメインの損失の和。"""
        (x, y), target = pair
        lambda_ = self.lambda_at(progress)
        class_logits, source_domain = model(x, lambda_)
        _, target_domain = model(target, lambda_)
        class_loss = F.cross_entropy(class_logits, y)
        domain_loss = (_domain_loss(source_domain, 0) + _domain_loss(target_domain, 1)) / 2
        return {"loss": class_loss + domain_loss, "class": class_loss, "domain": domain_loss}


@dataclass(frozen=True)
class MMDLoss:
    r"""特徴と隠れ層の MMD² を小さくする。L = CE(ソースのクラス) + w Σ_層 MMD²(層のソース, 層のターゲット)。

    カーネルは五つの RBF の平均。帯域幅は、バッチごとの中央値ヒューリスティックの σ に scales を掛けたものである。
    論文（DAN）は、AlexNet の全結合層で MMD を取り、カーネルの重みも学習する。ここでは重みを等しくする。

    Attributes:
        weight: MMD² の重み w。
        scales: 中央値の σ に掛ける倍率。

    出典: Long et al., "Learning Transferable Features with Deep Adaptation Networks", ICML 2015。
    """

    weight: float = 1.0
    scales: Sequence[float] = (0.5, 0.5**0.5, 1.0, 2**0.5, 2.0)

    def discrepancy(self, source: Tensor, target: Tensor) -> Tensor:
        """一つの層の MMD²（偏りのない推定）。"""
        sigma = median_bandwidth(source, target)
        return mmd2(source, target, bandwidth=[sigma * scale for scale in self.scales])

    def __call__(self, model: nn.Module, pair: Pair, progress: float) -> Losses:  # noqa: ARG002 手法はどれも同じ形で呼ぶ
        """クラスの損失と、層ごとの MMD² の和。"""
        return _aligned(model, pair, self.weight, self.discrepancy)


@dataclass(frozen=True)
class CORALLoss:
    r"""特徴と隠れ層の共分散をそろえる。L = CE(ソースのクラス) + w Σ_層 CORAL(層のソース, 層のターゲット)。

    Attributes:
        weight: CORAL の重み w。1/(4 D²) の係数があるので、大きな値が要る。

    出典: Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV 2016 Workshops。
        論文は最後の全結合層だけをそろえる。
    """

    weight: float = 1.0

    def __call__(self, model: nn.Module, pair: Pair, progress: float) -> Losses:  # noqa: ARG002 手法はどれも同じ形で呼ぶ
        """クラスの損失と、層ごとの CORAL の和。"""
        return _aligned(model, pair, self.weight, coral)


def _aligned(model: Any, pair: Pair, weight: float, measure: Callable[[Tensor, Tensor], Tensor]) -> Losses:
    """ソースのクラスの損失に、特徴と隠れ層での分布の違いを足す。"""
    (x, y), target = pair
    ours, theirs = model.activations(x), model.activations(target)
    class_loss = F.cross_entropy(ours.logits, y)
    gap = measure(ours.features, theirs.features) + measure(ours.hidden, theirs.hidden)
    return {"loss": class_loss + weight * gap, "class": class_loss, "discrepancy": gap}


def _domain_loss(logits: Tensor, domain: int) -> Tensor:
    """ドメイン識別器の交差エントロピー。logits (N, 2)。"""
    return F.cross_entropy(logits, torch.full((len(logits),), domain, device=logits.device))
