"""演習 07-3 の判定。返り値の形、自動微分の使用、α の役目、二つの項、重みの足し方、値の順に調べる。

項ごとの性質は `logit_gradient_terms.py`、比べる値は `logit_gradient_reference.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.logit_gradient_reference import Case, central_differences, closed_form
from tlkit.course.checks.c07.logit_gradient_terms import Grads, differ, hard_findings, soft_findings
from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

APART = ("float32", "large")  # 丸めやあふれを見る場合。ふつうの場合のあとで調べる


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    values, cases = data["values"], inputs["cases"]
    plain = {name: record for name, record in values.items() if name not in APART}
    return (
        first_raised(plain)
        or first_raised({"float32": values["float32"]}, "ロジットが float32 のとき、")
        or first_raised(values, "ロジットが大きいとき、")
        or first(_form(values, cases))
        or first(_graph(data["graph"]))
        or first(_findings(_grads(values), cases))
        or first_raised({"attached": data["attached"]}, "student_logits が勾配を求めるテンソルのとき、")
        or first(_attached(data["attached"]))
        or PASSED
    )


def _grads(records: Records) -> Grads:
    return {name: torch.tensor(record["value"], dtype=torch.float64) for name, record in records.items()}


def _form(records: Records, cases: dict[str, Case]) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        want, dtype = tuple(cases[name]["student"].shape), "float32" if name == "float32" else "float64"
        if record["kind"] != "tensor":
            yield "not-tensor", f"返り値が {record['type']} です。勾配の torch.Tensor (N, C) を一つ返してください。"
        elif not record["shape"]:
            yield (
                "scalar",
                "返り値が0次元です。損失の値ではなく、その勾配を返します。勾配は、生徒のロジットと同じ形 (N, C) です。",
            )
        elif tuple(record["shape"]) != want:
            yield (
                "shape",
                f"student_logits の形が {want} のとき、返り値の形が {tuple(record['shape'])} です。勾配は同じ形にしてください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} のロジットを渡すと、{record['dtype']} が返りました。返り値の dtype は入力にそろえてください。",
            )


def _graph(drawn: bool) -> Finding:
    if drawn:
        yield (
            "autograd",
            "自動微分（requires_grad、backward、autograd.grad、torch.func など）が使われています。この演習では、"
            "勾配の式を自分で導き、その式を計算してください。",
        )


def _attached(record: dict[str, Any]) -> Finding:
    if record.get("tracked"):
        yield (
            "attached",
            "student_logits が勾配を求めるテンソルだと、返り値が計算グラフにつながります。勾配の値は定数として使うので、"
            "torch.no_grad() の中で計算するか、最後に detach() してください。",
        )


def _findings(found: Grads, cases: dict[str, Case]) -> Finding:
    if not all(bool(grad.isfinite().all()) for name, grad in found.items() if name not in APART):
        yield (
            "not-finite",
            "ふつうの大きさのロジットで、勾配に NaN か無限大があります。0での割り算や log(0) がないか確かめてください。",
        )
    yield from _absent(found["soft"], found["hard"])
    yield from _roles(found)
    yield from soft_findings(found, cases)
    yield from hard_findings(found, cases)
    yield from _weights(found, cases)
    yield from _numbers(found, cases)
    yield from _large(found["large"], closed_form(cases["large"]))


def _absent(soft: Tensor, hard: Tensor) -> Finding:
    for name, vanished in (("α = 1（ソフトの項だけ）", soft), ("α = 0（正解ラベルの項だけ）", hard)):
        if float(vanished.abs().max()) < 1e-9:
            yield "vanished", f"{name}で、勾配がすべて0です。その項を、重み1で入れてください。"


def _roles(found: Grads) -> Finding:
    """α = 1 では教師だけ、α = 0 では正解ラベルだけが効く。"""
    soft, hard = found["soft"], found["hard"]
    labels_at_one, teacher_at_one = differ(soft, found["soft-relabelled"]), differ(soft, found["soft-retaught"])
    labels_at_zero, teacher_at_zero = differ(hard, found["hard-relabelled"]), differ(hard, found["hard-retaught"])
    if not differ(found["mixed"], found["mixed-low"]) and not differ(soft, hard):
        yield (
            "alpha-ignored",
            "α を変えても、勾配が変わりません。α·（ソフトの項）+ (1 − α)·（正解ラベルの項）としてください。",
        )
    if labels_at_one and not teacher_at_one and teacher_at_zero and not labels_at_zero:
        yield (
            "alpha-swapped",
            "α = 1 で正解ラベルだけ、α = 0 で教師だけが効いています。この演習では、α がソフトの項の重みです。",
        )
    if not (teacher_at_one or teacher_at_zero):
        yield "teacher-ignored", "教師のロジットを変えても、勾配が変わりません。ソフトの項の勾配を加えてください。"
    if not (labels_at_one or labels_at_zero):
        yield "labels-ignored", "正解ラベルを変えても、勾配が変わりません。正解ラベルの項の勾配を加えてください。"
    if labels_at_one:
        yield "hard-at-one", "α = 1 なのに、正解ラベルを変えると勾配が変わります。正解ラベルの項の重みは 1 − α です。"
    if teacher_at_zero:
        yield "soft-at-zero", "α = 0 なのに、教師のロジットを変えると勾配が変わります。ソフトの項の重みは α です。"


def _weights(found: Grads, cases: dict[str, Case]) -> Finding:
    """α が 0 と 1 の間のとき、二つの項を α : 1 − α で足したか。"""
    basis = torch.stack([found["soft"].flatten(), found["hard"].flatten()], dim=1)
    for name in ("mixed", "mixed-low"):
        alpha, goal = cases[name]["alpha"], found[name].flatten()
        a, b = torch.linalg.lstsq(basis, goal[:, None]).solution.flatten().tolist()
        if max(abs(a - alpha), abs(b - (1 - alpha))) > 1e-5:
            yield (
                "alpha-weights",
                f"α = {alpha} のとき、ソフトの項の重みが {a:.3g}、正解ラベルの項の重みが {b:.3g} です。"
                f"{alpha} と {1 - alpha:g} にしてください。",
            )


def _numbers(found: Grads, cases: dict[str, Case]) -> Finding:
    for name, case in cases.items():
        if name == "large":
            continue
        want = central_differences(case)
        gap, top = float((found[name] - want).abs().max()), float(want.abs().max())
        if not gap <= (1e-4 if name == "float32" else 1e-6) * top + 1e-8:
            n, c = want.shape
            yield (
                "value-mismatch",
                f"N = {n}、C = {c}、T = {case['temperature']}、α = {case['alpha']} の例で、損失の中心差分から、"
                f"勾配の要素が最大 {gap:.3g} 違います（正しい勾配の最大は {top:.3g}）。",
            )
    for name, case in cases.items():
        gap = float((found[name] - closed_form(case)).abs().max())
        if name not in APART and not gap <= 1e-11:
            yield (
                "rounded",
                f"値は近いのですが、float64の計算にしては誤差が大きすぎます（{gap:.1e}）。"
                "途中で float32 にしたり、数値微分で代えたりせず、式のとおりに計算してください。",
            )


def _large(grad: Tensor, want: Tensor) -> Finding:
    if not bool(grad.isfinite().all()):
        yield (
            "overflow",
            "数千の大きさのロジットで、勾配に NaN か無限大があります。exp をそのまま計算するとあふれます。"
            "softmax を使うか、行ごとの最大値を引いてから exp を計算してください。",
        )
    if not float((grad - want).abs().max()) <= 1e-9:
        yield (
            "large-wrong",
            f"数千の大きさのロジットで、勾配の要素が最大 {float((grad - want).abs().max()):.3g} 違います。"
            "ロジットや確率の値を、clamp などで変えていないか確かめてください。",
        )
