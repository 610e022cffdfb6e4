"""演習 07-4 の小さなモデルの対と場面。段の呼ばれ方（どちらのモデルの何段目か、モード、勾配の設定）を控える。

どの段も同じ形の特徴を返すので、段の数を一つ間違えても、例外にはならない。
probe は `fit_hint.py`、判定は `fit_hint_judge.py`、正しい学習のやり直しは `fit_hint_reference.py` にある。
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]
CLASSES, SIZE, STAGES = 3, 4, 4  # クラス数、画像の一辺、段の数
WIDTHS = {"student": 3, "teacher": 5}  # 段の幅（チャネル数か、特徴の次元）
INPUTS = {"conv": 2, "linear": 6}  # 入力の幅
MOST = 80  # 控える呼び出しの数の上限


class Stage(nn.Module):
    """畳み込み（か線形層）、バッチ正規化、ReLU。(N, C, H, W) → (N, 幅, H, W)、または (N, D) → (N, 幅)。"""

    def __init__(self, kind: str, inputs: int, width: int, owner: str, log: list[dict[str, Any]]) -> None:
        super().__init__()
        conv = kind == "conv"
        self.mix: nn.Module = nn.Conv2d(inputs, width, 3, padding=1) if conv else nn.Linear(inputs, width)
        self.norm: nn.Module = nn.BatchNorm2d(width) if conv else nn.BatchNorm1d(width)
        self.owner, self.log = owner, log

    def forward(self, x: Tensor) -> Tensor:
        """呼ばれ方を控えてから計算する。"""
        if len(self.log) < MOST:
            self.log.append({"owner": self.owner, "training": self.norm.training, "grad": torch.is_grad_enabled()})
        features: Tensor = self.norm(self.mix(x)).relu()
        return features


class Pair(nn.Module):
    """教師モデル、生徒モデル、回帰器をまとめた入れもの。答えには一つずつ渡す。"""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        kind, self.log = scene["kind"], list[dict[str, Any]]()
        self.student, self.teacher = (_network(kind, owner, self.log) for owner in ("student", "teacher"))
        inner, outer = WIDTHS["student"], WIDTHS["teacher"]
        self.regressor: nn.Module = nn.Conv2d(inner, outer, 1) if kind == "conv" else nn.Linear(inner, outer)
        self.double()
        self.load_state_dict(scene["weights"], strict=False)
        self.student.eval()  # 渡すときのモードは、どちらも使うべきモードと逆にしておく
        self.teacher.train()
        self.learned = (*learned_stages(scene), "regressor.")

    def is_learned(self, name: str) -> bool:
        """学習してよいパラメータ（ガイドされる層までの生徒モデルと、回帰器）か。"""
        return name.startswith(self.learned)


def learned_stages(scene: Scene) -> tuple[str, ...]:
    """生徒モデルの学習する段の、名前の初めの部分。"""
    return tuple(f"student.{index}." for index in range(scene["guided"]))


def _network(kind: str, owner: str, log: list[dict[str, Any]]) -> nn.Sequential:
    width = WIDTHS[owner]
    stages = [Stage(kind, width if index else INPUTS[kind], width, owner, log) for index in range(STAGES)]
    cells = SIZE**2 if kind == "conv" else 1
    return nn.Sequential(*stages, nn.Sequential(nn.Flatten(), nn.Linear(width * cells, CLASSES)))


def optimizer_for(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """慣性と重み減衰のある SGD。最適化手法を作り直すと、慣性が消える。"""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01)


def loader_for(scene: Scene) -> Iterable[tuple[Tensor, Tensor]]:
    """（入力, ラベル）の組を順に返すもの。once なら、一度しか回せない。ラベルは、どれも −1 である。"""
    batches = [(x, torch.full((len(x),), -1)) for x in scene["batches"]]
    return iter(batches) if scene["once"] else batches


def scenes(seed: int) -> dict[str, Scene]:
    """重み、ガイドされる層とヒントの層の深さ、バッチに、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    shared: Scene = {"once": False, "stale": False}
    conv = shared | {"kind": "conv", "guided": 2, "hint": 3, "weights": _weights("conv", g)}
    linear = shared | {"kind": "linear", "guided": 3, "hint": 1, "weights": _weights("linear", g)}
    base = conv | {"batches": [torch.randn(6, INPUTS["conv"], SIZE, SIZE, generator=g).double() for _ in range(3)]}
    return {
        "base": base,
        "shallow": base | {"guided": 1, "hint": 2},
        "linear": linear | {"batches": [torch.randn(n, INPUTS["linear"], generator=g).double() for n in (9, 9, 4)]},
        "above": base | {"weights": base["weights"] | _renewed("teacher.3.", base["weights"], g)},
        "at": base | {"weights": base["weights"] | _renewed("teacher.2.", base["weights"], g)},
        "stale": base | {"stale": True},
        "once": base | {"once": True},
    }


def _weights(kind: str, g: torch.Generator) -> dict[str, Tensor]:
    """乱数の重みと、教師モデルの移動統計。"""
    empty = {"kind": kind, "guided": 0, "weights": {}}
    found = {}
    for name, value in Pair(empty).state_dict().items():
        if value.is_floating_point():
            found[name] = _drawn(name, value, g)
    return found


def _drawn(name: str, value: Tensor, g: torch.Generator) -> Tensor:
    noise = torch.randn(value.shape, generator=g).double()
    if name.endswith(("norm.weight", "running_var")):
        return 0.6 + 0.3 * noise.abs()
    return noise / value[0].numel() ** 0.5 if value.ndim > 1 else 0.3 * noise


def _renewed(prefix: str, weights: dict[str, Tensor], g: torch.Generator) -> dict[str, Tensor]:
    """名前が prefix で始まる重みだけを、引き直したもの。"""
    return {name: _drawn(name, value, g) for name, value in weights.items() if name.startswith(prefix)}
