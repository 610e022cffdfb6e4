"""演習 01-3 の小さなモデルとデータ。BatchNorm と Dropout を持ち、学習と評価で動作が変わる。

probe はこのモデルを毎回作り直し、答えを呼ぶ前と後の状態を比べる。判定（`cached_judge.py`）も、同じモデルで正しい特徴を求める。
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES, WIDTH, SIDE = 3, 5, 4  # クラスの数、特徴の次元、画像の一辺
Spec = dict[str, Any]


class SmallNet(nn.Module):
    """畳み込み、BatchNorm、Dropout の特徴抽出器と、線形の分類層。入力は (N, 1, 4, 4)。"""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.project = nn.Linear(4 * SIDE * SIDE, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 4, 4) → 特徴 (N, 5)。"""
        features: Tensor = self.project(self.dropout(self.norm(self.conv(x)).relu()).flatten(1))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 4, 4) → ロジット (N, 3)。"""
        logits: Tensor = self.head(self.features(x))
        return logits


def spec(seed: int) -> Spec:
    """モデルの重みと移動統計、画像、ラベル。ラベルは行を見分けられるように、すべて違う番号にする。"""
    g = torch.Generator().manual_seed(seed)
    weights = {name: 0.5 * torch.randn(value.shape, generator=g) for name, value in SmallNet().named_parameters()}
    return {
        "weights": weights,
        "mean": torch.randn(4, generator=g),
        "variance": 0.5 + torch.rand(4, generator=g),
        "images": torch.randn(10, 1, SIDE, SIDE, generator=g),
        "labels": 100 + torch.randperm(10, generator=g),
        "shuffle": int(torch.randint(2**31, (), generator=g)),
    }


def build(given: Spec, *, training: bool = True, frozen: bool = False) -> SmallNet:
    """重みと統計を入れたモデル。frozen なら BatchNorm だけを評価モードにし、その重みを凍結する。"""
    model = SmallNet()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(given["weights"][name])
        model.norm.running_mean.copy_(given["mean"])  # type: ignore[union-attr]
        model.norm.running_var.copy_(given["variance"])  # type: ignore[union-attr]
    model.train(training)
    if frozen:
        model.norm.eval().requires_grad_(False)
    return model


def loader(given: Spec, count: int, batch: int, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    """先頭の count 枚を batch 枚ずつ返す。shuffle なら、呼ぶたびに違う順に並べ替える。"""
    pairs = TensorDataset(given["images"][:count], given["labels"][:count])
    g = torch.Generator().manual_seed(given["shuffle"]) if shuffle else None
    return DataLoader(pairs, batch_size=batch, shuffle=shuffle, generator=g)
