"""演習 02-6 の小さなモデルとデータ。判定（`warm_start_judge.py`）も、同じデータで最小値を求める。

本体の一部は凍結し、BatchNorm は評価モードにしておく。答えが、その設定まで変えていないかを見るためである。
"""

from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]


class SmallNet(nn.Module):
    """線形層、BatchNorm、Dropout の本体と、線形の分類層。入力も特徴も (N, D)。"""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, D) → 特徴 (N, D)。"""
        features: Tensor = self.dropout(self.norm(self.stem(x)).relu())
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) → ロジット (N, C)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def build(scene: Scene) -> SmallNet:
    """分類層に初期値を入れたモデル。学習モードだが、BatchNorm だけは凍結して評価モードにする。"""
    width, classes = scene["features"].shape[1], len(scene["bias"])
    model = SmallNet(width, classes).to(scene["features"].dtype)
    with torch.no_grad():
        model.classifier.weight.copy_(scene["weight"])
        model.classifier.bias.copy_(scene["bias"])
    model.train()
    model.norm.eval().requires_grad_(False)
    return model


def scenes(seed: int) -> dict[str, Scene]:
    """特徴とラベル、罰則の強さ、分類層の初期値に、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    plain = _scene(g, counts=(24, 15, 9), width=6) | {"l2": 0.1}
    features, labels = plain["features"], plain["labels"]
    offset = 2 * torch.randn(6, generator=g).sign()
    wide = _scene(g, counts=(12, 20, 8, 20), width=8)
    wide["features"] = wide["features"] * torch.logspace(-1, 1, 8)[torch.randperm(8, generator=g)]
    five = _scene(g, counts=(8, 14, 10, 6, 22), width=12)
    five = {name: value.double() if value.is_floating_point() else value for name, value in five.items()}
    return {
        "plain": plain,
        "start": plain | {name: 3 * torch.randn(plain[name].shape, generator=g) for name in ("weight", "bias")},
        "relabelled": plain | {"labels": labels[torch.randperm(len(labels), generator=g)]},
        "repeated": plain | {"features": features.repeat(5, 1), "labels": labels.repeat(5)},
        "shifted": plain | {"features": features + offset},
        "strong": plain | {"l2": 0.5},
        "scaled": wide | {"l2": 0.03},
        "five": five | {"l2": 0.1},
    }


def _scene(g: torch.Generator, counts: tuple[int, ...], width: int) -> Scene:
    """クラスごとに平均の違う、重なり合った正規分布。"""
    order = torch.randperm(sum(counts), generator=g)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[order]
    centres = torch.randn(len(counts), width, generator=g)
    return {
        "features": 0.7 * centres[labels] + torch.randn(len(labels), width, generator=g),
        "labels": labels,
        "weight": 0.3 * torch.randn(len(counts), width, generator=g),
        "bias": 0.3 * torch.randn(len(counts), generator=g),
    }
