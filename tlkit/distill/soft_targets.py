"""教師モデルのロジットの前計算。入力を変形しないなら、教師モデルを動かすのは一度でよい。"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from tlkit._modes import evaluating
from tlkit.device import pick_device
from tlkit.distill.methods import unpack

SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def teacher_logits(model: nn.Module, loader: Iterable[Any], *, device: str | None = None) -> Tensor:
    """教師モデルのロジットを、全データについて一度だけ計算する。

    評価モードで、勾配なしで計算し、終わるとモデルの訓練・評価の状態を元へ戻す。
    行の順は loader の順なので、並べ替える loader は断る。順がずれると、別の画像のロジットから学ぶことになる。

    Args:
        model: 教師モデル。入力 → ロジット (N, C)。
        loader: （入力, ラベル）の組を順に返すもの。shuffle=False、drop_last=False の DataLoader。
        device: 計算する装置（`tlkit.device.pick_device` の名前）。指定すると、モデルもそこへ移る。省くと、モデルが今ある装置。

    Returns:
        ロジット (N, C)。CPU 上にあり、推論モードの印が付いていない。dtype はモデルの出力と同じ。

    Raises:
        ValueError: loader が空か、並べ替えや切り捨てをするか、モデルの出力が (N, C) でないとき。
    """
    _require_in_order(loader)
    if device is not None:
        model.to(pick_device(device))
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    rows = []
    with evaluating(model), torch.no_grad():
        for batch in loader:
            x = unpack(batch)[0]
            rows.append(_logits(model, x.to(place)).cpu())
    if not rows:
        raise ValueError("loader が空です。データの件数と batch_size を確かめてください。")
    return torch.cat(rows)


class WithTeacherLogits(Dataset[tuple[Any, ...]]):
    """（入力, ラベル）のデータ集合に、同じ番号のロジットを添える。要素は（入力, ラベル, ロジット (C,)）になる。

    番号で結び付けるので、この後は並べ替えても対応が崩れない。

    Args:
        dataset: （入力, ラベル）を返す、長さのあるデータ集合。
        logits: `teacher_logits` が同じデータ集合から求めたロジット (N, C)。

    Raises:
        ValueError: 件数が違うか、logits が (N, C) でないとき。
    """

    def __init__(self, dataset: Any, logits: Tensor) -> None:
        if logits.ndim != 2 or len(dataset) != len(logits):
            raise ValueError(
                f"dataset は {len(dataset)} 件、logits の形は {tuple(logits.shape)} です。"
                "同じデータ集合から teacher_logits で求めた (N, C) を渡してください。"
            )
        self.dataset, self.logits = dataset, logits

    def __len__(self) -> int:
        """件数 N。"""
        return len(self.logits)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Index 番目の（入力, ラベル, ロジット）。"""
        return (*self.dataset[index], self.logits[index])


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    found = model(x)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(x):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"教師モデルが {shape} を返しました。ロジット (N, C) = ({len(x)}, C) が必要です。")
    return found


def _require_in_order(loader: Any) -> None:
    if isinstance(getattr(loader, "sampler", None), SHUFFLING) or getattr(loader, "drop_last", False):
        raise ValueError(
            "並べ替える（shuffle=True）か、半端を捨てる（drop_last=True）loader が渡されました。"
            "ロジットとデータの対応が崩れるので、どちらも False の DataLoader を渡してください。"
        )
