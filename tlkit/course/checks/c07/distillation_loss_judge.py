"""演習 07-2 の判定。破れた性質から診断を選ぶ。

例外、返り値の形、α の効き方、正解ラベルの項、ソフトの項（`distillation_loss_judge_soft.py`）、大きなロジット、勾配の順に調べる。
前の性質が成り立つことを、後の性質が使う。場合の作り方は `distillation_loss.py` にある。
"""

import math
from typing import Any

import torch

from tlkit.course.checks.c07 import distillation_loss_judge_reference as reference
from tlkit.course.checks.c07.distillation_loss_judge_soft import ratio, soft_term
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

LARGE = ("large", "large-agreed")
Values = dict[str, float]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    records, gradients, cases = data["values"], data["gradients"], inputs["cases"]
    if verdict := first_raised(records) or first(_form(records, cases)):
        return verdict
    values = {name: record["value"] for name, record in records.items()}
    return (
        first(_finite(values))
        or first(_ends(values))
        or first(_hard_term(values, cases))
        or first(soft_term(values, cases))
        or first(_mix(values))
        or first(_large(values, cases))
        or first(_all_values(values, cases))
        or first_raised(gradients, "勾配を求めるとき、")
        or first(_gradients(gradients, inputs["gradients"]))
        or PASSED
    )


def _form(records: Records, cases: dict[str, Any]) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        dtype = str(cases[name]["student_logits"].dtype).removeprefix("torch.")
        if record["kind"] != "tensor":
            yield (
                "not-tensor",
                f"返り値が {record['type']} です。0次元の torch.Tensor を返してください。"
                "`.item()` や `float()` を挟むと、勾配が流れません。",
            )
        elif record["shape"]:
            yield (
                "not-scalar",
                f"返り値の形が {tuple(record['shape'])} です。クラスでは和を、画像では平均を取り、0次元のテンソルにしてください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} のロジットを渡すと、{record['dtype']} が返りました。dtype は入力にそろえてください。",
            )


def _finite(values: Values) -> Finding:
    for name, got in values.items():
        if name not in LARGE and not math.isfinite(got):
            yield (
                "not-finite",
                f"ふつうの大きさのロジットで、値が {got} になりました。F.kl_div の2番目の引数は確率です。"
                "対数の確率（負の数）を渡すと、その対数が NaN になります（log_target=True を付けたときだけ、対数で渡せます）。",
            )


def _ends(v: Values) -> Finding:
    """α = 1 は教師だけを、α = 0 は正解ラベルだけを見る。"""
    soft_labels, hard_labels = _differ(v, "soft", "soft-labels"), _differ(v, "hard", "hard-labels")
    soft_teacher, hard_teacher = _differ(v, "soft", "soft-teacher"), _differ(v, "hard", "hard-teacher")
    if not (soft_labels or hard_labels):
        yield (
            "labels-unused",
            "labels を替えても、値がどの alpha でも変わりません。交差エントロピーの正解は、教師の予測ではなく labels です。",
        )
    if not (soft_teacher or hard_teacher):
        yield "teacher-unused", "teacher_logits を替えても、値がどの alpha でも変わりません。ソフトの項がありますか。"
    if soft_labels and hard_teacher and not soft_teacher and not hard_labels:
        yield (
            "alpha-swapped",
            "alpha = 1 で正解ラベルだけを、alpha = 0 で教師だけを見ています。この演習の alpha は、ソフトの項の重みです。"
            "実装によって向きが逆なので、式を確かめる習慣をつけましょう。",
        )
    if not _differ(v, "mixed-0.3", "mixed-0.7") and not _differ(v, "soft", "hard"):
        yield "alpha-unused", "alpha を替えても、値が変わりません。渡された alpha で、二つの項を混ぜてください。"
    if soft_labels:
        yield (
            "hard-remains",
            "alpha = 1 でも、labels を替えると値が変わります。正解ラベルの項の重みは 1 − alpha です。",
        )
    if hard_teacher:
        yield (
            "soft-remains",
            "alpha = 0 でも、teacher_logits を替えると値が変わります。ソフトの項の重みは alpha です。"
            "1 − alpha の側に、教師の予測やソフトの項が混ざっていませんか。",
        )


def _hard_term(v: Values, cases: dict[str, Any]) -> Finding:
    """α = 0 のときの、交差エントロピー。"""
    times = [ratio(v[name], v[f"{name}-cool"]) for name in ("hard", "hard-student")]
    if _differ(v, "hard", "hard-cool"):
        if close(times[0], times[1], 1e-6):
            yield (
                "hard-scaled",
                f"alpha = 0 で T を1から4にすると、値が {times[0]:.4g} 倍になりました。T² を掛けるのは、ソフトの項だけです。括弧の位置を確かめてください。",
            )
        yield (
            "hard-softened",
            "alpha = 0 でも、T を替えると値が変わります。正解ラベルの項では、生徒のロジットを T で割りません（温度1の交差エントロピー）。",
        )
    if _differ(v, "hard", "hard-shifted"):
        yield (
            "hard-not-normalised",
            "alpha = 0 で、一つの画像のロジットすべてに同じ数を足すと、値が変わりました。交差エントロピーなら変わりません。"
            "F.cross_entropy にはロジットを、F.nll_loss には対数の確率を渡します。",
        )
    if _differ(v, "hard", "hard-repeated"):
        yield (
            "hard-summed",
            f"alpha = 0 で、同じ画像を3回ずつ並べると、値が {ratio(v['hard-repeated'], v['hard']):.3g} 倍になりました。画像について平均してください。",
        )
    if not v["hard-sure"] > 30:
        yield (
            "hard-bounded",
            f"ロジットの差40で自信を持って外した例で、交差エントロピーが 40 でなく {v['hard-sure']:.4g} です。"
            "ソフトマックスを二度掛けたり、log の中に小さな数を足したりしていませんか。F.cross_entropy には、ロジットをそのまま渡します。",
        )
    want = reference.value(cases["hard"])
    if not close(v["hard"], want, 1e-6):
        yield (
            "hard-value",
            f"alpha = 0 で、{want:.5f} になるはずの値が {v['hard']:.5f} です。labels の交差エントロピーの、画像についての平均だけが残るはずです。",
        )


def _mix(v: Values) -> Finding:
    for alpha in (0.3, 0.7):
        want, got = alpha * v["soft"] + (1 - alpha) * v["hard"], v[f"mixed-{alpha}"]
        if not close(got, want, 1e-6):
            yield (
                "alpha-mix",
                f"alpha = 1と0では正しいのですが、alpha = {alpha} で、{want:.5f} になるはずの値が {got:.5f} です。"
                "二つの重みは alpha と 1 − alpha で、和は1です。",
            )


def _large(v: Values, cases: dict[str, Any]) -> Finding:
    for name in LARGE:
        want, got = reference.value(cases[name]), v[name]
        if not math.isfinite(got):
            yield (
                "not-stable",
                f"ロジットに±1000を含む例で、値が {got} になりました。確率を作ってから log を取ると、0の対数が無限大になります。"
                "log_softmax なら、確率が0に丸められるときも、対数は有限です。",
            )
        elif not close(got, want, 1e-4):
            yield (
                "clipped",
                f"ロジットに±1000を含む例で、{want:.5g} になるはずの値が {got:.5g} です。log の中に小さな数を足したり、"
                "確率やロジットを切り詰めたりしていませんか。log_softmax なら、どちらも要りません。",
            )


def _all_values(v: Values, cases: dict[str, Any]) -> Finding:
    for name, case in cases.items():
        want, (n, c) = reference.value(case), case["student_logits"].shape
        if not close(v[name], want, 1e-6 if case["student_logits"].dtype == torch.float64 else 1e-4):
            yield (
                "value-mismatch",
                f"N = {n}、C = {c}、T = {case['temperature']:g}、alpha = {case['alpha']:g} の例で、"
                f"{want:.6f} になるはずの値が {v[name]:.6f} です。",
            )


def _gradients(records: Records, cases: dict[str, Any]) -> Finding:
    if any(_moves(record["grads"][1]) for record in records.values()):
        yield (
            "teacher-gradient",
            "値は正しいのですが、teacher_logits に勾配が流れています。生徒に合わせて教師が動くと、教える内容が変わります。"
            "teacher_logits を detach するか、torch.no_grad() の中で確率にしてください。",
        )
    if not any(_moves(record["grads"][0]) for record in records.values()):
        yield (
            "gradient-cut",
            "値は正しいのですが、student_logits に勾配が流れません。detach や no_grad は、教師の側だけに使います。",
        )
    for name, case in cases.items():
        want = reference.gradient(case)
        grad = records[name]["grads"][0]
        got = torch.zeros_like(want) if grad is None else torch.tensor(grad, dtype=torch.float64)
        gap = float((got - want).abs().max())
        if not gap < 1e-6:
            yield (
                "gradient-wrong",
                f"値は正しいのですが、alpha = {case['alpha']:g} で、生徒のロジットの勾配が最大 {gap:.3g} 違います。"
                "二つの項のどちらかで、生徒の側を detach していませんか。",
            )


def _moves(grad: list[list[float]] | None) -> bool:
    """0 でない勾配があるか。"""
    return grad is not None and any(value != 0 for row in grad for value in row)


def _differ(v: Values, a: str, b: str) -> bool:
    return not close(v[a], v[b], 1e-6)
