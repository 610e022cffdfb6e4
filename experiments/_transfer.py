"""第2章の実験で共有する部品: ファインチューニングの手法と、その学習。

どの手法も、同じ構造（GlyphCNN）、同じ初期値の分類の層、同じ更新の回数、同じ Adam を使う。違うのは、凍結と学習率だけである。
手法の中身は `tlkit.finetune` にある。データの分け方と正解率は `_vision.py` の部品を使う。
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from _vision import _loader, jitter
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from tlkit.finetune import GradualUnfreezing, fit_head, param_groups, set_freeze, slanted_triangular
from tlkit.models.glyph_cnn import GlyphCNN
from tlkit.seeding import seed_everything
from tlkit.training import fit

STEPS, BATCH = 150, 32
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
DECAY = 2.6  # Howard & Ruder (2018) の値
PHASES = 10  # 段階的解凍では、学習を 10 に分け、一つ進むごとに 1 段を解凍する


@dataclass(frozen=True)
class Method:
    """一つの手法。

    Attributes:
        weights: 初期値。None なら乱数。
        freeze: `set_freeze` に渡す凍結の範囲。
        decay: `param_groups` に渡す、段ごとの学習率の比。1 なら、どの段も同じ学習率。
        head_first: 初めに、分類の層だけを固定した特徴の上で解く（LP-FT）。
        gradual: 段階的解凍と、傾いた三角形の学習率を使う（ULMFiT）。
    """

    weights: str | None = "letters"
    freeze: Literal["all", "partial", "none"] = "none"
    decay: float = 1.0
    head_first: bool = False
    gradual: bool = False


METHODS = {
    "scratch": Method(weights=None),
    "head": Method(freeze="all"),
    "last_block": Method(freeze="partial"),
    "full": Method(),
    "discriminative": Method(decay=DECAY),
    "lp_ft": Method(head_first=True),
    "ulmfit": Method(decay=DECAY, gradual=True),
}


def tuned(
    method: Method,
    images: Tensor,
    labels: Tensor,
    *,
    lr: float,
    seed: int,
    augment: bool = False,
    l2: float | None = None,
) -> GlyphCNN:
    """手法のとおりに学習したネットワーク。初期値は、種だけで決まる。"""
    torch.manual_seed(seed)
    model = GlyphCNN(10, weights=method.weights)
    set_freeze(model, method.freeze)
    if method.head_first:
        fit_head(model, DataLoader(TensorDataset(images, labels), batch_size=100), l2=l2)
    learn(model, images, labels, lr=lr, seed=seed, augment=augment, decay=method.decay, gradual=method.gradual)
    return model


def learn(  # noqa: PLR0913 どれも名前で渡す
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    lr: float,
    seed: int,
    augment: bool = False,
    decay: float = 1.0,
    gradual: bool = False,
) -> nn.Module:
    """凍結していない段を、STEPS 回更新する。lr は分類の層の学習率。検証も途中の選択もしない（最後の重みを使う）。"""
    seed_everything(seed)
    loader = _loader(images, labels, min(BATCH, len(images)), seed)
    optimizer = torch.optim.Adam(param_groups(model, lr, decay=decay))
    unfreeze = GradualUnfreezing(model, every=max(1, STEPS // len(loader) // PHASES)) if gradual else None

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(net(jitter(x) if augment else x), y)

    schedule = _schedule(optimizer, gradual)
    fit(
        model, loader, loss, optimizer, steps=STEPS, scheduler=schedule, on_epoch=unfreeze, device="cpu", progress=False
    )
    return model.eval()


def _schedule(optimizer: torch.optim.Optimizer, gradual: bool) -> LRScheduler:
    """どちらも、組ごとの学習率を頂点とする山型である。"""
    if gradual:
        return slanted_triangular(optimizer, STEPS)
    return OneCycleLR(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], total_steps=STEPS)
