"""演習 02-6 の解の性質。float64 で、目的関数 mean CE + l2/2·‖W‖² の値、勾配、最小値を計算する。

最小点では、損失の勾配が重みについて −l2·W、バイアスについて 0 になる。破れ方から、誤りの種類が分かる。
"""

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EXCESS = 1e-4  # 目的関数の値の、最小値からの差の上限
STEEPEST = 5e-3  # 勾配のノルムの上限
NEAR = 0.05  # 割合で比べるときの許容


def relative(a: Tensor, b: Tensor) -> float:
    """二つの値の相対的な違い ‖a − b‖ / ‖a‖。"""
    return float((a - b).norm() / a.norm().clamp(min=1e-12))


class Solution:
    """一つの場面で、答えが分類層に書いた重み W (C, D) とバイアス b (C,)。"""

    def __init__(self, scene: dict[str, Any], given: dict[str, Any]) -> None:
        self.weight, self.bias = (torch.tensor(scene[name]["value"]).double() for name in ("weight", "bias"))
        self.given, self.l2 = given, float(given["l2"])
        self.features, self.labels = given["features"].double(), given["labels"]
        self.finite = bool(self.weight.isfinite().all() and self.bias.isfinite().all())
        self.logits = F.linear(self.features, self.weight, self.bias)
        self.logits = self.logits - self.logits.mean(dim=1, keepdim=True)  # 全クラスに同じ量を足しても、確率は同じ

    @cached_property
    def slopes(self) -> tuple[Tensor, Tensor]:
        """損失（罰則を除く）の勾配。重みについて (C, D)、バイアスについて (C,)。"""
        error = self.logits.softmax(dim=1) - F.one_hot(self.labels, len(self.bias))
        return error.T @ self.features / len(self.labels), error.mean(dim=0)

    @property
    def value(self) -> float:
        """目的関数の値。"""
        return float(_objective(self.weight, self.bias, self.features, self.labels, self.l2))

    @cached_property
    def best(self) -> float:
        """目的関数の最小値。"""
        return _minimum(self.features, self.labels, self.l2, self.weight.shape[0])

    @property
    def gradient(self) -> float:
        """目的関数の勾配のノルム。"""
        along_weight, along_bias = self.slopes
        return float(torch.cat([(along_weight + self.l2 * self.weight).flatten(), along_bias]).norm())

    @cached_property
    def solved(self) -> bool:
        """最小点にあるか。"""
        return self.value - self.best <= EXCESS and self.gradient <= STEEPEST

    def unchanged(self, name: str) -> bool:
        """初期値のままか。"""
        return torch.equal(getattr(self, name), self.given[name].double())

    def same_head(self, other: "Solution") -> bool:
        """重みとバイアスが、ほぼ同じか。"""
        return relative(self.weight, other.weight) < 0.01 and relative(self.bias, other.bias) < 0.01

    @property
    def bias_settled(self) -> bool:
        """バイアスについて最小か（確率の平均が、ラベルの割合に一致する）。"""
        return float(self.slopes[1].norm()) < STEEPEST

    @property
    def bias_shrunk(self) -> bool:
        """バイアスの勾配が、バイアスと正反対を向いているか（0 へ引く力とつり合っている）。"""
        ratio = _pull(self.slopes[1], self.bias)
        return ratio is not None and ratio > 1e-3

    @property
    def penalty_ratio(self) -> float | None:
        """重みを 0 へ引く力の強さの、l2 に対する比。重みの勾配が重みと平行でなければ None。"""
        pull = _pull(self.slopes[0].flatten(), self.weight.flatten())
        return None if pull is None else pull / self.l2

    @property
    def shrunk_by_column(self) -> bool:
        """特徴の次元ごとに見れば、重みの勾配が重みと平行か。"""
        columns = zip(self.slopes[0].T, self.weight.T, strict=True)
        return all(_pull(slope, weight) is not None for slope, weight in columns)

    @property
    def scores_matched(self) -> bool:
        """ロジットそのものの平均が、クラスの割合に比例するか（全クラスに共通の量は除く）。"""
        rates = F.one_hot(self.labels, len(self.bias)).double().mean(dim=0)
        return _pull(self.logits.mean(dim=0), rates.mean() - rates) is not None

    @property
    def sigmoids_matched(self) -> bool:
        """クラスごとの 2 値の確率 σ(ロジット) の平均が、クラスの割合に一致するか。"""
        scores = F.linear(self.features, self.weight, self.bias)
        rates = F.one_hot(self.labels, len(self.bias)).double().mean(dim=0)
        return float((scores.sigmoid().mean(dim=0) - rates).norm()) < STEEPEST


def _pull(slope: Tensor, value: Tensor) -> float | None:
    """slope ≈ −k·value となる k > 0。そうならなければ None。"""
    k = -float(slope @ value) / max(float(value @ value), 1e-12)
    return k if k > 0 and relative(slope, -k * value) < NEAR else None


def _objective(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, l2: float) -> Tensor:
    return F.cross_entropy(F.linear(features, weight, bias), labels) + l2 / 2 * weight.square().sum()


def _minimum(features: Tensor, labels: Tensor, l2: float, classes: int) -> float:
    """L-BFGS で、凸な目的関数の最小値を求める。"""
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=3000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = _objective(weight, bias, features, labels, l2)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(closure)  # type: ignore[no-untyped-call]
    return _objective(weight, bias, features, labels, l2).item()
