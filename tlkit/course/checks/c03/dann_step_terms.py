"""演習 03-5 の、損失の項ごとの勾配（反転の前）。判定は、観測した勾配を、これらの組み合わせに分解する。

観測した勾配 = Σ 係数 × 項の勾配 と書けるなら、係数は、どの損失がどの重みで足されたかを表す。
正しい係数は、クラスの項が 1、ドメインの項が識別器で ½、特徴抽出器で −λ/2 である。
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlkit.course.checks.c03.dann_step_model import Scene

PARTS: dict[str, tuple[str, ...]] = {
    "分類器": ("label_classifier.",),
    "ドメイン識別器": ("domain_classifier.",),
    "特徴抽出器": ("extractor.", "norm."),
}
CLASS, DOMAIN = ("class", "class-on-target"), ("source-0", "source-1", "target-0", "target-1")
Grads = dict[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """分解の結果。weights は項の係数、rest は説明できない部分の割合。"""

    weights: dict[str, float]
    rest: float


def losses(scene: Scene, weights: Grads) -> dict[str, Tensor]:
    """損失の項。ドメインの項は、ドメインとラベルの組ごとにある。勾配の反転はしない。"""
    class_s, domain_s = _network(scene["source_x"], weights, norm=scene["norm"])
    class_t, domain_t = _network(scene["target_x"], weights, norm=scene["norm"])
    found = {"class": F.cross_entropy(class_s, scene["source_y"])}
    if len(class_s) == len(class_t):  # ターゲットの画像に、ソースのラベルを付けた場合
        found["class-on-target"] = F.cross_entropy(class_t, scene["source_y"])
    for domain, logits in (("source", domain_s), ("target", domain_t)):
        for label in (0, 1):
            found[f"{domain}-{label}"] = F.cross_entropy(logits, torch.full((len(logits),), label))
    return found


def gradients(scene: Scene) -> dict[str, Grads]:
    """項ごとの、すべてのパラメータについての勾配。項 → パラメータの名前 → 勾配。"""
    weights = {name: value.clone().requires_grad_() for name, value in start(scene).items()}
    found = {}
    for term, loss in losses(scene, weights).items():
        values = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
        grads = zip(weights, values, strict=True)
        found[term] = {name: torch.zeros_like(weights[name]) if grad is None else grad for name, grad in grads}
    return found


def expected(scene: Scene, terms: dict[str, Grads]) -> Grads:
    """正しい 1 回の更新で使われる勾配。"""
    found = {}
    for name, value in terms["class"].items():
        sign = -scene["lambda"] if name.startswith(PARTS["特徴抽出器"]) else 1.0
        found[name] = value + sign / 2 * (terms["source-0"][name] + terms["target-1"][name])
    return found


def fit(observed: Grads, terms: dict[str, Grads], part: str) -> Fit:
    """その部分の勾配を、項の勾配の組み合わせに、最小二乗で分解する。"""
    names = [name for name in terms["class"] if name.startswith(PARTS[part])]
    known = [term for term in (*CLASS, *DOMAIN) if term in terms and any(terms[term][name].any() for name in names)]
    basis = np.stack([_flat(terms[term], names) for term in known], axis=1)
    goal = _flat(observed, names)
    weights, *_ = np.linalg.lstsq(basis, goal, rcond=None)
    rest = float(np.linalg.norm(goal - basis @ weights)) / max(float(np.linalg.norm(goal)), 1e-6)
    return Fit(dict(zip(known, weights.tolist(), strict=True)), rest)


def _flat(grads: Grads, names: list[str]) -> np.ndarray:
    return np.concatenate([np.asarray(grads[name], dtype=float).ravel() for name in names])


def start(scene: Scene) -> Grads:
    """更新の前の、すべてのパラメータの値。"""
    weights: Grads = scene["weights"]
    width = weights["extractor.bias"]
    return weights | (
        {"norm.weight": torch.ones_like(width), "norm.bias": torch.zeros_like(width)} if scene["norm"] else {}
    )


def _network(x: Tensor, weights: Grads, *, norm: bool) -> tuple[Tensor, Tensor]:
    features = F.linear(x, weights["extractor.weight"], weights["extractor.bias"])
    if norm:
        features = F.batch_norm(features, None, None, weights["norm.weight"], weights["norm.bias"], training=True)
    heads = ("label_classifier", "domain_classifier")
    class_, domain = (F.linear(features, weights[f"{head}.weight"], weights[f"{head}.bias"]) for head in heads)
    return class_, domain
