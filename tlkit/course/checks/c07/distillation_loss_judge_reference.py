"""演習 07-2 の正しい値と勾配。tlkit の実装を使わず、float64 で定義どおりに計算する。"""

from typing import Any

import torch
from torch import Tensor


def value(case: dict[str, Any]) -> float:
    """損失の値。"""
    return float(_loss(case["student_logits"].double(), case))


def gradient(case: dict[str, Any]) -> Tensor:
    """生徒のロジットの勾配 (N, C)。"""
    student = case["student_logits"].double().requires_grad_()
    grad: Tensor = torch.autograd.grad(_loss(student, case), student)[0]
    return grad


def _loss(student: Tensor, case: dict[str, Any]) -> Tensor:
    t, alpha, rows = float(case["temperature"]), float(case["alpha"]), range(len(student))
    log_p = torch.log_softmax(case["teacher_logits"].double() / t, dim=1)
    log_q = torch.log_softmax(student / t, dim=1)
    soft = (log_p.exp() * (log_p - log_q)).sum(1).mean() * t**2
    hard = -torch.log_softmax(student, dim=1)[rows, case["labels"]].mean()
    return alpha * soft + (1 - alpha) * hard
