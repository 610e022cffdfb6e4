"""演習 07-4 の判定のうち、教師モデルのどの段に、どの損失で合わせたか、と、更新に使われた勾配の中身。

ほかの判定は `fit_hint_judge.py`、正しい勾配は `fit_hint_reference.py` にある。
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.fit_hint_model import Scene, learned_stages
from tlkit.course.checks.c07.fit_hint_reference import Run, right_run
from tlkit.course.checks.findings import Finding, close

NEAR = 1e-6


class Seen:
    """一つの場面の記録と、正しい学習。"""

    def __init__(self, record: dict[str, Any], scene: Scene) -> None:
        self.record, self.scene = record, scene
        self.lower = learned_stages(scene)

    @cached_property
    def right(self) -> Run:
        """正しい学習の記録。"""
        return right_run(self.scene)

    def changed(self, prefix: str) -> list[str]:
        """変わったもののうち、名前が prefix で始まるもの。"""
        return [name for name in self.record["changed"] if name.startswith(prefix)]

    def grads(self, index: int) -> Tensor:
        """index 回目の更新に使われた勾配を、一列に並べたもの。勾配のないパラメータは 0 とする。"""
        step, right = self.record["steps"][index], self.right.steps[index]
        flat = [
            torch.zeros_like(want) if step[name] is None else _tensor(step[name], want) for name, want in right.items()
        ]
        return torch.cat([value.flatten() for value in flat])

    def wanted(self, index: int) -> Tensor:
        """index 回目の、正しい勾配。"""
        return torch.cat([value.flatten() for value in self.right.steps[index].values()])

    def fit(self) -> tuple[float, float]:
        """初めの勾配 = 係数 × 正しい勾配、と置いたときの係数と、説明できない部分の割合。"""
        grad, want = self.grads(0), self.wanted(0)
        factor = float((grad * want).sum() / want.square().sum())
        return factor, float((grad - factor * want).norm() / grad.norm().clamp(min=1e-12))


def _tensor(value: Any, like: Tensor) -> Tensor:
    return torch.tensor(value, dtype=like.dtype).reshape(like.shape)


def gradient_findings(found: dict[str, Seen]) -> Finding:
    """ヒントの段、古い勾配、損失の形、溜まった勾配の順に調べる。"""
    base = found["base"]
    if not all(bool(seen.grads(index).isfinite().all()) for seen in found.values() for index in range(3)):
        yield "not-finite", "更新に使われた勾配に、NaN か無限大があります。"
    yield from _layer(base.grads(0), found)
    if not _same(found["stale"].grads(0), base.grads(0)):
        yield (
            "stale-gradients",
            "パラメータに前の勾配が残っていると、初めの更新に混ざります。backward の前に、zero_grad を呼んでください。",
        )
    yield from _loss(found)
    for seen in found.values():
        yield from _later(seen)


def _layer(first: Tensor, found: dict[str, Seen]) -> Finding:
    """教師モデルの段を替えたときの、初めの勾配の変わり方。"""
    if not _same(found["above"].grads(0), first):
        yield (
            "hint-too-deep",
            "hint_depth = 3 なのに、教師モデルの4段目の重みを替えると、勾配が変わりました。手本は、教師モデルの初めの hint_depth 段の出力です。",
        )
    if _same(found["at"].grads(0), first):
        yield (
            "hint-too-shallow",
            "hint_depth = 3 なのに、教師モデルの3段目の重みを替えても、勾配が変わりません。手本は、教師モデルの初めの hint_depth 段の出力です。",
        )


def _loss(found: dict[str, Seen]) -> Finding:
    fits = {name: found[name].fit() for name in ("base", "shallow", "linear")}
    if max(rest for _, rest in fits.values()) > NEAR:
        yield (
            "loss-other",
            "初めの更新の勾配が、差の二乗の平均の勾配に比例していません。回帰器を通した生徒の特徴と、教師の特徴を、"
            "そのまま（正規化や絶対値を挟まずに）引いて、二乗の平均を取ってください。",
        )
    (conv, _), (linear, _) = fits["base"], fits["linear"]
    if conv < 0:
        yield "loss-sign", "損失の符号が逆です。更新すると、教師の特徴から離れていきます。"
    if not close(conv, linear):
        yield (
            "not-averaged",
            f"勾配が、特徴の要素が480個の例では正しい値の {conv:.4g} 倍、45個の例では {linear:.4g} 倍です。"
            "標本、チャネル、位置のすべての要素で平均してください。",
        )
    if not close(conv, 1):
        yield "loss-factor", f"勾配が、いつも正しい値の {conv:.4g} 倍です。損失は、差の二乗の平均そのものとします。"


def _later(seen: Seen) -> Finding:
    """2 回目からの更新。ここまでに、1 回目は正しいと分かっている。"""
    for index in range(1, len(seen.right.steps)):
        grad, want = seen.grads(index), seen.wanted(index)
        if _same(grad, want):
            continue
        if _same(grad - seen.grads(index - 1), want):
            yield (
                "gradients-accumulate",
                f"{index + 1}回目の更新の勾配に、前の勾配が足されています。更新のたびに、zero_grad を呼んでください。",
            )
        yield (
            "later-steps",
            f"1回目の更新は正しいのですが、{index + 1}回目の勾配が正しくありません。"
            "更新のたびに、新しいバッチと、更新した重みで、計算をやり直しているか確かめてください。",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= NEAR * float(b.abs().max()) + 1e-12
