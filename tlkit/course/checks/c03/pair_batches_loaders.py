"""演習 03-10 で答えに渡すローダー。引かれた順、周、回数を控える。

反復のたびにバッチの順を並べ替え、バッチも新しく作る（拡張のある DataLoader と同じ動き方）。添字では取り出せない。
判定は `pair_batches_judge.py` にある。
"""

from collections.abc import Iterator
from typing import Any

import torch

MOST_ROUNDS = 60  # 空のローダーを回し続けるなど、終わらない答えを、この回数の反復で止める


class TooManyIterationsError(BaseException):
    """反復を始めすぎた答えを止める合図。答えの `except Exception` に捕まらないよう BaseException とする。"""


class RecordingLoader:
    """長さがあり、反復のたびに順の変わるローダー。

    バッチは、ソースなら（入力 (2, 3), ラベル (2,)）の組、ターゲットなら入力 (2, 3) である。
    """

    def __init__(self, side: str, length: int, seed: int) -> None:
        self.side, self.length, self.seed = side, length, seed
        self.drawn: list[int] = []  # 周ごとの、取り出されたバッチの数
        self.made: list[tuple[Any, list[Any]]] = []  # （バッチ, [どちらの, 何周めの, 何番めの, どの行の組か]）

    def __len__(self) -> int:
        """バッチの数。"""
        return self.length

    def __iter__(self) -> Iterator[Any]:
        """新しい順で 1 周する。"""
        if len(self.drawn) >= MOST_ROUNDS:
            raise TooManyIterationsError
        self.drawn.append(0)
        return self._round(len(self.drawn) - 1)

    def _round(self, number: int) -> Iterator[Any]:
        g = torch.Generator().manual_seed(self.seed + 1000 * number)
        for place, row in enumerate(torch.randperm(self.length, generator=g).tolist()):
            x = row + 0.1 * torch.randn(2, 3, generator=g)
            batch = (x, torch.tensor([row, row])) if self.side == "source" else x
            self.drawn[number] += 1
            self.made.append((batch, [self.side, number, place, row]))
            yield batch

    def find(self, batch: Any) -> list[Any] | None:
        """このローダーが渡したバッチなら、その出どころ。渡していないものなら None。"""
        return next((origin for made, origin in self.made if made is batch), None)
