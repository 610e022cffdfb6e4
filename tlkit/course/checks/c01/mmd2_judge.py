"""演習 01-1 の判定。破れた性質から診断を選ぶ。

返り値の形、性質（`mmd2_properties.py`）、tlkit の値との比較、勾配の順に調べる。
どの診断も「正しい答えが必ず持つ性質」が破れたときにだけ出る。性質で見つからない誤りは、値の比較が見つける。
"""

import math
from typing import Any

from tlkit.course.checks.c01.mmd2_properties import Finding, Records, properties, sizes
from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

UNEVEN = ("uneven", "random-5", "random-3", "swapped", "float32")


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    values, gradients = data["values"], data["gradients"]
    even = {name: record for name, record in values.items() if not name.startswith(UNEVEN)}
    return (
        _raised(even)
        or _first(_form(values | gradients))
        or _first(properties(values, inputs["sigma"]))
        or _raised_uneven(values)
        or _first(sizes(values))
        or _first(_numbers(values, inputs["cases"]))
        or _raised(gradients, "勾配を求めるとき、")
        or _first(_gradients(gradients, inputs["gradients"]))
        or PASSED
    )


def _first(findings: Finding) -> Verdict | None:
    for code, message in findings:
        return wrong(code, message)
    return None


def _raised(records: Records, when: str = "") -> Verdict | None:
    return next((raised(record["error"], when) for record in records.values() if failed(record)), None)


def _raised_uneven(values: Records) -> Verdict | None:
    for name, record in values.items():
        if failed(record) and name == "float32":
            return raised(record["error"], "x と y が float32 のとき、")
        if failed(record):
            where = raised(record["error"]).message
            message = f"N = M なら動きますが、N ≠ M のとき止まります。二つの標本の大きさは違ってよいはずです。{where}"
            return wrong("unequal-sizes", message, record["error"]["index"])
    return None


def _form(records: Records) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        if failed(record):
            continue
        if record["kind"] != "tensor":
            yield (
                "not-tensor",
                f"返り値が {record['type']} です。0次元の torch.Tensor を返してください。"
                "`.item()`、`float()`、NumPyへの変換を挟むと、勾配が流れなくなります。",
            )
        elif record["shape"]:
            shape = tuple(record["shape"])
            yield (
                "not-scalar",
                f"返り値の形が {shape} です。MMD²は一つの数なので、0次元（形は ()）のテンソルにしてください。",
            )
        elif record["dtype"] != _input_dtype(name):
            yield (
                "dtype-changed",
                f"{_input_dtype(name)} の標本を渡すと、{record['dtype']} が返りました。返り値の dtype は入力にそろえてください。",
            )


def _input_dtype(name: str) -> str:
    return "float32" if name == "float32" else "float64"


def _numbers(values: Records, cases: dict[str, Any]) -> Finding:
    """tlkit の値との比較。ここまでの性質で見つからなかった誤りを知らせる。"""
    for name, record in values.items():
        want, tolerance = float(_reference(cases[name])), 2e-3 if name.startswith("far") else 2e-4
        if not abs(record["value"] - want) <= (2e-5 if name.startswith("random") else tolerance):
            yield (
                "value-mismatch",
                f"{_label(cases[name])}で、{want:.5f} になるはずの値が {record['value']:.5f} になりました。式と一行ずつ見比べてください。",
            )


def _reference(case: dict[str, Any]) -> Any:
    from tlkit.losses import mmd2  # 答えを呼ぶ側の名前空間に正解を置かないよう、判定のときにだけ読み込む

    return mmd2(case["x"], case["y"], bandwidth=case["sigma"], estimator=case["estimator"])


def _label(case: dict[str, Any]) -> str:
    (n, d), m = case["x"].shape, len(case["y"])
    return f"N = {n}、M = {m}、D = {d}、σ = {case['sigma']:.2f}、{case['estimator']} の例"


def _gradients(records: Records, cases: dict[str, Any]) -> Finding:
    """x と y の勾配が届き、有限で、正しい値か。"""
    for name, record in records.items():
        if not record["tracked"] or all(grad is None for grad in record["grads"]):
            yield (
                "gradient-cut",
                "値は正しいのですが、x と y に勾配が流れません。`detach`、`no_grad`、`torch.tensor(...)` で計算が切れていないか確かめてください。",
            )
            return
        for argument, grad, want in zip("xy", record["grads"], _reference_gradients(cases[name]), strict=True):
            yield from _gradient(argument, grad, want)


def _gradient(argument: str, grad: Any, want: list[list[float]]) -> Finding:
    if grad is None:
        yield "gradient-partial", f"{argument} に勾配が流れません。{argument} を通る計算のどこかが切れています。"
        return
    pairs = [pair for row, want_row in zip(grad, want, strict=True) for pair in zip(row, want_row, strict=True)]
    if not all(math.isfinite(got) for got, _ in pairs):
        yield (
            "gradient-not-finite",
            f"{argument} の勾配に NaN か無限大があります。距離0での平方根の微分は無限大です。距離の二乗を、平方根を通さずに求めてください。",
        )
    elif not all(abs(got - number) <= 1e-4 for got, number in pairs):
        yield (
            "gradient-wrong",
            f"値は正しいのですが、{argument} の勾配が違います。三つの項のどれかが `detach` や `.data` で切れていないか確かめてください。",
        )


def _reference_gradients(case: dict[str, Any]) -> list[Any]:
    import torch

    x, y = (case[key].clone().requires_grad_() for key in ("x", "y"))
    grads = torch.autograd.grad(_reference(case | {"x": x, "y": y}), (x, y))
    return [grad.tolist() for grad in grads]
