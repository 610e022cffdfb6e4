"""演習 03-4 の判定。破れた性質から診断を選ぶ。

例外、返り値の形、値の性質（`coral_loss_judge_values.py`）、定義どおりの値との比較、勾配の順に調べる。
正しい値と勾配は、tlkit の実装を使わず、成分ごとの和と、手で微分した式から求める。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03.coral_loss_judge_values import properties
from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

Case = dict[str, Tensor]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    values, gradients = data["values"], data["gradients"]
    return (
        first_raised({name: values[name] for name in ("square", "correlated")})
        or _raised_uneven(values)
        or first(_form(values))
        or first(properties({name: record["value"] for name, record in values.items()}))
        or first(_numbers(values, inputs["cases"]))
        or first_raised(gradients, "勾配を求めるとき、")
        or first(_gradients(gradients, inputs["gradients"]))
        or PASSED
    )


def _raised_uneven(values: Records) -> Verdict | None:
    if failed(values["base"]):
        error = values["base"]["error"]
        message = (
            "N = M なら動きますが、N ≠ M のとき止まります。共分散は、標本の間でなく特徴の間で取る (D, D) の行列です。"
            "だから、件数が違っても引き算できます。"
        )
        return wrong("unequal-sizes", message + raised(error).message, error["index"])
    return first_raised({"float32": values["random-float32"]}, "x と y が float32 のとき、") or first_raised(values)


def _form(records: Records) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        dtype = "float32" if name == "random-float32" else "float64"
        if record["kind"] != "tensor":
            yield (
                "not-tensor",
                f"返り値が {record['type']} です。0次元の torch.Tensor を返してください。"
                "NumPyへの変換や `.item()` を挟むと、勾配が流れません。",
            )
        elif record["shape"]:
            yield (
                "not-scalar",
                f"返り値の形が {tuple(record['shape'])} です。差の行列の要素を二乗して、全部足してください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} の標本を渡すと、{record['dtype']} が返りました。返り値の dtype は入力にそろえてください。",
            )


def _numbers(values: Records, cases: dict[str, Case]) -> Finding:
    """定義どおりの値との比較。どの例でも比が同じなら、定数の違いである。"""
    pairs = {name: (values[name]["value"], _value(case["x"], case["y"])) for name, case in cases.items()}
    ratios = [got / want for got, want in pairs.values()]
    if max(ratios) - min(ratios) < 1e-4 * max(ratios) and not close(ratios[0], 1, 1e-4):
        yield (
            "factor",
            f"どの例でも、値が本来の {ratios[0]:.4g} 倍です。論文の式では、差の二乗の和を4D²で割ります。定数を確かめてください。",
        )
    for name, (got, want) in pairs.items():
        if not abs(got - want) <= 1e-4 * want:
            yield (
                "value-mismatch",
                f"{_label(cases[name])}で、{want:.5f} になるはずの値が {got:.5f} になりました。"
                "C_x を N − 1 で、C_y を M − 1 で割っているか、差の要素の二乗をすべて足しているか確かめてください。",
            )


def _label(case: Case) -> str:
    (n, d), m = case["x"].shape, len(case["y"])
    return f"N = {n}、M = {m}、D = {d} の例"


def _gradients(records: Records, cases: dict[str, Case]) -> Finding:
    for name, record in records.items():
        if not record["tracked"] or all(grad is None for grad in record["grads"]):
            yield (
                "gradient-cut",
                "値は正しいのですが、x と y に勾配が流れません。`detach`、`no_grad`、NumPyで計算が切れていないか確かめてください。",
            )
        for argument, grad, want in zip("xy", record["grads"], _reference_gradients(cases[name]), strict=True):
            yield from _gradient(argument, grad, want)


def _gradient(argument: str, found: list[list[float]] | None, want: Tensor) -> Finding:
    if found is None:
        yield (
            "gradient-partial",
            f"{argument} に勾配が流れません。二つのドメインの特徴は同じネットワークから出るので、両方に流します。",
        )
        return
    grad = torch.tensor(found).double()
    if not math.isfinite(float(grad.abs().sum())):
        yield (
            "gradient-not-finite",
            f"x と y が同じ値のとき、{argument} の勾配に NaN か無限大があります。0での平方根の微分は無限大です。"
            "ノルムを求めてから二乗せずに、要素の二乗をそのまま足してください。",
        )
    if float(grad.sum(0).abs().max()) > 1e-4 * float(want.abs().max()) + 1e-9:
        yield (
            "gradient-unbalanced",
            f"値は正しいのですが、{argument} の勾配を行について足しても0になりません。全部の点を同じだけ動かしても共分散は変わらないので、"
            "和は0のはずです。平均が `detach` で切れていないか確かめてください。",
        )
    if not bool(((grad - want).abs() <= 1e-4 * want.abs().max() + 1e-9).all()):
        far = float((grad - want).abs().max())
        yield (
            "gradient-wrong",
            f"値は正しいのですが、{argument} の勾配の要素が、最大 {far:.3g} 違います（正しい勾配の最大は {float(want.abs().max()):.3g}）。"
            "計算の途中が `detach` や `.data` で切れていないか確かめてください。",
        )


def _value(x: Tensor, y: Tensor) -> float:
    return float(_difference(x, y).square().sum()) / (4 * x.shape[1] ** 2)


def _difference(x: Tensor, y: Tensor) -> Tensor:
    return _covariance(x.double()) - _covariance(y.double())


def _covariance(z: Tensor) -> Tensor:
    """成分ごとの和。C_ab = Σ_i (z_ia − z̄_a)(z_ib − z̄_b) / (N − 1)。"""
    columns = [column - column.mean() for column in z.T]
    return torch.stack([torch.stack([(a * b).sum() for b in columns]) for a in columns]) / (len(z) - 1)


def _reference_gradients(case: Case) -> list[Tensor]:
    """手で微分した式。Δ = C_x − C_y とすると、x の勾配は (x − x̄) Δ / (D² (N − 1))、y では符号が逆。"""
    x, y = case["x"], case["y"]
    delta = _difference(x, y) / x.shape[1] ** 2
    return [sign * (z - z.mean(0)) @ delta / (len(z) - 1) for sign, z in ((1, x), (-1, y))]
