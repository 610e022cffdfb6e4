"""MAML の学習。くり返しそのものは `tlkit/training.py` の `fit` である。"""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tlkit.fewshot.episodes import EpisodeBatches, EpisodeSampler
from tlkit.fewshot.evaluation import episode_accuracies
from tlkit.meta.maml import MAML
from tlkit.training import History, fit


def fit_maml(  # noqa: PLR0913 どれも名前で渡す。まとめると、かえって読みにくい
    model: nn.Module,
    method: MAML,
    episodes: EpisodeSampler,
    *,
    steps: int,
    meta_batch: int = 4,
    meta_lr: float = 1e-3,
    optimizer: Optimizer | None = None,
    validation: EpisodeSampler | None = None,
    **options: Any,
) -> History:
    """初めの重みを学習する。終わると、検証で最良だった重みに戻す。

    Args:
        model: (N, …) → (N, ways) のモデル。
        method: `MAML`。一次近似、ANIL もここで選ぶ。
        episodes: メタ訓練の課題。1 周の長さが、検証と記録の間隔になる。
        steps: 外側の更新の回数。
        meta_batch: 1 回の更新に使う課題の数。episodes の 1 周を割り切ること。
        meta_lr: 外側学習率。optimizer を渡さないとき、Adam に使う。
        optimizer: 外側の最適化手法。
        validation: 検証の課題。fresh=False で作ったもの。正解率の平均で、最良の重みを選ぶ。
        **options: `fit` の残りの引数（device、progress、checkpoint など）。

    Returns:
        `fit` の記録。"loss" と "accuracy" は、適応した後のクエリの値である。

    Raises:
        ValueError: 検証の課題が、測るたびに変わるとき。そのほかは `fit` と `EpisodeBatches` を見よ。
    """
    if validation is not None and validation.fresh:
        raise ValueError("validation が、測るたびに違う課題を返します。fresh=False で作ってください。")
    validate = None
    if validation is not None:
        tasks = validation

        def validate(trained: nn.Module) -> float:
            return float(episode_accuracies(method.logits, trained, tasks).mean())

    learned = [method.inner_lr] if isinstance(method.inner_lr, nn.Parameter) else []
    chosen = optimizer or torch.optim.Adam([*model.parameters(), *learned], lr=meta_lr)
    batches: Any = EpisodeBatches(episodes, meta_batch)
    return fit(model, batches, method.loss, chosen, steps=steps, validate=validate, **options)
