"""演習 08-3 の判定のうち、適応したパラメータの性質。クエリを通したときに、モデルに入っていた値で調べる。

値を読めない包み（torch.func の途中など）に入っているときは、ここを飛ばし、損失の値で調べる。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.maml_loss_model import Scene
from tlkit.course.checks.c08.maml_loss_reference import adapted, start, support_gradient
from tlkit.course.checks.findings import Finding, Records, close

NEEDED = ("base", "requeried", "one", "one-twice", "slow", "three")


def inner_findings(records: Records, scenes: dict[str, Scene]) -> Finding:
    """データの混入、動かないパラメータ、1 回の更新、回数の順に調べる。"""
    seen = {name: _used(records[name]) for name in NEEDED}
    moves = {name: _minus(used, scenes[name]["weights"]) for name, used in seen.items() if used}
    if len(moves) < len(NEEDED):
        return
    if not _near(moves["base"], moves["requeried"]):
        yield (
            "query-leak",
            "クエリを替えると、適応したパラメータも変わりました。適応に使ってよいのは、サポートだけです。"
            "クエリのラベルで適応すると、テストの答えを見たことになります。",
        )
    for name, move in moves["one"].items():
        if not bool(move.any()):
            yield "parameter-left", f"適応しても、{name} が動きません。モデルのすべてのパラメータを適応させてください。"
    yield from _one_step(moves, _flat(support_gradient(start(scenes["one"]), scenes["one"])), scenes["one"]["lr"])
    yield from _steps(moves, scenes)


def _one_step(moves: dict[str, dict[str, Tensor]], slope: Tensor, lr: float) -> Finding:
    """1 回の更新は、−η ∇L_S である。"""
    move = -_flat(moves["one"]) / lr
    factor = float((move * slope).sum() / slope.square().sum())
    if not _near(moves["one"], moves["one-twice"]):
        yield (
            "inner-not-averaged",
            "同じサポートを2回ずつ並べると、1回の更新の幅が変わりました。内側の損失も、サポートの画像についての平均です。",
        )
    if _near(moves["one"], moves["slow"]):
        yield "lr-ignored", "inner_lr を半分にしても、1回の更新の幅が変わりません。θ − η ∇L_S(θ) としてください。"
    if factor < 0:
        yield "inner-sign", "1回の更新で、サポートの損失が増える向きに動きました。勾配と逆の向きに動いてください。"
    if float((move - factor * slope).norm()) > 1e-6 * float(move.norm()):
        yield (
            "inner-direction",
            "1回の更新の向きが、サポートの交差エントロピーの勾配と平行ではありません。損失の式と、更新の式を確かめてください。",
        )
    if not close(factor, 1, 1e-6):
        yield "inner-factor", f"1回の更新の幅が、η ∇L_S の {factor:.4g} 倍です。1倍になるはずです。"


def _steps(moves: dict[str, dict[str, Tensor]], scenes: dict[str, Scene]) -> Finding:
    one, two = _flat(moves["one"]), _flat(moves["base"])
    if torch.allclose(one, two, rtol=1e-6):
        yield "steps-ignored", "inner_steps を1から2に増やしても、適応したパラメータが同じです。"
    if torch.allclose(2 * one, two, rtol=1e-6):
        yield (
            "same-gradient",
            "2回の更新で、1回のちょうど2倍動きました。2回めの勾配も、元のパラメータで求めています。"
            "勾配は、1回めの更新が終わったパラメータで求め直してください。",
        )
    for name in ("base", "three"):
        want = _flat(adapted(start(scenes[name]), scenes[name])) - _flat(scenes[name]["weights"])
        if float((_flat(moves[name]) - want).norm()) > 1e-6 * float(want.norm()):
            yield (
                "inner-steps",
                f"1回の更新は正しいのですが、{scenes[name]['steps']}回の更新のあとのパラメータが違います。"
                "どの回も、その時のパラメータでの勾配を使い、同じ η で更新してください。",
            )


def _used(record: dict[str, Any]) -> dict[str, Tensor]:
    """クエリを最後に通したときの、パラメータの値。"""
    found = [call["params"] for call in record["calls"] if call["data"] == "query" and call["params"]]
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found[-1].items()} if found else {}


def _minus(used: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: used[name] - value for name, value in weights.items()}


def _flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()])


def _near(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return torch.allclose(_flat(a), _flat(b), rtol=1e-6, atol=1e-12)
