"""二つの標本 x と y を受け取る損失（演習 03-3 の MMD、03-4 の CORAL）に共通の、場合の入れものと答えの呼び方。

場合の中身は `mmd_loss.py` と `coral_loss.py` が決める。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.trial import trial

Case = dict[str, Tensor]


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。勾配の場合では、x と y の写しで微分もする。"""
    values = {name: trial(answer, case["x"], case["y"]) for name, case in inputs["cases"].items()}
    gradients = {}
    for name, case in inputs["gradients"].items():
        x, y = (case[key].clone().requires_grad_() for key in ("x", "y"))
        gradients[name] = trial(answer, x, y, wrt=(x, y))
    return {"values": values, "gradients": gradients}


def case(x: Tensor, y: Tensor) -> Case:
    """写しを取った一組。"""
    return {"x": x.clone(), "y": y.clone()}


def randn(rows: int, columns: int, g: torch.Generator) -> Tensor:
    """float64 の標準正規乱数 (rows, columns)。"""
    return torch.randn(rows, columns, generator=g, dtype=torch.float64)
