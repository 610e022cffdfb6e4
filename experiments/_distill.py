"""第7章の実験で共有する部品: 数字の分け方、教師モデル、変形した画像、生徒モデルの学習。

MNIST-5k は、設定を選ぶための 2,500 枚（開発）と、結果を測るための 2,500 枚（本番）に、初めに一度だけ分ける。
生徒モデルが使うデータと損失だけを、手法ごとに変える。初期値、更新の回数、最適化は、どの手法も同じ（`tlkit.distill.fit_student`）。
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from _record import Row
from _transfer import METHODS, tuned
from _vision import jitter, shuffled_split
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from tlkit import data
from tlkit.distill import FromTeacher, HardLabels, fit_student, teacher_logits
from tlkit.losses import DistillationLoss
from tlkit.models.digit_mlp import DigitMLP
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci

REGION, TEST = 2500, 1000  # 開発と本番の枚数と、そのうち評価に使う枚数
STEPS, BATCH, DECAY, VIEWS = 1200, 64, 1e-2, 12000
TEACHER = {"weights": "letters", "method": "discriminative", "lr": 1e-2, "steps": 150, "batch": 32}
FIXED = {
    "region": REGION, "test": TEST, "steps": STEPS, "batch": BATCH, "views": VIEWS, "teacher": TEACHER,
    "optimizer": "AdamW, cosine", "alpha": 1.0,
}  # fmt: skip
ASSETS = ("glyph_cnn_letters.safetensors",)
Loss = Callable[[nn.Module, Any], dict[str, Tensor]]
Setting = dict[str, float | None]


@dataclass(frozen=True)
class Task:
    """一つの種での分け方。unlabelled のラベルは、どこにも渡さない。"""

    images: Tensor
    labels: Tensor
    unlabelled: Tensor
    test: Tensor
    test_labels: Tensor


@functools.cache
def region(development: bool) -> tuple[Tensor, Tensor]:
    """MNIST-5k のうち、開発用か本番用の画像とラベル。重ならない。"""
    mnist = data.load("mnist5k")
    order = torch.randperm(len(mnist.labels), generator=torch.Generator().manual_seed(2028))
    kept = order[:REGION] if development else order[REGION : 2 * REGION]
    return mnist.images[kept], mnist.labels[kept]


def task(seed: int, n: int, *, development: bool) -> Task:
    """クラスごとに同じ枚数のラベルつき n 枚、残りのラベルなし、評価用の TEST 枚に分ける。"""
    split = shuffled_split(*region(development), seed, TEST)
    order = torch.randperm(len(split.train), generator=torch.Generator().manual_seed(seed))
    kept = torch.cat([order[split.train_labels[order] == c][: n // 10] for c in range(10)])
    rest = order[~torch.isin(order, kept)]
    if len(kept) != n:
        raise ValueError(f"学習用の {len(order)} 枚からは、クラスごとに {n // 10} 枚を取り出せません。")
    return Task(split.train[kept], split.train_labels[kept], split.train[rest], split.test, split.test_labels)


def teacher_of(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """フォントの英字で事前学習した GlyphCNN を、渡したラベルだけでファインチューニングした教師モデル。"""
    return tuned(METHODS[TEACHER["method"]], images, labels, lr=TEACHER["lr"], seed=seed, augment=True)


def augmented(images: Tensor, labels: Tensor, seed: int, views: int = VIEWS) -> tuple[Tensor, Tensor]:
    """同じ枚数ずつ変形して、合わせて約 views 枚にした画像と、そのラベル。"""
    seed_everything(seed)
    times = max(1, views // len(images))
    return torch.cat([jitter(images) for _ in range(times)]), labels.repeat(times)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """評価モードでのロジット (N, 10)。"""
    unused = torch.zeros(len(images), dtype=torch.long)
    return teacher_logits(model, DataLoader(TensorDataset(images, unused), batch_size=500))


def hard(smoothing: float | None = None) -> Loss:
    """正解ラベルの損失。smoothing はラベル平滑化の ε。"""
    return HardLabels(label_smoothing=smoothing or 0.0)


def soft(temperature: float) -> Loss:
    """前計算した教師モデルのロジットだけから学ぶ損失（α = 1）。"""
    return FromTeacher(None, DistillationLoss(temperature, alpha=1.0))


def student(
    tensors: tuple[Tensor, ...],
    loss: Loss,
    *,
    hidden: int,
    lr: float,
    seed: int,
    weight_decay: float | None = None,
    steps: int = STEPS,
) -> DigitMLP:
    """生徒モデルを steps 回更新する。検証も途中の選択もしない（最後の重みを使う）。"""
    seed_everything(seed)
    model = DigitMLP(hidden)
    options = {"lr": lr, "weight_decay": DECAY if weight_decay is None else weight_decay}
    fit_student(model, loss, _batches(tensors, seed), steps=steps, device="cpu", progress=False, **options)
    return model.eval()


def settings_grid(
    name: str, rates: tuple[float, ...], values: tuple[float, ...], *further: tuple[float, float]
) -> list[Setting]:
    """学習率 rates と設定 name の値 values の、すべての組。further に、ほかの（学習率, 値）を足す。使わない設定は None。"""
    unused: Setting = {"weight_decay": None, "smoothing": None, "temperature": None}
    tried = [(lr, value) for lr in rates for value in values] + list(further)
    return [{"lr": lr, **unused, name: value} for lr, value in tried]


def _batches(tensors: tuple[Tensor, ...], seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """種で順の決まるバッチ。まとめて取り出すので、1 枚ずつ取り出すより速い。"""
    dataset = TensorDataset(*tensors)
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, BATCH, drop_last=True))


def compared(rows: list[Row], pairs: Iterable[tuple[str, str]], **common: Any) -> list[Row]:
    """種ごとに組にした正解率の差（one − other）の、平均と 95 % 信頼区間の両端。"""
    kept = [row for row in rows if all(row[key] == value for key, value in common.items())]
    by = {(row["method"], row["seed"]): row["accuracy"] for row in kept}
    seeds = sorted({row["seed"] for row in kept})
    found = []
    for one, other in pairs:
        mean, half = mean_ci([by[one, seed] - by[other, seed] for seed in seeds])
        found.append({**common, "one": one, "other": other, "gain": mean, "low": mean - half, "high": mean + half})
    return found
