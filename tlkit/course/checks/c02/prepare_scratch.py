"""演習 02-8 の判定のうち、scratch の再初期化。作ったばかりのモデルと同じ分布の重みと、初期の移動統計になったか。"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.findings import Finding

Scene = dict[str, Any]
WIDEST = 4.0  # 既定の初期化の標準偏差との比の限度（He 初期化では 2.4 ほど）


def scratch(scene: Scene, redrawn: Scene, other: Scene) -> Finding:
    """乱数の種だけを変えた redrawn、元の重みだけを変えた other と比べる。"""
    before, after = ({name: torch.tensor(v) for name, v in scene[key].items()} for key in ("before", "after"))
    kept = [name for name in before if torch.equal(before[name], after[name])]
    weights = [name for name, value in before.items() if value.ndim > 1 or name.startswith("classifier")]
    if left := [name for name in kept if name in weights]:
        yield (
            "layers-kept",
            f"scratch なのに、{left[0]} が元の値のままです。入力に近い段も分類層も、すべて初期化してください。",
        )
    yield from _normalisation(after, set(kept))
    for name in weights:
        if name.endswith("weight"):
            yield from _spread(name, after[name])
    if same := [name for name in weights if scene["after"][name] == redrawn["after"][name]]:
        yield (
            "seed-fixed",
            f"乱数の種を変えても、{same[0]} の初期値が同じです。関数の中で種を固定すると、"
            "種を変えて実験をくり返しても、初期値によるばらつきが測れません。",
        )
    if mixed := [name for name in weights if not torch.allclose(after[name], torch.tensor(other["after"][name]))]:
        yield (
            "old-weights-mixed",
            f"乱数の種が同じでも、元の重みが違うと、{mixed[0]} の初期値が違います。元の値に足したり、並べ替えたりせずに、引き直してください。",
        )


def _normalisation(after: dict[str, Tensor], kept: set[str]) -> Finding:
    """BatchNorm の移動統計と、拡大・平行移動の係数。"""
    wanted = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}
    wrong = [
        name
        for name, value in after.items()
        for key, want in wanted.items()
        if name.endswith(key) and bool((value != want).any())
    ]
    if wrong:
        state = "元の課題のまま" if wrong[0] in kept else "初めの値（平均0、分散1、回数0）と違う値"
        yield (
            "statistics-kept",
            f"scratch なのに、移動統計 {wrong[0]} が{state}です。重みだけでなく、移動統計にも事前学習の情報があります。"
            "BatchNorm の reset_parameters() は、統計も初めに戻します。",
        )
    names = [name.removesuffix("running_mean") for name in after if name.endswith("running_mean")]
    for name in names:
        if bool((after[name + "weight"] != 1).any() or (after[name + "bias"] != 0).any()):
            yield (
                "affine-not-default",
                f"scratch なのに、BatchNorm の {name}weight か {name}bias が、初めの値（1と0）ではありません。",
            )


def _spread(name: str, weight: Tensor) -> Finding:
    """重みのばらつき。"""
    default = (3 * weight[0].numel()) ** -0.5  # 既定の初期化（一様分布 ±1/√fan_in）の標準偏差
    ratio = float(weight.std()) / default
    if ratio < 1e-6:
        yield (
            "constant-init",
            f"scratch で、{name} の値がすべて同じです。同じ値から始めたチャネルは、同じ勾配を受け、いつまでも区別がつきません。",
        )
    if not 1 / WIDEST < ratio < WIDEST:
        yield (
            "init-scale",
            f"scratch で、{name} のばらつきが、作ったばかりの層の {ratio:.2g} 倍です。reset_parameters() で、層ごとの既定の初期化に戻してください。",
        )
