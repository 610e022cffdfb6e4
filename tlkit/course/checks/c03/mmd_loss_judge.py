"""演習 03-3 の判定。破れた性質から診断を選ぶ。

例外、返り値の形、値の性質（`mmd_loss_judge_values.py`）、定義どおりの値との比較、勾配（`mmd_loss_judge_gradients.py`）の順に調べる。
どの診断も「正しい答えが必ず持つ性質」が破れたときにだけ出る。性質で見つからない誤りは、値の比較が見つける。
"""

import math
from typing import Any

from tlkit.course.checks.c03 import mmd_loss_judge_reference as reference
from tlkit.course.checks.c03.mmd_loss_judge_gradients import gradient_properties
from tlkit.course.checks.c03.mmd_loss_judge_values import properties
from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

RULER = (0.0, 0.025, 0.05, 0.5, 1.0, 2.0, 4.0)  # x の 2 点の距離（2 点間の距離の中央値を 1 とする）
SQUARE = ("even", "square", "square-shuffled", "mixed", "clusters")  # N = M の場合


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    values, gradients = data["values"], data["gradients"]
    if verdict := first_raised({name: values[name] for name in SQUARE}) or _raised_uneven(values):
        return verdict
    return (
        first(_form(values))
        or first(properties(values, gradients))
        or first(_numbers(values, inputs["cases"]))
        or first_raised(gradients, "勾配を求めるとき、")
        or first(gradient_properties(gradients, inputs["gradients"]))
        or PASSED
    )


def _raised_uneven(values: Records) -> Verdict | None:
    """N ≠ M で止まるのか、特別な例だけで止まるのか。"""
    if failed(values["base"]):
        error = values["base"]["error"]
        message = "N = M なら動きますが、N ≠ M のとき止まります。二つの標本の大きさは違ってよいはずです。"
        return wrong("unequal-sizes", message + raised(error).message, error["index"])
    return first_raised({"float32": values["random-float32"]}, "x と y が float32 のとき、") or first_raised(
        values, "件数や次元の少ない例、または点が重なった例で、"
    )


def _form(records: Records) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        dtype = "float32" if name == "random-float32" else "float64"
        if record["kind"] != "tensor":
            yield (
                "not-tensor",
                f"返り値が {record['type']} です。0次元の torch.Tensor を返してください。"
                "`.item()` や `float()` を挟むと、勾配が流れず、損失として使えません。",
            )
        elif record["shape"]:
            yield (
                "not-scalar",
                f"返り値の形が {tuple(record['shape'])} です。損失は一つの数なので、0次元（形は ()）のテンソルにしてください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} の標本を渡すと、{record['dtype']} が返りました。返り値の dtype は入力にそろえてください。",
            )


def _numbers(values: Records, cases: dict[str, Any]) -> Finding:
    """定義どおりの値との比較。"""
    for name, case in cases.items():
        if name in ("collapsed", "coincident"):
            continue
        want, got = reference.value(case["x"], case["y"]), values[name]["value"]
        if not close(got, want, 2e-4 if name.startswith("ruler") else 2e-5):
            yield (
                "value-mismatch",
                f"{_label(case)}で、{want:.5f} になるはずの値が {got:.5f} になりました。"
                "帯域幅を決める中央値と、五つのカーネルの平均を、式と一行ずつ見比べてください。",
            )
    yield from _ties(values, cases)


def _ties(values: Records, cases: dict[str, Any]) -> Finding:
    case, got = cases["coincident"], values["coincident"]["value"]
    want = reference.value(case["x"], case["y"])
    if not close(got, want, 2e-5):
        yield (
            "coincident-pairs",
            f"x の5点が同じ場所にある例で、{want:.5f} になるはずの値が {got:.5f} になりました。"
            "中央値は i < j の組すべてで取ります。別の点どうしなら、距離が0の組も数えます。",
        )
    if not (math.isfinite(values["collapsed"]["value"]) and abs(values["collapsed"]["value"]) < 1e-6):
        yield (
            "collapse",
            f"すべての点が同じ場所にある例で、0になるはずの値が {values['collapsed']['value']} になりました。"
            "中央値が0になり、0/0が起きています。中央値に、ごく小さい下限（clamp の min）を付けてください。",
        )


def _label(case: dict[str, Any]) -> str:
    (n, d), m = case["x"].shape, len(case["y"])
    return f"N = {n}、M = {m}、D = {d} の例"
