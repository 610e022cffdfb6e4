"""演習 08-8 の場面: 手法ごとの、種 × エピソードの正解率。

種ごとの平均は、あらかじめ決めた差を持つように作る。エピソードのばらつきは、種ごとの平均を変えない。
probe は `compare_methods.py`、判定は `compare_methods_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

Scene = dict[str, Any]
BASELINE, BEST = "単純な基準", "手法B"
METHODS = ("手法A", BASELINE, BEST, "手法C")
EPISODES = 8


def scenes(seed: int) -> dict[str, Scene]:
    """メタ検証とメタテストの正解率に、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    base = _scene(5, 0.1, g)
    test = base["test"]
    level = torch.linspace(-0.2, 0.2, 5, dtype=torch.float64)[torch.randperm(5, generator=g)][:, None]
    others = {name: test[name] + (0.3 if name in ("手法A", "手法C") else 0) for name in METHODS}
    known = {name: value + (0.05 if name == BEST else -0.05) for name, value in base["validation"].items()}
    return {
        "base": base,
        "many": _scene(12, 0.1, g),
        "repeated": base | {"test": {name: value.repeat(1, 4) for name, value in test.items()}},
        "shifted": base | {"test": {name: value + level for name, value in test.items()}},
        "others": base | {"test": others},
        "known": base | {"validation": known},
        "strong": base | {"validation": _ordered({BASELINE: base["validation"][BASELINE] + 0.3}, base["validation"])},
        "uneven": base | {"validation": _ordered(_uneven(base["validation"]), {})},
        "worse": _scene(5, -0.1, g),
        "unclear": _scene(5, None, g),
        "equal": base | {"test": test | {BEST: test[BASELINE].clone()}},
    }


def _scene(seeds: int, gap: float | None, g: torch.Generator) -> Scene:
    """手法 B と基準の差の、種についての平均が gap の場面。gap が None なら、平均がばらつきよりずっと小さい。"""
    level = 0.5 + 0.05 * torch.randn(seeds, generator=g, dtype=torch.float64)
    gaps = torch.randn(seeds, generator=g, dtype=torch.float64)
    gaps = (gaps - gaps.mean()) / gaps.std() * 0.03
    gaps = gaps + (0.006 if gap is None else gap)
    means = {BASELINE: level, BEST: level + gaps, "手法A": level + 0.02, "手法C": level - 0.03}
    test = {name: means[name][:, None] + _noise(seeds, g) for name in METHODS}
    order = {"手法A": 0.55, BASELINE: 0.5, BEST: 0.6, "手法C": 0.4}
    validation = {name: order[name] + _noise(seeds + 2, g) for name in METHODS}
    return {"validation": validation, "test": test, "baseline": BASELINE}


def _uneven(validation: dict[str, Tensor]) -> dict[str, Tensor]:
    """手法 A と C は、エピソードの数が 3 倍である。平均は変わらない。"""
    return {name: value.repeat(1, 3) if name in ("手法A", "手法C") else value for name, value in validation.items()}


def _ordered(first: dict[str, Tensor], rest: dict[str, Tensor]) -> dict[str, Tensor]:
    """値は first を優先し、並びを変えたもの。rest があれば手法 B を初めに、なければ最後に置く。"""
    values = rest | first
    names = sorted(METHODS, key=lambda name: (name == BEST) != bool(rest))
    return {name: values[name] for name in names}


def _noise(seeds: int, g: torch.Generator) -> Tensor:
    """行の平均が 0 の、エピソードのばらつき。"""
    noise = 0.05 * torch.randn(seeds, EPISODES, generator=g, dtype=torch.float64)
    return noise - noise.mean(dim=1, keepdim=True)
