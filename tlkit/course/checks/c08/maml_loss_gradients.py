"""演習 08-3 の判定のうち、返した損失を、モデルのパラメータで微分した勾配の性質。ここまでに、値は正しいと分かっている。"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.maml_loss_model import Scene
from tlkit.course.checks.c08.maml_loss_reference import first_order_gradient, meta_gradient
from tlkit.course.checks.findings import Finding, Records

COMPARED = ("zero", "one", "base", "first", "three", "stale", "norm", "norm-eval", "norm-first")
NEAR = 1e-6


def gradient_findings(records: Records, scenes: dict[str, Scene]) -> Finding:
    """つながり、次数、中心差分との一致の順に調べる。"""
    for name, record in records.items():
        yield from _connected(record, scenes[name])
    found = {name: _flat(record["grads"]) for name, record in records.items()}
    yield from _orders(found, scenes)
    for name in COMPARED:
        scene = scenes[name]
        want = meta_gradient(scene)
        gap = float((found[name] - want).abs().max())
        if not gap <= NEAR * float(want.abs().max()) + 1e-8:
            norm = "バッチ正規化のあるモデルで、" if scene["norm"] else ""
            what = "適応したパラメータでの勾配" if scene["first_order"] else "返り値の中心差分"
            yield (
                "gradient-mismatch",
                f"{norm}inner_steps = {scene['steps']}、first_order = {scene['first_order']} のとき、{what}から、"
                f"勾配の要素が最大 {gap:.3g} 違います（正しい勾配の最大は {float(want.abs().max()):.3g}）。"
                "途中のどの回の更新でも、つながりが切れていないか確かめてください。",
            )


def _connected(record: dict[str, Any], scene: Scene) -> Finding:
    seen = f"inner_steps = {scene['steps']}、first_order = {scene['first_order']} で、"
    missing = [name for name, grad in zip(scene["weights"], record["grads"], strict=True) if grad is None]
    if record["broken"]:
        yield (
            "graph-broken",
            f"{seen}返り値を微分できません。微分に要る値を、後から書き換えていませんか。PyTorchの言い分: {record['broken']}",
        )
    if len(missing) == len(record["grads"]):
        yield (
            "cut",
            f"{seen}返り値を、モデルのパラメータで微分できません。適応したパラメータは、初めのパラメータの関数です。"
            "deepcopy、detach、.data、最適化手法の step() は、このつながりを切ります。",
        )
    if missing:
        yield "partly-cut", f"{seen}勾配が {missing[0]} に届きません。どのパラメータも、計算グラフでつながるはずです。"


def _orders(found: dict[str, Tensor], scenes: dict[str, Scene]) -> Finding:
    """二階の項の有無。一次近似の勾配は、適応したパラメータでの ∇L_Q である。"""
    plain = first_order_gradient(scenes["base"])
    second_missing, first_right = _near(found["base"], plain), _near(found["first"], plain)
    if second_missing and not first_right:
        yield "orders-swapped", "first_order の働きが逆です。True のときに、二階の項を捨ててください。"
    if second_missing:
        yield (
            "second-order-missing",
            "first_order=False の勾配に、二階の項がありません。内側の勾配も、初めのパラメータの関数です。"
            "torch.autograd.grad に create_graph=True を渡し、detach しないでください。",
        )
    if not first_right and _near(found["first"], found["base"]):
        yield "first-order-ignored", "first_order=True でも、勾配が変わりません。内側の勾配を定数とみなしてください。"
    if not first_right:
        yield (
            "first-order-wrong",
            "first_order=True の勾配が、適応したパラメータでの ∇L_Q ではありません。捨てるのは二階の項だけです。"
            "θ′ = θ − η g の g は定数ですが、θ へのつながりは残します。",
        )


def _flat(grads: list[Any]) -> Tensor:
    return torch.cat([torch.tensor(grad, dtype=torch.float64).flatten() for grad in grads])


def _near(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= NEAR * float(b.abs().max()) + 1e-8
