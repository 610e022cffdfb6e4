"""課題の数だけ重みを重ね、すべての課題を一度に計算する。小さな全結合のネットワークでは、くり返しよりずっと速い。

`torch.func.vmap` の中で `torch.func.grad` を取ると、バッチ正規化のあるモデルの二階の勾配を誤る（PyTorch 2.15 で確かめた）。
ここでは順伝播だけを vmap に入れ、微分は外側の自動微分に任せる。この順なら、バッチ正規化があっても正しい。
"""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tlkit.fewshot.episodes import Episode
from tlkit.meta.adapt import Params, adapt
from tlkit.meta.functional import inner_parameters
from tlkit.nn import batch_statistics

Criterion = Callable[[Tensor, Tensor], Tensor]


def stacked_call(model: nn.Module, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """課題ごとに違う重みで、モデルを呼ぶ。

    Args:
        model: (N, …) → (N, C) のモデル。
        params: 名前から、課題の軸を先頭に足した値 (T, …) へ。
        x: 入力 (T, N, …)。

    Returns:
        (T, N, C)。バッチ正規化は、課題ごとの統計を使う。移動統計は変わらない。
    """

    def one(task_params: Params, task_x: Tensor) -> Tensor:
        output: Tensor = functional_call(model, task_params, (task_x,))
        return output

    with batch_statistics(model):
        stacked: Tensor = vmap(one, randomness="different")(dict(params), x)
    return stacked


class StackedMAML:
    """`MAML` と同じ計算を、課題の束 (T, …) についてまとめて行う。`tlkit.training.fit` に `loss` を渡す。

    重みを T 個に広げ、課題の損失の**和**を内側の損失とすると、課題 t の重みの勾配は課題 t の損失の勾配になる。
    計算の記録は課題 T 個分を一度に持つ。畳み込みのネットワークでは、くり返し（`MAML`）のほうが速く、記憶も少ない。

    Args:
        inner_lr: 内側学習率。
        inner_steps: 内側の回数。
        first_order: 二階の項を捨てるか。
        inner: 内側で動かす部品の名前。None ならすべて。
        criterion: （予測 (N, C), 正解）→ 平均の損失。回帰は `F.mse_loss`（既定）、分類は `F.cross_entropy`。

    出典: Finn et al., ICML 2017, 5.1 節（正弦波の回帰）。
    """

    def __init__(
        self,
        inner_lr: float | Tensor,
        inner_steps: int,
        *,
        first_order: bool = False,
        inner: str | None = None,
        criterion: Criterion = F.mse_loss,
    ) -> None:
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.first_order, self.inner, self.criterion = first_order, inner, criterion

    def predict(self, model: nn.Module, episodes: Episode) -> Tensor:
        """適応させたモデルの、クエリの予測 (T, Q, C)。課題の軸を先頭に持つ `Episode` を渡す。"""
        tasks = len(episodes.support_x)
        every = {name: _repeated(value, tasks) for name, value in model.named_parameters()}

        def total(params: Params) -> Tensor:
            predicted = stacked_call(model, every | params, episodes.support_x)
            return self._mean(predicted, episodes.support_y) * tasks

        start = {name: every[name] for name in inner_parameters(model, self.inner)}
        adapted = adapt(start, total, lr=self.inner_lr, steps=self.inner_steps, first_order=self.first_order)
        return stacked_call(model, every | adapted, episodes.query_x)

    def loss(self, model: nn.Module, episodes: Episode) -> Tensor:
        """適応した後のクエリの損失の、課題についての平均。"""
        return self._mean(self.predict(model, episodes), episodes.query_y)

    def _mean(self, predicted: Tensor, target: Tensor) -> Tensor:
        """課題の件数がそろっているので、全体の平均は、課題ごとの平均の平均に等しい。"""
        return self.criterion(predicted.flatten(0, 1), target.flatten(0, 1))


def _repeated(value: Tensor, tasks: int) -> Tensor:
    """(…) → (T, …)。写しは作らない。"""
    return value.expand(tasks, *value.shape)
