"""演習 07-6 の、損失の項ごとの値と勾配。判定は、観測した勾配を、二つの項の組み合わせに分解する。

観測した勾配 = a·∇KL(教師_T ‖ 生徒_T) + b·∇CE と書けるなら、正しい係数は a = α·T²、b = 1 − α である。
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlkit.course.checks.c07.distill_step_model import Scene

Grads = dict[str, Tensor]
TERMS = ("soft", "hard")


@dataclass(frozen=True)
class Fit:
    """分解の結果。soft と hard は係数、rest は説明できない部分の割合。"""

    soft: float
    hard: float
    rest: float


def losses(scene: Scene, weights: Grads) -> dict[str, Tensor]:
    """係数を掛ける前の二つの項。二つのモデルは、1 回目の変形の結果を見る。"""
    x, t = scene["x"] + scene["noise"][0], scene["temperature"]
    student = _network(x, weights, None)
    teacher = _network(x, scene["teacher"], scene["teacher"])
    log_q, log_p = (student / t).log_softmax(1), (teacher / t).log_softmax(1)
    soft = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    return {"soft": soft, "hard": F.cross_entropy(student, scene["y"])}


def gradients(scene: Scene) -> dict[str, Grads]:
    """項ごとの、生徒モデルの全部のパラメータについての勾配。"""
    weights = {name: value.clone().requires_grad_() for name, value in scene["student"].items() if _learned(name)}
    terms = losses(scene, weights)
    found = {term: torch.autograd.grad(terms[term], list(weights.values()), retain_graph=True) for term in TERMS}
    return {term: dict(zip(weights, grads, strict=True)) for term, grads in found.items()}


def factors(scene: Scene) -> tuple[float, float]:
    """正しい係数 (α·T², 1 − α)。"""
    return scene["alpha"] * scene["temperature"] ** 2, 1 - scene["alpha"]


def expected(scene: Scene, terms: dict[str, Grads]) -> Grads:
    """正しい 1 回の更新で使われる勾配。"""
    soft, hard = factors(scene)
    return {name: soft * value + hard * terms["hard"][name] for name, value in terms["soft"].items()}


def total(scene: Scene) -> float:
    """正しい損失の値。"""
    (soft, hard), terms = factors(scene), losses(scene, scene["student"])
    return float(soft * terms["soft"] + hard * terms["hard"])


def fit(observed: Grads, terms: dict[str, Grads]) -> Fit:
    """勾配を、二つの項の勾配の組み合わせに、最小二乗で分解する。"""
    basis = np.stack([_flat(terms[term], observed) for term in TERMS], axis=1)
    goal = _flat(observed, observed)
    (soft, hard), *_ = np.linalg.lstsq(basis, goal, rcond=None)
    rest = float(np.linalg.norm(goal - basis @ np.array([soft, hard]))) / max(float(np.linalg.norm(goal)), 1e-6)
    return Fit(float(soft), float(hard), rest)


def _flat(grads: Grads, names: Grads) -> np.ndarray:
    return np.concatenate([np.asarray(grads[name], dtype=float).ravel() for name in names])


def _learned(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


def _network(x: Tensor, w: Grads, running: Grads | None) -> Tensor:
    """running があれば移動統計で、なければバッチの統計で正規化する。"""
    mean, var = (None, None) if running is None else (running["norm.running_mean"], running["norm.running_var"])
    inner = F.linear(x, w["inner.weight"], w["inner.bias"])
    hidden = F.batch_norm(inner, mean, var, w["norm.weight"], w["norm.bias"], training=running is None)
    return F.linear(hidden.relu(), w["outer.weight"], w["outer.bias"])
