"""演習 03-6 の小さなモデルと場面。BatchNorm は 3 層あり、深さも momentum も違う。

途中に、学習モードでだけ雑音を足す部品（Dropout と Jitter）がある。probe は `adabn.py`、判定は `adabn_judge.py` にある。
畳み込みは余白を足さない。だから、バッチ全体の明るさと濃淡を変えても、後ろの層の統計は変わらないはずである。
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]
LAYERS = {"stem.1": 6, "body.1.3": 5, "norm": 4}  # BatchNorm の層の名前と、特徴の数
COUNT = 7  # 呼ぶ前に、移動統計が見たことになっているバッチの数
SIZE = 6  # 画像の一辺


class Jitter(nn.Module):
    """学習モードでだけ雑音を足す。Dropout ではない部品の例。"""

    def forward(self, x: Tensor) -> Tensor:
        """学習モードでだけ雑音を足す。(N, D) → (N, D)。"""
        return x + torch.randn_like(x) if self.training else x


class SmallNet(nn.Module):
    """(N, 1, 6, 6) → ロジット (N, 3)。呼ばれたときの勾配の設定と、雑音の部品のモードを控える。"""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, momentum=0.3), nn.ReLU())
        norm: Any = nn.BatchNorm1d(5, momentum=None, affine=False)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Sequential(nn.Dropout(0.5), Jitter(), nn.Linear(96, 5), norm, nn.ReLU()), nn.Linear(5, 4)
        )
        self.head = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(4)  # 最後に登録する。並び順で分類層を除く答えは、この層を逃す
        self.passes: list[dict[str, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        """ロジットを返す。"""
        dropout, jitter = self.body[1][0], self.body[1][1]  # type: ignore[index]
        if len(self.passes) < 100:
            flags = {"grad": torch.is_grad_enabled(), "dropout": dropout.training, "jitter": jitter.training}
            self.passes.append(flags)
        logits: Tensor = self.head(self.norm(self.body(self.stem(x))).relu())
        return logits


def build(scene: Scene) -> SmallNet:
    """場面のとおりの重み、ソースの移動統計、モードのモデル。mixed では、初めの BatchNorm が凍結されている。"""
    model = SmallNet()
    model.load_state_dict(scene["weights"] | scene["start"])
    model.train(scene["mode"] != "eval")
    if scene["mode"] == "mixed":
        model.stem[1].eval().requires_grad_(False)
    return model


def loader_for(scene: Scene) -> Iterable[Tensor]:
    """画像のバッチを順に返すもの。once なら、一度しか回せない。"""
    batches: list[Tensor] = scene["batches"]
    return iter(batches) if scene["once"] else batches


def scenes(seed: int) -> dict[str, Scene]:
    """重み、ソースの移動統計、ターゲットのバッチ、モードに、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    weights = _weights(g)
    images = [torch.randn(8, 1, SIZE, SIZE, generator=g) for _ in range(3)]
    looks = ((1.5, 1.0), (0.6, -0.8), (1.0, 2.0)), ((0.5, -1.0), (2.0, 0.7), (0.8, 0.0))
    batches, dimmed = ([a * x + b for x, (a, b) in zip(images, look, strict=True)] for look in looks)
    base = {
        "weights": weights,
        "start": _start(g),
        "batches": batches,
        "mode": "eval",
        "once": False,
        "seed": seed % 2**31,
    }
    return {
        "eval": base,
        "train": base | {"mode": "train"},
        "train-again": base | {"mode": "train", "seed": (seed + 1) % 2**31},
        "mixed": base | {"mode": "mixed"},
        "other-start": base | {"start": _start(g)},
        "dimmed": base | {"batches": dimmed},
        "uneven": base | {"batches": [*batches[:2], batches[2][:3]]},
        "single": base | {"batches": batches[:1]},
        "once": base | {"once": True},
    }


def _weights(g: torch.Generator) -> dict[str, Tensor]:
    shapes = {"stem.0": (6, 1, 3, 3), "body.1.2": (5, 96), "body.2": (4, 5), "head": (3, 4)}
    found = {f"{name}.weight": torch.randn(s, generator=g) / s[1:].numel() ** 0.5 for name, s in _sizes(shapes)}
    found |= {f"{name}.bias": 0.3 * torch.randn(s[0], generator=g) for name, s in _sizes(shapes)}
    for name in ("stem.1", "norm"):
        found[f"{name}.weight"] = 0.5 + torch.rand(LAYERS[name], generator=g)
        found[f"{name}.bias"] = 0.5 * torch.randn(LAYERS[name], generator=g)
    return found


def _sizes(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str, torch.Size]]:
    return [(name, torch.Size(shape)) for name, shape in shapes.items()]


def _start(g: torch.Generator) -> dict[str, Tensor]:
    """ソースの移動統計。"""
    found: dict[str, Tensor] = {}
    for name, width in LAYERS.items():
        found[f"{name}.running_mean"] = 2 * torch.randn(width, generator=g)
        found[f"{name}.running_var"] = 0.3 + 2 * torch.rand(width, generator=g)
        found[f"{name}.num_batches_tracked"] = torch.tensor(COUNT)
    return found
