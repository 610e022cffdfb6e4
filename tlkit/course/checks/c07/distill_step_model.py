"""演習 07-6 の小さなモデル、変形、場面。呼ばれ方（どの入力か、モード、勾配の設定）を控える。

二つのモデルは、線形層、バッチ正規化、ドロップアウト（教師モデルだけ）、線形層からなる。
probe は `distill_step.py`、判定は `distill_step_judge.py`、損失の項ごとの勾配は `distill_step_terms.py` にある。
"""

from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]
DIMS, CLASSES = 7, 4  # 入力の次元、クラスの数
WIDTHS = {"student": 5, "teacher": 9}
MOST = 12  # 控える呼び出しの数の上限
RATE = 0.2


class Log:
    """呼び出しの控え。モデルを複製しても、控えは一つである。"""

    def __init__(self, x: Tensor, noise: Tensor) -> None:
        self.x, self.noise = x, noise
        self.calls: list[dict[str, Any]] = []
        self.augmented: list[str] = []  # 変形に渡された入力の名前
        self.steps = 0  # 済んだ更新の回数
        self.taught = 0  # 教師モデルのパラメータに届いた勾配の数

    def __deepcopy__(self, _: Any) -> "Log":
        return self

    def name(self, x: Tensor) -> str:
        """渡された入力の名前。変形の前は raw、k 回目の変形の結果は view-k。"""
        views = {f"view-{index}": self.x + noise for index, noise in enumerate(self.noise)}
        known = {"raw": self.x} | views
        return next(
            (name for name, value in known.items() if x.shape == value.shape and torch.equal(x, value)), "other"
        )


class Augment:
    """呼ぶたびに違う雑音を足す変形。"""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, x: Tensor) -> Tensor:
        """K 回目の呼び出しでは、k 番目の雑音を足す。"""
        index = len(self._log.augmented) % len(self._log.noise)
        if len(self._log.augmented) < MOST:
            self._log.augmented.append(self._log.name(x))
        return x + self._log.noise[index]


class SmallNet(nn.Module):
    """X (N, 7) → ロジット (N, 4)。role は "student" か "teacher"。"""

    def __init__(self, role: str, scene: Scene, log: Log) -> None:
        super().__init__()
        self.role, self.log = role, log
        self.inner = nn.Linear(DIMS, WIDTHS[role])
        self.norm = nn.BatchNorm1d(WIDTHS[role])
        self.drop = nn.Dropout(0.5 if role == "teacher" else 0.0)
        self.outer = nn.Linear(WIDTHS[role], CLASSES)
        self.double()
        self.load_state_dict(scene[role])

    def forward(self, x: Tensor) -> Tensor:
        """呼ばれ方を控えてから計算する。"""
        if len(self.log.calls) < MOST:
            modes = [module.training for module in self.modules()]
            self.log.calls.append(
                {
                    "role": self.role,
                    "given": self.log.name(x),
                    "training": all(modes) if self.role == "student" else any(modes),
                    "grad": torch.is_grad_enabled(),
                    "steps": self.log.steps,
                }
            )
        logits: Tensor = self.outer(self.drop(self.norm(self.inner(x)).relu()))
        return logits


def optimizer_for(student: nn.Module, teacher: nn.Module, scene: Scene) -> torch.optim.Optimizer:
    """生徒モデルの SGD。"joint" の場面では、教師モデルのパラメータも持っている。"""
    parameters = [*student.parameters(), *(teacher.parameters() if scene["joint"] else ())]
    return torch.optim.SGD(parameters, lr=RATE)


def scenes(seed: int) -> dict[str, Scene]:
    """二つのモデルの重みと、入力 (N, 7) とラベル、変形の雑音、温度、重みに、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    common = {"student": _weights("student", g), "teacher": _weights("teacher", g)}
    flags = {"teacher-training": True, "stale": False, "joint": False}
    plain = common | flags | _data(6, g) | {"temperature": 2.5, "alpha": 0.6}
    return {
        "plain": plain,
        "unit": plain | {"temperature": 1.0},
        "hot": plain | {"temperature": 5.0},
        "soft": plain | {"alpha": 1.0},
        "hard": plain | {"alpha": 0.0},
        "more": plain | _data(9, g),
        "evaluated": plain | {"teacher-training": False},
        "stale": plain | {"stale": True},
        "joint": plain | {"joint": True},
    }


def _data(count: int, g: torch.Generator) -> Scene:
    return {
        "x": torch.randn(count, DIMS, generator=g, dtype=torch.float64),
        "y": torch.randperm(count, generator=g) % CLASSES,
        "noise": 0.7 * torch.randn(4, count, DIMS, generator=g, dtype=torch.float64),
    }


def _weights(role: str, g: torch.Generator) -> dict[str, Tensor]:
    """state_dict の形の重みと移動統計。"""
    width = WIDTHS[role]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    return {
        "inner.weight": draw(width, DIMS) / DIMS**0.5,
        "inner.bias": 0.3 * draw(width),
        "norm.weight": 1 + 0.2 * draw(width),
        "norm.bias": 0.3 * draw(width),
        "norm.running_mean": 0.3 * draw(width),
        "norm.running_var": 0.5 + torch.rand(width, generator=g, dtype=torch.float64),
        "norm.num_batches_tracked": torch.tensor(20),
        "outer.weight": 2 * draw(CLASSES, width) / width**0.5,
        "outer.bias": 0.3 * draw(CLASSES),
    }
