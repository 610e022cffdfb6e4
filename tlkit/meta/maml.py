"""MAML と、その一次近似（FOMAML）、最後の層だけを適応させる ANIL。"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.fewshot.episodes import Episode
from tlkit.meta.accumulate import mean_over_tasks
from tlkit.meta.adapt import Params, adapt
from tlkit.meta.functional import call_with, inner_parameters


class MAML:
    """サポートで数回だけ勾配降下したあとの、クエリの損失を小さくする、初めの重み θ を学ぶ。

    min_θ (1/T) Σ_t L_q(θ′_t)、θ′_t = `adapt`(θ, サポートの損失, lr=inner_lr, steps=inner_steps)。損失は交差エントロピー。
    first_order=True は二階の項を捨てる（FOMAML）。inner="classifier" は最後の層だけを内側で動かす（ANIL）。
    バッチ正規化は、サポートとクエリのそれぞれの統計を使い、移動統計は変えない（`functional.call_with`）。

    `loss` を `tlkit.training.fit` に、`logits` を `fewshot.episode_accuracies` に渡す。学習だけなら `fit_maml` でよい。

    Args:
        inner_lr: 内側学習率 η_in。
        inner_steps: 内側の回数。評価のときに増やしてもよい（別の MAML を作る）。
        first_order: 二階の項を捨てるか。
        inner: 内側で動かす部品の名前。None ならすべて。

    出典: Finn et al., ICML 2017, アルゴリズム 2。ANIL は Raghu et al., "Rapid Learning or Feature Reuse?
        Towards Understanding the Effectiveness of MAML", ICLR 2020, 4 節。
    """

    def __init__(
        self, inner_lr: float | Tensor, inner_steps: int, *, first_order: bool = False, inner: str | None = None
    ) -> None:
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.first_order, self.inner = first_order, inner

    def adapted(self, model: nn.Module, episode: Episode) -> Params:
        """サポートで適応させたパラメータ θ′。θ の関数である。"""

        def support_loss(params: Params) -> Tensor:
            return F.cross_entropy(call_with(model, params, episode.support_x), episode.support_y)

        start = inner_parameters(model, self.inner)
        return adapt(start, support_loss, lr=self.inner_lr, steps=self.inner_steps, first_order=self.first_order)

    def logits(self, model: nn.Module, episode: Episode) -> Tensor:
        """適応させたモデルの、クエリのロジット (N·Q, N)。"""
        return call_with(model, self.adapted(model, episode), episode.query_x)

    def task_loss(self, model: nn.Module, episode: Episode) -> dict[str, Tensor]:
        """一つの課題の、クエリの交差エントロピー "loss" と、正解率 "accuracy"。"""
        logits = self.logits(model, episode)
        accuracy = (logits.argmax(1) == episode.query_y).to(logits.dtype).mean()
        return {"loss": F.cross_entropy(logits, episode.query_y), "accuracy": accuracy}

    def loss(self, model: nn.Module, episodes: Sequence[Episode] | Episode) -> dict[str, Tensor]:
        """課題の組についての平均。計算の記録は課題 1 個分しか持たない（`mean_over_tasks`）。

        逆伝播で勾配が入るのは、モデルのパラメータと、学習する inner_lr（テンソルのとき）である。
        """
        tasks = [episodes] if isinstance(episodes, Episode) else episodes
        wanted = list(model.parameters())
        if isinstance(self.inner_lr, nn.Parameter):
            wanted.append(self.inner_lr)
        return mean_over_tasks(lambda episode: self.task_loss(model, episode), tasks, wanted)


def gradient_cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """二つの勾配の向きの近さ cos = ⟨a, b⟩ / (‖a‖ ‖b‖)。パラメータをすべて並べて一つのベクトルとみる。

    二階の MAML と一次近似の勾配を比べるときなどに使う。

    Args:
        first: パラメータごとの勾配。
        second: 同じ形の勾配。

    Returns:
        −1 から 1。どちらかが 0 なら 0。
    """
    a, b = (torch.cat([part.detach().flatten() for part in gradients]) for gradients in (first, second))
    return float(F.cosine_similarity(a, b, dim=0))
