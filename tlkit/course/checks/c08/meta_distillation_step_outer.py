"""演習 08-6 の判定のうち、外側の勾配。値が正しいと分かった後で、中心差分の勾配と比べる。

ほかの判定は `meta_distillation_step_judge.py`、中心差分は `meta_distillation_step_reference.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c08.meta_distillation_step_model import NAMES, Scene
from tlkit.course.checks.c08.meta_distillation_step_reference import Array, meta_gradients
from tlkit.course.checks.findings import Finding

NEAR = 1e-6
SHOWN = ("plain", "deep")  # 内側が 1 回と 3 回


def outer_findings(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    """二つのモデルに届いた勾配。"""
    if not all(seen["tracked"] for seen in found.values()):
        yield (
            "no-graph",
            "返した損失に、計算グラフがありません。no_grad や detach で切れていると、外側の更新ができません。",
        )
    for seen in found.values():
        if seen["broken"]:
            yield (
                "graph-broken",
                f"返した損失を微分すると、エラーになります（{seen['broken']}）。計算に使った値を書き換えたり、計算グラフを捨てたりしないでください。",
            )
    for name in SHOWN:
        yield from _of(found[name]["grads"], scenes[name])


def _of(grads: dict[str, list[Any]], scene: Scene) -> Finding:
    wanted = meta_gradients(scene)
    seen = {role: _flat(grads[role], scene[role]) for role in wanted}
    wrong = {role: float(np.linalg.norm(seen[role] - want) / np.linalg.norm(want)) for role, want in wanted.items()}
    empty = {role: not np.abs(seen[role]).max() > 0 for role in wanted}
    steps = scene["inner_steps"]
    if empty["student"]:
        yield (
            "student-cut",
            "損失の値は正しいのに、生徒モデルの初めの重みに、勾配が届きません。適応後のパラメータが、初めの重みの関数としてつながるように、"
            "detach や複製をせずに、初めの重みから引いていってください。",
        )
    if empty["teacher"] and wrong["student"] > NEAR:
        yield (
            "no-second-order",
            f"教師モデルの勾配がちょうど 0 で、生徒モデルの初めの重みの勾配も、中心差分と {wrong['student']:.2g} の割合で違います。"
            "内側の勾配が、ただの数になっています。torch.autograd.grad に create_graph=True を渡し、勾配の計算も微分できるようにしてください。",
        )
    if empty["teacher"]:
        yield (
            "teacher-cut",
            "生徒モデルの勾配は正しいのに、教師モデルの勾配がちょうど 0 です。教師モデルの出力を detach したり、no_grad の中で"
            "求めたりせずに使ってください。メタ蒸留では、教師モデルも学びます。",
        )
    for role, title in (("student", "生徒モデルの初めの重み"), ("teacher", "教師モデルの重み")):
        if wrong[role] > NEAR:
            yield (
                f"{role}-gradient",
                f"inner_steps = {steps} のとき、損失の値は正しいのに、{title}の勾配が、中心差分と {wrong[role]:.2g} の割合で違います。"
                "内側のどこかの回で、計算グラフが切れています。",
            )


def _flat(grads: list[Any], weights: dict[str, Any]) -> Array:
    """一列に並べた勾配。届かないものは 0 とする。"""
    return np.concatenate(
        [
            np.zeros(weights[name].numel()) if grad is None else np.asarray(grad, dtype=float).ravel()
            for name, grad in zip(NAMES, grads, strict=True)
        ]
    )
