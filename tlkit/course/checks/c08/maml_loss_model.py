"""演習 08-3 の小さなモデルと場面。モデルは、呼ばれたときの入力、モード、パラメータの値を控える。

probe は `maml_loss.py`、判定は `maml_loss_judge.py`、正しい値のやり直しは `maml_loss_reference.py` にある。
"""

import operator
from typing import Any

import torch
from torch import Tensor, nn

Scene = dict[str, Any]
DIM, HIDDEN, CLASSES = 3, 4, 3
NAMES = ("first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight", "last.bias")
MOST = 16  # 控える呼び出しの数の上限


class TinyModel(nn.Module):
    """線形層、（あれば）バッチ正規化、tanh、線形層。(N, 3) → (N, 3)。損失がパラメータの滑らかな関数になる。"""

    def __init__(self, scene: Scene, log: list[dict[str, Any]]) -> None:
        super().__init__()
        self.first = nn.Linear(DIM, HIDDEN)
        self.norm: nn.Module = nn.BatchNorm1d(HIDDEN) if scene["norm"] else nn.Identity()
        self.last = nn.Linear(HIDDEN, CLASSES)
        self.double()
        self.load_state_dict(scene["weights"] | scene["statistics"], strict=False)
        self.train(scene["training"])
        self.note = _noting(scene, log)  # 関数なので、deepcopy した写しも、同じ控えに書く

    def forward(self, x: Tensor) -> Tensor:
        """呼ばれ方を控えてから計算する。"""
        self.note(self, x)
        logits: Tensor = self.last(self.norm(self.first(x)).tanh())
        return logits


def _noting(scene: Scene, log: list[dict[str, Any]]) -> Any:
    def note(model: TinyModel, x: Tensor) -> None:
        if len(log) < MOST:
            data = next((key for key in ("support", "query") if _same(x, scene[f"{key}_x"])), "other")
            log.append({"data": data, "training": model.training, "params": _values(model, scene)})

    return note


def _same(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and bool((x == y).all())


def _values(model: TinyModel, scene: Scene) -> dict[str, Tensor] | None:
    """今使われているパラメータの値の写し。値を読めない包み（torch.func の途中など）なら None。"""
    try:
        found = {name: operator.attrgetter(name)(model).detach() for name in scene["weights"]}
        return {name: torch.tensor(value.tolist(), dtype=torch.float64) for name, value in found.items()}
    except RuntimeError:
        return None


def scenes(seed: int) -> dict[str, Scene]:
    """重み、課題、内側の回数と学習率に、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    task = {
        "support_x": _randn(6, DIM, g),
        "support_y": (torch.randperm(6, generator=g) % CLASSES),
        "query_x": _randn(4, DIM, g),
        "query_y": torch.randint(CLASSES, (4,), generator=g),
    }
    plain = task | {"norm": False, "training": True, "stale": False, "statistics": {}, "weights": _weights(False, g)}
    base = plain | {"lr": 0.5, "steps": 2, "first_order": False}
    relabelled = {"support_y": (task["support_y"] + 1) % CLASSES}
    requeried = {"query_x": _randn(5, DIM, g), "query_y": torch.randint(CLASSES, (5,), generator=g)}
    norm = base | {"norm": True, "weights": _weights(True, g), "statistics": _statistics(g)}
    return {
        "zero": base | {"steps": 0},
        "zero-relabelled": base | {"steps": 0} | relabelled,
        "zero-twice": base | {"steps": 0} | _twice(task, "query"),
        "base": base,
        "relabelled": base | relabelled,
        "requeried": base | requeried,
        "first": base | {"first_order": True},
        "one": base | {"steps": 1},
        "one-twice": base | {"steps": 1} | _twice(task, "support"),
        "slow": base | {"steps": 1, "lr": 0.25},
        "three": base | {"steps": 3, "lr": 0.3},
        "stale": base | {"stale": True},
        "norm": norm,
        "norm-eval": norm | {"training": False, "steps": 1},
        "norm-first": norm | {"first_order": True},
    }


def _twice(task: Scene, side: str) -> Scene:
    return {f"{side}_{part}": torch.cat([task[f"{side}_{part}"]] * 2) for part in ("x", "y")}


def _weights(norm: bool, g: torch.Generator) -> dict[str, Tensor]:
    sizes = [(HIDDEN, DIM), (HIDDEN,), (HIDDEN,), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    drawn = {name: 0.8 * _randn(*size, g) for name, size in zip(NAMES, sizes, strict=True)}
    return {name: value for name, value in drawn.items() if norm or not name.startswith("norm.")}


def _statistics(g: torch.Generator) -> dict[str, Tensor]:
    return {"norm.running_mean": 0.5 * _randn(HIDDEN, g), "norm.running_var": 0.5 + _randn(HIDDEN, g).abs()}


def _randn(*parts: Any) -> Tensor:
    *size, g = parts
    return torch.randn(*size, generator=g, dtype=torch.float64)
