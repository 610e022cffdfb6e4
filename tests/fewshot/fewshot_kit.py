"""tests/fewshot の共通の部品: どの画像かが値で分かる、小さなデータ。"""

import pytest
import torch
from torch import Tensor

from tlkit.fewshot import ClassSplit, EpisodeSampler

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SPLIT = ClassSplit(train=(0, 2, 4, 6, 8), val=(1, 3, 5), test=(7, 9, 11))


def numbered(classes: int = 12, each: int = 6) -> tuple[Tensor, Tensor]:
    """画像 i の画素はすべて i。ラベルは無作為な順に並ぶ。"""
    labels = torch.arange(classes).repeat_interleave(each)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(7))]
    images = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return images, labels


def sampler(part: str = "train", **options: object) -> EpisodeSampler:
    images, labels = numbered()
    settings = {"ways": 3, "shots": 2, "queries": 3, "episodes": 20, "seed": 0} | options
    return EpisodeSampler(images, labels, SPLIT, part, **settings)


def numbers(images: Tensor) -> list[int]:
    """画像の番号。"""
    return images[:, 0, 0, 0].long().tolist()
