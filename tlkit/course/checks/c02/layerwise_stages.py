"""演習 02-2 の段の並び。凍結、共有、パラメータのない段など、場面ごとに作る。

隣: 答えの呼び方は `layerwise_groups.py`、判定は `layerwise_judge.py` と `layerwise_rates.py` にある。
"""

from collections.abc import Callable

import torch
from torch import nn


class Token(nn.Module):
    """自分で直接パラメータを持つ段（ViT のクラストークンのような例）。"""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(2))
        self.mix = nn.Linear(2, 2)


def _convolution() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())


def _hidden() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.ReLU(), nn.Linear(2, 2))


def _plain() -> list[nn.Module]:
    return [_convolution(), _hidden(), nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Linear(2, 3)]


def _single() -> list[nn.Module]:
    return [nn.Linear(2, 3)]


def _frozen_stage() -> list[nn.Module]:
    stages = _plain()
    stages[1].requires_grad_(False)
    return stages


def _frozen_parts() -> list[nn.Module]:
    stages = _plain()
    for module in stages[0].modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    return stages


def _bare_stage() -> list[nn.Module]:
    return [_convolution(), nn.Flatten(), _hidden(), nn.ReLU(), nn.Linear(2, 3)]


def _shared() -> list[nn.Module]:
    """0 番の段の重みを 2 番の段も使う。2 番の段には、自分だけのバイアスもある。"""
    first, last = nn.Linear(2, 2), nn.Linear(2, 2)
    last.weight = first.weight
    return [first, _hidden(), last, nn.Linear(2, 3)]


def _wholly_shared() -> list[nn.Module]:
    first = nn.Linear(2, 2)
    return [first, _hidden(), nn.Sequential(first), nn.Linear(2, 3)]


def _token() -> list[nn.Module]:
    return [Token(), _hidden(), nn.Linear(2, 3)]


def _all_frozen() -> list[nn.Module]:
    return [stage.requires_grad_(False) for stage in _plain()]


BUILD: dict[str, Callable[[], list[nn.Module]]] = {
    "plain": _plain,
    "gentle": _plain,
    "equal": _plain,
    "single": _single,
    "token": _token,
    "frozen-stage": _frozen_stage,
    "frozen-parts": _frozen_parts,
    "bare-stage": _bare_stage,
    "shared": _shared,
    "wholly-shared": _wholly_shared,
    "all-frozen": _all_frozen,
}


def labels(stages: list[nn.Module]) -> dict[int, str]:
    """パラメータの id → 「段:名前」。二つの段が共有するものは、入力に近い段の名前になる。"""
    found: dict[int, str] = {}
    for index, stage in enumerate(stages):
        for name, value in (*stage.named_parameters(), *((f"{n}（移動統計）", v) for n, v in stage.named_buffers())):
            found.setdefault(id(value), f"{index}:{name}")
    return found
