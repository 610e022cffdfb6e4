"""演習 02-4 の段の並び。隣: 答えの呼び方は `unfreeze_top.py`、判定は `unfreeze_judge.py` にある。"""

from collections.abc import Callable

from torch import Tensor, nn

STEPS_PER_CALL = 2


def _plain() -> list[nn.Module]:
    """BatchNorm と Dropout を持つ 4 段。最後が分類層。"""
    return [
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.2))),
        nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()),
        nn.Linear(6, 3),
    ]


def _bare() -> list[nn.Module]:
    """パラメータのない段（Flatten）を挟む 4 段。"""
    first, _, third, last = _plain()
    return [first, nn.Flatten(), nn.Sequential(nn.Linear(48, 6), *third.children()), last]


BUILD: dict[str, Callable[[], list[nn.Module]]] = {"plain": _plain, "bare": _bare}


def outputs(stages: list[nn.Module], x: Tensor) -> Tensor:
    """段を順に通す。"""
    for stage in stages:
        x = stage(x)
    return x
