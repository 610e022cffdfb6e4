"""演習 07-3 の判定が比べる値。損失の定義と中心差分、手で微分した式を、tlkit の実装を使わずに書く。"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Case = dict[str, Any]
STEP = 1e-5  # 中心差分の刻み


def loss(case: Case, student: Tensor) -> Tensor:
    """損失の定義。student (..., N, C) → (...)。"""
    temperature, alpha = case["temperature"], case["alpha"]
    log_p, log_q = ((z / temperature).log_softmax(-1) for z in (case["teacher"].double(), student))
    soft = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)
    hard = -(student.log_softmax(-1) * _onehot(case)).sum(-1)
    mean: Tensor = (alpha * soft + (1 - alpha) * hard).mean(-1)
    return mean


def central_differences(case: Case) -> Tensor:
    """損失の中心差分 (N, C)。要素を一つずつ ±STEP だけ動かす。"""
    s = case["student"].double()
    moves = STEP * torch.eye(s.numel(), dtype=s.dtype).reshape(-1, *s.shape)
    return ((loss(case, s + moves) - loss(case, s - moves)) / (2 * STEP)).reshape(s.shape)


def closed_form(case: Case) -> Tensor:
    """手で微分した式 (N, C)。大きなロジットでも使える。"""
    soft, hard = soft_direction(case), hard_direction(case)
    total: Tensor = case["alpha"] * case["temperature"] * soft + (1 - case["alpha"]) * hard
    return total / len(soft)


def soft_direction(case: Case) -> Tensor:
    """温度 T の確率の差 q − p (N, C)。"""
    q, p = (torch.softmax(case[key].double() / case["temperature"], 1) for key in ("student", "teacher"))
    return q - p


def hard_direction(case: Case) -> Tensor:
    """温度 1 の確率から、正解だけが 1 の行列を引いたもの (N, C)。"""
    return torch.softmax(case["student"].double(), 1) - _onehot(case)


def _onehot(case: Case) -> Tensor:
    return F.one_hot(case["labels"], case["student"].shape[1]).double()
