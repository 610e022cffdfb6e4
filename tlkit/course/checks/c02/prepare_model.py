"""演習 02-8 の小さなモデル。`tlkit.models.GlyphCNN` と同じ名前の段を持ち、どの段にも BatchNorm か Dropout がある。

段の分け方と、手法ごとに学習する段も、ここに置く。probe と判定（`prepare_judge.py`）が使う。
"""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

STAGES = ("stem", "stages.0", "stages.1", "head", "classifier")  # 入力側から出力側へ
TRAINED = {"head": STAGES[4:], "last_block": STAGES[3:], "discriminative": STAGES, "scratch": STAGES}
CLASSES = 4


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))


class TinyGlyph(nn.Module):
    """入力は (N, 1, 8, 8)、特徴は 6 次元、4 クラス。"""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _block(1, 3)
        self.stages = nn.Sequential(_block(3, 4), _block(4, 5))
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3)
        )
        self.classifier = nn.Linear(6, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) → 特徴 (N, 6)。"""
        features: Tensor = self.head(self.stages(self.stem(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) → ロジット (N, 4)。"""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def spec(seed: int) -> dict[str, Any]:
    """事前学習済みのつもりの重みと移動統計（2 組）と、学習の画像とラベル。"""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(12) % CLASSES
    return {
        "weights": _weights(g),
        "other": _weights(g),
        "images": torch.randn(12, 1, 8, 8, generator=g) + labels[:, None, None, None] / 2,
        "labels": labels,
        "draw": int(torch.randint(2**30, (), generator=g)),
    }


def _weights(g: torch.Generator) -> dict[str, Tensor]:
    state = {}
    for name, value in TinyGlyph().state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(100)
        elif name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            state[name] = 0.5 + torch.rand(value.shape, generator=g)
        else:
            fan_in = value[0].numel() if value.ndim > 1 else 4
            state[name] = torch.randn(value.shape, generator=g) / fan_in**0.5
    return state


def stage_of(name: str) -> str:
    """パラメータか部品の名前から、段の名前。"""
    return next((stage for stage in STAGES if name == stage or name.startswith(stage + ".")), name)


def stages_of(model: nn.Module) -> dict[str, nn.Module]:
    """段の名前 → 段。"""
    return {name: model.get_submodule(name) for name in STAGES}


@functools.cache
def keys() -> tuple[str, ...]:
    """パラメータと移動統計の名前。記録では、この並びの番号で表す（文字数を節約するため）。"""
    with torch.device("meta"):
        return tuple(TinyGlyph().state_dict())


def numbered(names: Iterable[str]) -> list[int]:
    """名前 → 番号。知らない名前は −1。"""
    return [keys().index(name) if name in keys() else -1 for name in names]


def named(numbers: Iterable[int]) -> list[str]:
    """番号 → 名前。−1 は "?"。"""
    return ["?" if number < 0 else keys()[number] for number in numbers]
