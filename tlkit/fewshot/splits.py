"""クラスを、訓練、検証、テストに一度だけ分ける。少数ショット学習では、画像ではなくクラスが分ける単位である。"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class ClassSplit:
    """クラスの分け方。同じクラスが二つの部分に入ることはない（作るときに確かめる）。

    Attributes:
        train: メタ訓練のクラス番号。
        val: 設定を選ぶためのクラス番号。
        test: 最後に一度だけ使うクラス番号。

    Raises:
        ValueError: 同じクラスが 2 回出てくるとき。
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, _integers(part, getattr(self, part)))
        every = [*self.train, *self.val, *self.test]
        if twice := sorted(c for c, count in Counter(every).items() if count > 1)[:5]:
            raise ValueError(
                f"クラス {twice} などが 2 回出てきます。訓練に使ったクラスでテストすると、"
                "「初めて見るクラス」の成績にならないので、どのクラスも一つの部分にだけ入れてください。"
            )

    def classes(self, part: Part) -> tuple[int, ...]:
        """その部分のクラス番号。

        Raises:
            ValueError: 知らない名前のとき。
        """
        if part not in PARTS:
            raise ValueError(f"part に {part!r} が渡されました。{'、'.join(PARTS)} のどれかにしてください。")
        chosen: tuple[int, ...] = getattr(self, part)
        return chosen


def split_classes(labels: Tensor | Iterable[int], *, val: int, test: int, seed: int) -> ClassSplit:
    """出てくるクラスを無作為に並べ、test 個、val 個、残り（訓練）に分ける。

    Args:
        labels: ラベル (N,) の整数。同じ値が何度出てもよい。
        val: 検証のクラスの数。0 でもよい。
        test: テストのクラスの数。1 以上。
        seed: 乱数の種。同じ種と同じクラスなら、同じ分け方になる。

    Returns:
        それぞれの中はクラス番号の順に並んだ `ClassSplit`。

    Raises:
        ValueError: 数が負か、訓練のクラスが残らないとき。
    """
    known = sorted(set(labels.tolist() if isinstance(labels, Tensor) else labels))
    if val < 0 or test < 1 or val + test >= len(known):
        raise ValueError(
            f"クラスは {len(known)} 個で、val={val}、test={test} が渡されました。"
            "val は 0 以上、test は 1 以上で、訓練に 1 個以上残るようにしてください。"
        )
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)).tolist()
    mixed = [known[i] for i in order]
    groups = mixed[test + val :], mixed[test : test + val], mixed[:test]
    return ClassSplit(*(tuple(sorted(group)) for group in groups))


def _integers(part: str, values: Sequence[int] | Tensor) -> tuple[int, ...]:
    numbers = values.tolist() if isinstance(values, Tensor) else list(values)
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"{part} に整数でない値があります: {numbers[:5]}。クラス番号を並べてください。")
    return tuple(numbers)
