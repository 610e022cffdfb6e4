"""演習 02-1 の小さなモデル。学習モードで動作の変わる部品を三種類（BatchNorm、Dropout、自作の雑音）持つ。

probe（`freeze_backbone.py`）は、このモデルを場面ごとに作り直し、実際に学習して、動いたものを記録する。
クラスは呼ぶたびに作る。答えがクラスの `train` を書き換えても、次の場面に影響しない。
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

COUNT, CLASSES, WIDTH = 8, 3, 6  # 画像の枚数、クラスの数、特徴の次元
HEAD = "classifier"
Spec = dict[str, Any]
_PATCHED = ("train", "eval", "forward", "__call__")


class Jitter(nn.Module):
    """学習モードでだけ雑音を足す。BatchNorm でも Dropout でもない部品の例。"""

    def forward(self, x: Tensor) -> Tensor:
        """学習モードでだけ雑音を足す。(N, D) → (N, D)。"""
        return x + 0.1 * torch.randn_like(x) if self.training else x


def spec(seed: int) -> Spec:
    """重みの種、画像 (8, 1, 4, 4)、ラベル (8,)。画像の平均は、移動統計の初めの値から遠い。"""
    g = torch.Generator().manual_seed(seed)
    images = 3.0 + 2.0 * torch.randn(COUNT, 1, 4, 4, generator=g)
    return {"seed": seed, "images": images, "labels": torch.arange(COUNT) % CLASSES}


def network() -> type[nn.Module]:
    """特徴抽出器と分類層からなるモデルのクラスを作る。"""

    class Net(nn.Module):
        """shift、stem、body がバックボーン。deep なら、いくつもの部品からなる分類層を先に登録する。"""

        def __init__(self, *, deep: bool) -> None:
            super().__init__()
            if deep:
                self.classifier: nn.Module = nn.Sequential(
                    nn.Linear(WIDTH, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, CLASSES)
                )
            self.shift = nn.Parameter(torch.full((1,), 0.1))
            self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
            tail = (nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), Jitter())
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.Sequential(*tail))
            if not deep:
                self.classifier = nn.Linear(WIDTH, CLASSES)

        def features(self, x: Tensor) -> Tensor:
            """(N, 1, 4, 4) → 特徴 (N, 6)。"""
            features: Tensor = self.body(self.stem(x + self.shift))
            return features

        def forward(self, x: Tensor) -> Tensor:
            """(N, 1, 4, 4) → ロジット (N, 3)。"""
            logits: Tensor = self.classifier(self.features(x))
            return logits

    return Net


def build(kind: type[nn.Module], given: Spec, *, deep: bool, training: bool) -> nn.Module:
    """種で決まる重みのモデル。"""
    torch.manual_seed(given["seed"])  # 確認の外の乱数は、harness が守る
    model: nn.Module = kind(deep=deep)
    return model.train(training)


def owned(name: str) -> bool:
    """その名前のパラメータや部品が、分類層のものか。"""
    return name == HEAD or name.startswith(HEAD + ".")


@contextmanager
def classes_kept(model: nn.Module) -> Iterator[None]:
    """答えが torch のクラスそのものを書き換えても、確認の外へ漏らさない。model は、部品の種類を知るために使う。"""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if issubclass(kind, nn.Module)}
    saved = [(kind, {name: vars(kind)[name] for name in _PATCHED if name in vars(kind)}) for kind in kinds]
    try:
        yield
    finally:
        for kind, methods in saved:
            for name in _PATCHED:
                if name in methods:
                    setattr(kind, name, methods[name])
                elif name in vars(kind):
                    delattr(kind, name)
