"""第8章の実験で共有する部品: 字のエピソード、学習のくり返し。手法は `_few_shot_methods.py`、測り方は `_few_shot_views.py` にある。

どの手法も、同じ大きさのネットワーク、同じ更新の回数、同じ最適化で学習し、最後の重みを使う。エピソードで学ぶ手法は、
同じ種なら、同じエピソードを同じ順に見る。漢字の分け方も、種ごとに変わる。
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from tlkit.data.glyph_augment import augment
from tlkit.fewshot import Episode, EpisodeBatches, EpisodeSampler, GlyphTasks, glyph_tasks
from tlkit.fewshot.evaluation import Logits
from tlkit.fewshot.splits import Part
from tlkit.meta import mean_over_tasks
from tlkit.models import Conv4
from tlkit.seeding import seed_everything
from tlkit.training import fit

Setting = dict[str, Any]
Terms = dict[str, Tensor]

WAYS, QUERIES, HELD_QUERIES = 5, 5, 10  # クエリの枚数は、学習ではクラスごとに 5、検証とテストでは 10
UPDATES, META_BATCH = 400, 4  # 更新の回数と、1 回に使うエピソードの数
WIDTH, TEACHER_LR, TEACHER_UPDATES = 32, 1e-2, 1200
INNER_STEPS = 1  # 学習のときの内側の回数
ALPHA, SPREAD = 0.5, 10.0  # SPREAD は、教師モデルのロジットの差の平均（大きさをそろえる）
SEEDS: dict[Part, int] = {"train": 1000, "val": 2000, "test": 3000}  # エピソードの種の初め


@dataclass(frozen=True)
class Learned:
    """学習の終わったモデル。

    Attributes:
        model: モデル。
        logits: 内側の回数 → （モデル, 課題）→ クエリのロジット。内側のない手法は、回数を使わない。
        seconds: 学習にかかった CPU の秒数。教師モデルの学習は入らない。
        others: バッチ正規化の統計の測り方 → 学習のときと違う、その測り方のロジット。
    """

    model: nn.Module
    logits: Callable[[int], Logits]
    seconds: float = 0.0
    others: Mapping[str, Logits] = field(default_factory=dict)


def fixed() -> Setting:
    """開発と本番で共通の設定。"""
    return {
        "ways": WAYS, "queries": QUERIES, "held_queries": HELD_QUERIES, "updates": UPDATES, "meta_batch": META_BATCH,
        "width": WIDTH, "teacher_lr": TEACHER_LR, "teacher_updates": TEACHER_UPDATES, "inner_steps": INNER_STEPS,
        "alpha": ALPHA, "spread": SPREAD, "optimizer": "Adam, cosine",
    }  # fmt: skip


@functools.lru_cache(maxsize=1)
def glyphs(seed: int) -> GlyphTasks:
    """漢字（メタ訓練とメタ検証）と仮名（メタテスト）。漢字の分け方は、種で決まる。"""
    return glyph_tasks(seed=seed)


def sampler(part: Part, seed: int, shots: int, episodes: int) -> EpisodeSampler:
    """5-way のエピソード。学習では毎回新しく引き、検証とテストでは、どの手法にも同じものを返す。"""
    training = part == "train"
    queries = QUERIES if training else HELD_QUERIES
    sizes = {"ways": WAYS, "shots": shots, "queries": queries, "episodes": episodes}
    return glyphs(seed).sampler(part, **sizes, seed=SEEDS[part] + seed, fresh=training)


def network(seed: int, classes: int | None = None) -> Conv4:
    """種だけで初期値が決まる Conv4。"""
    seed_everything(seed)
    return Conv4(classes, width=WIDTH)


def optimise(model: nn.Module, loader: Any, loss: Callable[[Any, Any], Terms], setting: Setting) -> float:
    """決まった回数だけ更新し、かかった CPU の秒数を返す。検証も途中の選択もしない。"""
    steps = setting["updates"]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=setting["lr"])
    start = time.process_time()
    schedule = CosineAnnealingLR(optimizer, steps)
    fit(model, loader, loss, optimizer, steps=steps, scheduler=schedule, device="cpu", progress=False)
    return time.process_time() - start


def on_episodes(
    model: nn.Module, loss: Callable[[Any, Episode], Terms], seed: int, shots: int, setting: Setting
) -> float:
    """エピソードの組の平均の損失で更新し、かかった CPU の秒数を返す。"""

    def mean(net: nn.Module, batch: list[Episode]) -> Terms:
        return mean_over_tasks(lambda episode: loss(net, episode), batch, net.parameters())

    episodes = sampler("train", seed, shots, setting["updates"] * META_BATCH)
    return optimise(model, EpisodeBatches(episodes, META_BATCH), mean, setting)


class Images:
    """メタ訓練の漢字と、その番号。1 回の枚数は、1-shot のエピソードの組と同じ。"""

    def __init__(self, seed: int, updates: int = 0) -> None:
        tasks = glyphs(seed)
        kept = torch.isin(tasks.labels, torch.tensor(tasks.split.train))
        self.images = tasks.images[kept]
        self.labels = torch.unique(tasks.labels[kept], return_inverse=True)[1]
        self.classes = int(self.labels.max()) + 1
        self.updates = updates
        self.generator = torch.Generator().manual_seed(SEEDS["train"] + seed)

    def __len__(self) -> int:
        return self.updates

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.updates):
            size = META_BATCH * WAYS * (1 + QUERIES)
            index = torch.randint(len(self.images), (size,), generator=self.generator)
            yield augment(self.images[index], self.generator), self.labels[index]


def training_images(seed: int) -> Tensor:
    """メタ訓練の漢字を、1 枚ずつ変形したもの。特徴の平均を測るために使う。"""
    images = Images(seed)
    return augment(images.images, images.generator)
