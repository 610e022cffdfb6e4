"""演習 08-6 の小さなモデルと場面。

線形層、tanh（教師モデルでは sin）、線形層からなる。滑らかなので、中心差分で勾配を確かめられる。
probe は `meta_distillation_step.py`、判定は `meta_distillation_step_judge.py`、正しい値は `meta_distillation_step_reference.py` にある。
"""

from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]
DIMS, CLASSES = 3, 4  # 入力の次元、クラスの数
WIDTHS = {"student": 3, "teacher": 4}
ACTIVATIONS = {"student": torch.tanh, "teacher": torch.sin}  # 取り違えると、値が変わる
NAMES = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
SETTINGS = ("inner_lr", "inner_steps", "temperature", "alpha")


class TinyNet(nn.Module):
    """X (N, 3) → ロジット (N, 4)。role は "student" か "teacher"。"""

    def __init__(self, role: str, scene: Scene) -> None:
        super().__init__()
        self.role = role
        self.hidden = nn.Linear(DIMS, WIDTHS[role])
        self.out = nn.Linear(WIDTHS[role], CLASSES)
        self.double()
        self.load_state_dict(scene[role])

    def forward(self, x: Tensor) -> Tensor:
        """ロジット (N, 4)。"""
        logits: Tensor = self.out(ACTIVATIONS[self.role](self.hidden(x)))
        return logits


def scenes(seed: int) -> dict[str, Scene]:
    """二つのモデルの重みと、一つの課題のサポートとクエリ、内側の設定に、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    models = {"student": _weights("student", g), "teacher": _weights("teacher", g)}
    plain: Scene = models | {"support": _set(6, g), "query": _set(7, g)}
    plain |= {"inner_lr": 0.3, "inner_steps": 1, "temperature": 2.5, "alpha": 0.6}
    return {
        "plain": plain,
        "unit": plain | {"temperature": 1.0},
        "hot": plain | {"temperature": 5.0},
        "soft": plain | {"alpha": 1.0},
        "hard": plain | {"alpha": 0.0},
        "more": plain | {"support": _set(9, g)},
        "none": plain | {"inner_steps": 0},
        "once": plain | {"inner_lr": 0.5},
        "five": plain | {"inner_lr": 0.1, "inner_steps": 5},
        "deep": plain | {"inner_steps": 3},
    }


def _set(count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """入力 (N, 3) とラベル (N,)。どのクラスも出てくる。"""
    return torch.randn(count, DIMS, generator=g, dtype=torch.float64), torch.randperm(count, generator=g) % CLASSES


def _weights(role: str, g: torch.Generator) -> dict[str, Tensor]:
    width = WIDTHS[role]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    values = draw(width, DIMS) / DIMS**0.5, 0.3 * draw(width), 2 * draw(CLASSES, width) / width**0.5, draw(CLASSES)
    return dict(zip(NAMES, values, strict=True))
