"""演習 08-6 の判定。返り値の形、モデルに残った跡、外側と内側の点、内側の損失、計算グラフの順に調べる。

内側の損失と更新は `meta_distillation_step_inner.py`、外側の勾配は `meta_distillation_step_outer.py`、
正しい値は `meta_distillation_step_reference.py` にある。
"""

import math
from typing import Any

import numpy as np

from tlkit.course.checks.c08.meta_distillation_step_inner import inner_findings
from tlkit.course.checks.c08.meta_distillation_step_model import NAMES, Scene
from tlkit.course.checks.c08.meta_distillation_step_outer import outer_findings
from tlkit.course.checks.c08.meta_distillation_step_reference import Array, flat, query_loss
from tlkit.course.checks.findings import Finding, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

ROLES = {"student": "生徒モデル", "teacher": "教師モデル"}
NEAR = 1e-8
MOVING = ("plain", "unit", "hot", "more", "once", "five", "deep")  # 内側の更新がパラメータを動かすはずの場面


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := first_raised(data):
        return verdict
    found = {name: record["value"] for name, record in data.items()}
    return first(_findings(found, inputs["scenes"])) or PASSED


def _findings(found: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    for seen in found.values():
        yield from _form(seen, next(iter(scenes.values()))["student"])
    for seen in found.values():
        yield from _traces(seen["traces"])
    points = {name: _flat(seen["adapted"]["values"]) for name, seen in found.items()}
    values = {name: seen["loss"]["value"] for name, seen in found.items()}
    if not all(math.isfinite(values[name]) and np.isfinite(points[name]).all() for name in found):
        yield "not-finite", "返した損失か、適応後のパラメータに、NaN か無限大があります。"
    yield from _where(points, values, scenes)
    yield from _query(points, values, scenes)
    yield from inner_findings(points, scenes)
    yield from outer_findings(found, scenes)


def _form(seen: Scene, student: Scene) -> Finding:
    loss, fast = seen["loss"], seen["adapted"]
    if not seen["pair"]:
        yield (
            "not-pair",
            f"返り値が {seen['type']} です。（クエリの損失, 適応後のパラメータの辞書）の組を返してください。",
        )
    if loss["shape"] is None:
        yield (
            "loss-not-tensor",
            f"損失が {loss['type']} です。数に直すと勾配が失われます。0次元のテンソルのまま返してください。",
        )
    if loss["value"] is None:
        yield "loss-shape", f"損失の形が {tuple(loss['shape'])} です。0次元の、小数のテンソルにしてください。"
    if fast["type"] != "dict" or sorted(fast["names"]) != sorted(NAMES):
        given = "、".join(fast["names"][:4]) or fast["type"]
        yield (
            "adapted-names",
            f"適応後のパラメータが {given} です。生徒モデルの named_parameters() と同じ名前の辞書にしてください。",
        )
    for name in NAMES:
        if np.shape(fast["values"].get(name)) != tuple(student[name].shape):
            yield (
                "adapted-shape",
                f"適応後のパラメータ {name} の形が、生徒モデルのものと違います（必要な形は {tuple(student[name].shape)}）。",
            )


def _traces(traces: dict[str, dict[str, list[str]]]) -> Finding:
    for role, title in ROLES.items():
        seen = traces[role]
        if seen["moved"]:
            yield (
                f"{role}-moved",
                f"呼んだ後に、{title}の {seen['moved'][0]} が変わっています。内側では、辞書の中の値だけを新しくします。"
                "モデルのパラメータを更新するのは、外側の最適化手法です。",
            )
        if seen["grads"]:
            yield (
                "grads-left",
                f"呼んだ後に、{title}の {seen['grads'][0]} に .grad が残っています。backward を呼ぶと、外側の勾配に混ざります。"
                "内側の勾配は、torch.autograd.grad で求めてください。",
            )
        if seen["flags"]:
            yield (
                "flags-changed",
                f"呼んだ後に、{title}の {seen['flags'][0]} の requires_grad が False になっています。元のままにしてください。",
            )


def _where(points: dict[str, Array], values: dict[str, float], scenes: dict[str, Scene]) -> Finding:
    """適応が、返す値に効いているか。効いていれば、内側の更新が、いまの点で計算されているか。"""
    start = flat(scenes["plain"]["student"])
    still = [name for name in MOVING if np.abs(points[name] - start).max() < NEAR]
    if len(still) == len(MOVING):
        yield "no-adaptation", "内側の更新をしても、返したパラメータが、生徒モデルの初めの重みと同じです。"
    before = {name: float(query_loss(scenes[name], start)[0]) for name in MOVING}
    if all(close(values[name], before[name], NEAR) for name in MOVING):
        yield (
            "query-unadapted",
            f"内側の更新を {scenes['plain']['inner_steps']} 回しても {scenes['five']['inner_steps']} 回しても、クエリの損失が、"
            "適応する前の生徒モデルの損失のままです。内側の計算が、結果に効いていません。適応した後のパラメータで、クエリを予測してください。",
        )
    if np.abs(points["none"] - start).max() > NEAR:
        yield "zero-steps", "inner_steps = 0 なのに、パラメータが動きました。0回なら、初めの重みのままです。"
    if np.abs(points["five"] - points["once"]).max() < NEAR:
        yield (
            "inner-original",
            "学習率0.1で5回の更新が、0.5で1回の更新と、同じ点に着きました。どの回も、初めの重みで勾配を計算しています。"
            "内側の予測も勾配も、その回のパラメータ（fast）で計算してください。",
        )


def _query(points: dict[str, Array], values: dict[str, float], scenes: dict[str, Scene]) -> Finding:
    """返した損失が、返したパラメータの、クエリの交差エントロピーか。"""
    wanted = {name: float(query_loss(scene, points[name])[0]) for name, scene in scenes.items()}
    if all(close(values[name], wanted[name], NEAR) for name in scenes):
        return
    ratios = [values[name] / wanted[name] for name in scenes]
    if max(ratios) - min(ratios) < NEAR:
        yield (
            "query-factor",
            f"返した損失が、クエリの交差エントロピーの、いつも {ratios[0]:.4g} 倍です。クエリの標本について平均してください。",
        )
    name = next(name for name in scenes if not close(values[name], wanted[name], NEAR))
    yield (
        "query-loss",
        f"返した損失 {values[name]:.4f} が、返したパラメータで測ったクエリの交差エントロピー {wanted[name]:.4f} と違います"
        f"（inner_steps = {scenes[name]['inner_steps']}、T = {scenes[name]['temperature']}、α = {scenes[name]['alpha']}）。"
        "外側の損失は、最後のパラメータで、query_x を予測し、query_y と比べたものです。温度も教師モデルも使いません。",
    )


def _flat(values: Scene) -> Array:
    return np.concatenate([np.asarray(values[name], dtype=float).ravel() for name in NAMES])[None]
