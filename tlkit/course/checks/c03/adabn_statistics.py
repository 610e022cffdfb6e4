"""演習 03-6 の移動統計の計算と、観測した値の分解。判定（`adabn_judge.py`）が使う。

どの層も、そのバッチの統計で正規化しながら通した値から、バッチごとの平均と不偏分散を求める。
観測した移動統計が Σ 重み × バッチの統計 と書ければ、重みは、どのバッチがどれだけ効いたかを表す。
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlkit.course.checks.c03.adabn_model import LAYERS, Scene

NEAR = 1e-3
FIRST, *DEEPER = LAYERS
Statistics = dict[str, tuple[Tensor, Tensor]]  # 層 → （平均, 不偏分散）


@dataclass(frozen=True)
class Fit:
    """分解の結果。source はソースの統計、batches は各バッチの重み、rest は説明できない部分の割合。"""

    source: float
    batches: list[float]
    rest: float


def batch_statistics(x: Tensor, weights: dict[str, Tensor]) -> Statistics:
    """1 バッチを通したときの、層ごとの統計。雑音の部品は働かせない。"""
    found: Statistics = {}

    def normalised(h: Tensor, name: str) -> Tensor:
        axes = [axis for axis in range(h.ndim) if axis != 1]
        found[name] = h.mean(axes), h.var(axes)
        shape = [1, -1] + [1] * (h.ndim - 2)
        centred = (h - h.mean(axes, keepdim=True)) / (h.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
        gain, shift = (weights.get(f"{name}.{part}") for part in ("weight", "bias"))
        return centred if gain is None or shift is None else centred * gain.reshape(shape) + shift.reshape(shape)

    h = normalised(F.conv2d(x, weights["stem.0.weight"], weights["stem.0.bias"]), "stem.1").relu().flatten(1)
    h = normalised(F.linear(h, weights["body.1.2.weight"], weights["body.1.2.bias"]), "body.1.3").relu()
    normalised(F.linear(h, weights["body.2.weight"], weights["body.2.bias"]), "norm")
    return found


class Seen:
    """一つの場面で観測した移動統計と、正しい値。"""

    def __init__(self, record: dict[str, Any], scene: Scene) -> None:
        self.record, self.scene = record, scene
        self.counts = {name: layer["num_batches_tracked"] for name, layer in record["layers"].items()}
        self.each = [
            batch_statistics(x.double(), {name: value.double() for name, value in scene["weights"].items()})
            for x in scene["batches"]
        ]

    @property
    def complete(self) -> bool:
        """どの層にも、正しい大きさで有限の移動統計があるか。"""
        layers = self.record["layers"].items()
        pairs = [(layer[key], LAYERS[name]) for name, layer in layers for key in ("running_mean", "running_var")]
        return all(isinstance(v, list) and len(v) == width and bool(np.isfinite(v).all()) for v, width in pairs)

    @cached_property
    def found(self) -> dict[str, np.ndarray]:
        """観測した値。層 → 平均と分散を並べた (2, 特徴の数)。"""
        layers = self.record["layers"].items()
        return {name: np.array([layer["running_mean"], layer["running_var"]]) for name, layer in layers}

    def batch(self, index: int, name: str) -> np.ndarray:
        """そのバッチだけの統計。"""
        both: np.ndarray = torch.stack(self.each[index][name]).numpy()
        return both

    def start(self, name: str) -> np.ndarray:
        """呼ぶ前の（ソースの）統計。"""
        start: dict[str, Tensor] = self.scene["start"]
        return np.stack([start[f"{name}.{key}"].numpy() for key in ("running_mean", "running_var")])

    def wanted(self, name: str) -> np.ndarray:
        """正しい値。バッチごとの統計の単純な平均。"""
        mean: np.ndarray = np.mean([self.batch(i, name) for i in range(len(self.each))], axis=0)
        return mean

    def right(self, name: str) -> bool:
        """その層の移動統計が正しいか。"""
        return near(self.found[name], self.wanted(name))

    def untouched(self) -> list[str]:
        """移動統計が、ソースのままの層。"""
        return [name for name in LAYERS if near(self.found[name], self.start(name))]

    @cached_property
    def means(self) -> Fit:
        """初めの層の平均の、ソースと各バッチの平均への分解。リセットした平均は 0 なので、重みの合計の不足に現れる。"""
        parts = [self.start(FIRST)[0]] + [self.batch(i, FIRST)[0] for i in range(len(self.each))]
        basis, goal = np.stack(parts, axis=1), self.found[FIRST][0]
        weights, *_ = np.linalg.lstsq(basis, goal, rcond=None)
        rest = float(np.linalg.norm(goal - basis @ weights)) / max(float(np.linalg.norm(goal)), 1e-6)
        return Fit(float(weights[0]), weights[1:].tolist(), rest)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """二つの統計が、値の大きさに比べて近いか。"""
    return bool(np.abs(a - b).max() <= NEAR * max(1.0, float(np.abs(b).max())))
