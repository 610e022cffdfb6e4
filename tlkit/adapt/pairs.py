"""ソースとターゲットのバッチを、組にして返すローダー。

二つのローダーを zip でつなぐと、短いほうが尽きた所でエポックが終わり、長いほうの残りは一度も使われない。
ここでは、長いほうを 1 周する間、短いほうを何度でも引き直す。
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

Pair = tuple[tuple[Tensor, Tensor], Tensor]


class PairLoader:
    """（（ソースの入力, ラベル）, ターゲットの入力）を順に返す。`tlkit.training.fit` の loader に使える。

    1 周の長さは、長いほうのバッチの数である。短いほうは、尽きるたびに新しく引き直す（並べ替えも新しくなる）。
    周の初めには、どちらも引き直す。ターゲットのラベルは、あっても捨てる。

    Args:
        source: （入力, ラベル）の組を返すローダー。
        target: 入力、または入力が先頭にある組を返すローダー。

    Raises:
        ValueError: どちらかのローダーが空のとき。source のバッチが（入力, ラベル）の組でないとき（引いたとき）。
    """

    def __init__(self, source: DataLoader[Any], target: DataLoader[Any]) -> None:
        for name, loader in (("source", source), ("target", target)):
            if len(loader) == 0:
                raise ValueError(
                    f"{name} のローダーが空です。データの件数と、batch_size、drop_last の指定を確かめてください。"
                )
        self.source, self.target = source, target

    def __len__(self) -> int:
        """1 周の組の数。"""
        return max(len(self.source), len(self.target))

    def __iter__(self) -> Iterator[Pair]:
        """1 周分の組。"""
        sources, targets = _forever(self.source), _forever(self.target)
        for _ in range(len(self)):
            yield _labelled(next(sources)), inputs_of(next(targets))

    @property
    def generator(self) -> "_Generators":
        """二つのローダーの乱数。`fit` が、途中経過に保存して元に戻す。"""
        found = {id(g): g for loader in (self.source, self.target) if (g := loader.generator) is not None}
        return _Generators(list(found.values()))


class _Generators:
    """いくつかの乱数生成器の状態を、一つのテンソルとして出し入れする。"""

    def __init__(self, generators: list[torch.Generator]) -> None:
        self.generators = generators

    def get_state(self) -> Tensor:
        states = [generator.get_state() for generator in self.generators]
        return torch.stack(states) if states else torch.empty(0, dtype=torch.uint8)

    def set_state(self, state: Tensor) -> None:
        if len(state) != len(self.generators):
            raise ValueError(
                f"途中経過には乱数生成器 {len(state)} 個の状態があり、渡されたローダーには {len(self.generators)} 個あります。"
                "学習を始めたときと同じ作り方のローダーを渡してください。"
            )
        for generator, one in zip(self.generators, state, strict=True):
            generator.set_state(one.clone())  # set_state は、切り出したテンソルの先頭の位置を見ない


def _forever(loader: DataLoader[Any]) -> Iterator[Any]:
    """尽きるたびに引き直す。itertools.cycle は 1 周目のバッチを覚えて使い回すので、並べ替えが効かなくなる。"""
    while True:
        yield from loader


def _labelled(batch: Any) -> tuple[Tensor, Tensor]:
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        given = f"{len(batch)} 個の組" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"source のローダーが {given}を返しました。（入力, ラベル）の組を返す必要があります。")
    return batch[0], batch[1]


def inputs_of(batch: Any) -> Tensor:
    """バッチの入力。組なら先頭を取り、ラベルは捨てる。"""
    inputs: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
    return inputs
