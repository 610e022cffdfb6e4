"""エピソード: 「N クラスを K 枚ずつの手本から見分ける」一つの課題。クラスの分け方は `splits.py` にある。"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tlkit.fewshot._pools import ImagePools
from tlkit.fewshot.splits import ClassSplit, Part

Transform = Callable[[Tensor, torch.Generator], Tensor]


class Episode(NamedTuple):
    """一つの課題。ラベルは課題の中の番号（0 から N − 1）で、元のクラス番号とは関係がない。

    Attributes:
        support_x: 支持集合（サポート、手本）の入力 (N·K, …)。
        support_y: そのラベル (N·K,)。並びは無作為。
        query_x: クエリ集合（問い）の入力 (N·Q, …)。
        query_y: そのラベル (N·Q,)。並びは無作為。
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class Draw(NamedTuple):
    """引いた課題の、元のデータでの番号。

    Attributes:
        classes: 元のクラス番号 (N,)。課題の中の番号の順。
        support: サポートの画像の番号 (N·K,)。
        support_y: 課題の中のラベル (N·K,)。
        query: クエリの画像の番号 (N·Q,)。
        query_y: 課題の中のラベル (N·Q,)。
    """

    classes: Tensor
    support: Tensor
    support_y: Tensor
    query: Tensor
    query_y: Tensor


class EpisodeSampler:
    """N-way K-shot のエピソードを、決まった部分のクラスだけから引く。`tlkit.training.fit` の loader に使える。

    クラスは `ClassSplit` から取るので、訓練のエピソードに検証やテストのクラスが混ざることはない。
    サポートとクエリに、同じ画像は入らない。groups を渡すと、サポートとクエリの組（書体など）も必ず違う。

    同じ種と同じ引数なら、同じエピソードが同じ順に出る。fresh=True（訓練）では、周を重ねるたびに新しいエピソードになる。
    fresh=False（検証、テスト）では、何周しても同じエピソードである。

    Args:
        images: 入力 (M, …)。
        labels: 元のクラス番号 (M,)。
        split: クラスの分け方。
        part: "train"、"val"、"test"。
        ways: クラス数 N。
        shots: クラスごとのサポートの枚数 K。
        queries: クラスごとのクエリの枚数 Q。
        episodes: 1 周のエピソードの数。
        seed: 乱数の種。
        groups: 画像の組の番号 (M,)。書体、人物など。
        pairs: （サポートの組, クエリの組）の候補。エピソードごとに一つを等確率で選ぶ。None なら、違う組どうしのすべて。
            その組に画像が足りないクラスは、その候補のときだけ使わない（残りが N 個に満たなければ止める）。
        repeat: 1 枚を何枚にも使うか。transform で別の画像になるときだけ使える。groups も要る（同じ元の画像が両側に入らないため）。
        transform: （画像, 乱数生成器）→ 画像。引いた後に、サポートとクエリに別々に掛ける。
        fresh: 周ごとに新しいエピソードを引くか。

    Raises:
        ValueError: 引数が不正か、クラスか画像が足りないとき。足りないクラスと枚数を知らせる。
    """

    def __init__(  # noqa: PLR0913 どれも名前で渡す。まとめると、かえって読みにくい
        self,
        images: Tensor,
        labels: Tensor,
        split: ClassSplit,
        part: Part = "train",
        *,
        ways: int,
        shots: int,
        queries: int,
        episodes: int,
        seed: int,
        groups: Tensor | None = None,
        pairs: Sequence[tuple[int, int]] | None = None,
        repeat: bool = False,
        transform: Transform | None = None,
        fresh: bool = True,
    ) -> None:
        _check_sizes(ways=ways, shots=shots, queries=queries, episodes=episodes)
        if repeat and (transform is None or groups is None):
            raise ValueError("repeat=True には、transform と groups の両方が要ります。どちらかが渡されていません。")
        if len(images) != len(labels):
            raise ValueError(f"画像が {len(images)} 枚、ラベルが {len(labels)} 個です。同じ数にしてください。")
        self.images, self.transform = images, transform
        self.ways, self.shots, self.queries, self.episodes = ways, shots, queries, episodes
        self.seed, self.fresh = seed, fresh
        self.pools = ImagePools(labels, split.classes(part), ways, (shots, queries), groups, pairs, repeat)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """1 周のエピソードの数。"""
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        """1 周分のエピソード。"""
        generator = self.generator if self.fresh else torch.Generator().manual_seed(self.seed)
        for _ in range(self.episodes):
            yield self.episode(self.draw(generator), generator)

    def draw(self, generator: torch.Generator) -> Draw:
        """一つの課題の、画像の番号を引く。"""
        classes, support, query = self.pools.draw(generator)
        return Draw(classes, *_shuffled(support, generator), *_shuffled(query, generator))

    def episode(self, draw: Draw, generator: torch.Generator) -> Episode:
        """番号から、画像を取り出す。"""
        sides = []
        for index, labels in ((draw.support, draw.support_y), (draw.query, draw.query_y)):
            images = self.images[index]
            sides += [images if self.transform is None else self.transform(images, generator), labels]
        return Episode(*sides)


class EpisodeBatches:
    """エピソードを size 個ずつのリストにまとめる。メタ学習の、1 回の更新に使う課題の組。

    Args:
        sampler: エピソードを返すもの。
        size: 1 回の更新に使うエピソードの数。sampler の 1 周がこれで割り切れること。

    Raises:
        ValueError: 割り切れないとき。
    """

    def __init__(self, sampler: EpisodeSampler, size: int) -> None:
        if size < 1 or len(sampler) % size:
            raise ValueError(
                f"size に {size} が渡されました。1 周のエピソードの数 {len(sampler)} を割り切る、1 以上の整数にしてください。"
            )
        self.sampler, self.size = sampler, size

    def __len__(self) -> int:
        """1 周の組の数。"""
        return len(self.sampler) // self.size

    def __iter__(self) -> Iterator[list[Episode]]:
        """1 周分の組。"""
        batch: list[Episode] = []
        for episode in self.sampler:
            batch.append(episode)
            if len(batch) == self.size:
                yield batch
                batch = []

    @property
    def generator(self) -> Any:
        """乱数生成器。`fit` が、途中経過に保存して元に戻す。"""
        return self.sampler.generator


def _shuffled(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N, K) の番号を 1 列にし、ラベルと同じ順に並べ替える。並びがクラスの順だと、並びに頼った誤りに気づけない。"""
    labels = torch.arange(len(index)).repeat_interleave(index.shape[1])
    order = torch.randperm(len(labels), generator=generator)
    return index.flatten()[order], labels[order]


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        smallest = 2 if name == "ways" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
            raise ValueError(f"{name} に {value!r} が渡されました。{smallest} 以上の整数にしてください。")
