"""`EpisodeSampler` の部品: クラスごと、組ごとの画像の番号と、そこからの抽選。"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

Pair = tuple[int | None, int | None]


class ImagePools:
    """使えるクラスの画像の番号だけを持つ。ほかの部分のクラスの画像には、ここから手が届かない。"""

    def __init__(
        self,
        labels: Tensor,
        classes: Sequence[int],
        ways: int,
        wanted: tuple[int, int],
        groups: Tensor | None,
        pairs: Sequence[tuple[int, int]] | None,
        repeat: bool,
    ) -> None:
        _check_labels(labels, groups, pairs)
        self.ways, self.wanted, self.repeat = ways, wanted, repeat
        self.images = _pools(labels, classes, groups)
        self.usable = {pair: self._usable(pair, classes) for pair in _candidates(groups, pairs)}
        self.pairs = list(self.usable)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """クラス (N,)、サポートの画像 (N, K)、クエリの画像 (N, Q) を引く。"""
        pair = self.pairs[int(torch.randint(len(self.pairs), (1,), generator=generator))]
        usable = self.usable[pair]
        order = torch.randperm(len(usable), generator=generator)[: self.ways].tolist()
        classes = [usable[i] for i in order]
        rows = [self._sides(label, pair, generator) for label in classes]
        support, query = (torch.stack(side) for side in zip(*rows, strict=True))
        return torch.tensor(classes), support, query

    def _sides(self, label: int, pair: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """一つのクラスの、サポートとクエリ。組があれば組ごとに、なければ一度に引いて分ける。"""
        shots, queries = self.wanted
        if pair[0] is None:
            chosen = self._pick(label, None, shots + queries, generator)
            return chosen[:shots], chosen[shots:]
        return self._pick(label, pair[0], shots, generator), self._pick(label, pair[1], queries, generator)

    def _pick(self, label: int, group: int | None, count: int, generator: torch.Generator) -> Tensor:
        pool = self.images[label, group]
        if self.repeat:  # 1 巡して足りない分だけ、もう一度使う
            rounds = [torch.randperm(len(pool), generator=generator) for _ in range(-(-count // len(pool)))]
            return pool[torch.cat(rounds)[:count]]
        return pool[torch.randperm(len(pool), generator=generator)[:count]]

    def _usable(self, pair: Pair, classes: Sequence[int]) -> list[int]:
        """その組み合わせで画像が足りるクラス。N に満たなければ、足りないクラスを挙げて止める。"""
        shots, queries = self.wanted
        sides = [(None, shots + queries)] if pair[0] is None else list(zip(pair, self.wanted, strict=True))
        missing = {}
        for label in classes:
            counts = [(group, need, len(self.images.get((label, group), ()))) for group, need in sides]
            short = [(group, need, have) for group, need, have in counts if have < (1 if self.repeat else need)]
            if short:
                missing[label] = short[0]
        usable = [label for label in classes if label not in missing]
        if (not self.repeat and pair[0] is None and missing) or len(usable) < self.ways:
            raise ValueError(_shortage(pair, missing, len(usable), self.ways))
        return usable


def _pools(labels: Tensor, classes: Sequence[int], groups: Tensor | None) -> dict[tuple[int, int | None], Tensor]:
    found: dict[tuple[int, int | None], list[int]] = {}
    allowed = set(classes)
    keys: list[int | None] = [None] * len(labels) if groups is None else list(groups.tolist())
    for index, (label, group) in enumerate(zip(labels.tolist(), keys, strict=True)):
        if label in allowed:
            found.setdefault((label, group), []).append(index)
    return {key: torch.tensor(indices) for key, indices in found.items()}


def _candidates(groups: Tensor | None, pairs: Sequence[tuple[int, int]] | None) -> list[Pair]:
    if groups is None:
        return [(None, None)]
    known = sorted(set(groups.tolist()))
    chosen = list(itertools.permutations(known, 2)) if pairs is None else list(pairs)
    for support, query in chosen:
        if support == query or not {support, query} <= set(known):
            raise ValueError(
                f"pairs に ({support}, {query}) があります。groups にある、互いに違う二つの番号を組にしてください。"
                f"groups にあるのは {known[:10]} です。"
            )
    if not chosen:
        raise ValueError(
            f"使える組み合わせがありません。groups には 2 種類以上の番号が要ります（渡されたのは {known}）。"
        )
    return list(chosen)


def _shortage(pair: Pair, missing: dict[int, tuple[int | None, int, int]], usable: int, ways: int) -> str:
    where = "" if pair[0] is None else f"サポートの組 {pair[0]}、クエリの組 {pair[1]} で"
    listed = "、".join(
        f"クラス {label}（{'' if group is None else f'組 {group} に '}{need} 枚必要、{have} 枚）"
        for label, (group, need, have) in itertools.islice(missing.items(), 5)
    )
    short = f"画像が足りないクラスが {len(missing)} 個あります: {listed}。" if missing else ""
    return (
        f"{where}使えるクラスが {usable} 個で、{ways} 個必要です。{short}"
        "ways、shots、queries を減らすか、クラスか画像を増やしてください。"
    )


def _check_labels(labels: Tensor, groups: Tensor | None, pairs: object) -> None:
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"形 {tuple(labels.shape)}、{labels.dtype} のラベルが渡されました。(M,) の整数にしてください。"
        )
    if groups is not None and groups.shape != labels.shape:
        raise ValueError(
            f"groups の形が {tuple(groups.shape)} です。ラベルと同じ {tuple(labels.shape)} にしてください。"
        )
    if groups is None and pairs is not None:
        raise ValueError("pairs が渡されましたが、groups がありません。画像ごとの組の番号も渡してください。")
