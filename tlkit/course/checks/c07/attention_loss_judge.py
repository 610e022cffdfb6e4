"""演習 07-5 の判定。例外、返り値の形、断るべき形、値の性質、値、勾配の順に調べる。

値のあいだの関係は `attention_loss_properties.py` にある。
正しい値と勾配は、tlkit の実装を使わず、標本ごとの計算と、手で微分した式から求める。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.attention_loss_properties import lengths, properties
from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

Case = dict[str, Tensor]
NUMBERS = ("hand", "single", "base", "channels", "dark-one", "float32")  # 値を定義と比べる場合


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    values, cases = data["values"], inputs["cases"]
    return (
        first_raised({"base": values["base"]})
        or _raised(values)
        or first(_form(values))
        or first(_refusals(data["refused"], inputs["refused"]))
        or first(_values({name: record["value"] for name, record in values.items()}, cases))
        or first_raised(data["gradients"], "勾配を求めるとき、")
        or first(_gradients(data["gradients"], inputs["gradients"]))
        or PASSED
    )


def _raised(values: Records) -> Verdict | None:
    """base では動いたのに、ほかの場合で止まったとき。"""
    if failed(values["channels"]):
        error = values["channels"]["error"]
        message = (
            "チャネル数が同じなら動きますが、違うとき止まります。比べる前に、チャネルの次元を二乗和でつぶしてください。"
            "形の検査では、チャネル数を比べません。"
        )
        return wrong("channel-counts", message + raised(error).message, error["index"])
    dark = {name: record for name, record in values.items() if name.startswith("dark")}
    return (
        first_raised(dark, "活性がすべて0の地図で、")
        or first_raised({"float32": values["float32"]}, "float32 の地図で、")
        or first_raised(values)
    )


def _form(records: Records) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        dtype = "float32" if name == "float32" else "float64"
        if record["kind"] != "tensor":
            yield (
                "not-tensor",
                f"返り値が {record['type']} です。0次元の torch.Tensor を返してください。"
                "`.item()` や NumPy への変換を挟むと、勾配が流れません。",
            )
        elif record["shape"]:
            yield (
                "not-scalar",
                f"返り値の形が {tuple(record['shape'])} です。差の二乗を、標本についても位置についても平均してください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} の地図を渡すと、{record['dtype']} が返りました。返り値の dtype は入力にそろえてください。",
            )


def _refusals(records: Records, cases: dict[str, Case]) -> Finding:
    """N、H、W のどれかが違う組を、ValueError で断るか。"""
    for name, record in records.items():
        shapes = " と ".join(str(tuple(cases[name][key].shape)) for key in ("student", "teacher"))
        if not failed(record):
            found = record["value"]
            shown = f"値 {found:.4g}" if isinstance(found, float) else f"形 {tuple(record['shape'])} の値"
            yield (
                "batch-accepted" if name == "batch" else "places-accepted",
                f"形 {shapes} の地図を渡すと、断らずに{shown}を返しました。違う位置（または違う標本）どうしを比べています。"
                "並べた長さだけ、または足し算ができることだけを見ず、N、H、W の三つを比べてください。",
            )
        elif record["error"]["type"] != "ValueError":
            yield (
                "other-exception",
                f"形 {shapes} の地図を渡すと、{record['error']['type']} が起きました。計算が止まるのに任せず、"
                "先に形を比べて ValueError を起こしてください。",
            )


def _values(values: dict[str, float], cases: dict[str, Case]) -> Finding:
    """値の性質と、定義どおりの値との比較。どの例でも比が同じなら、定数の違いである。"""
    yield from properties(values)
    pairs = {name: (values[name], _value(cases[name])) for name in NUMBERS}
    ratios = [got / want for got, want in pairs.values()]
    if max(ratios) - min(ratios) < 1e-4 * max(ratios) and abs(ratios[0] - 1) > 2e-4:
        yield (
            "factor",
            f"どの例でも、値が本来の {ratios[0]:.4g} 倍です。差の二乗を N·H·W 個の要素で平均し、ほかの定数は掛けないでください。",
        )
    yield from lengths(values)
    for name, (got, want) in pairs.items():
        if not abs(got - want) <= 2e-4 * want:
            yield (
                "value-mismatch",
                f"{_label(name, cases[name])}で、{want:.5f} になるはずの値が {got:.5f} になりました。"
                "地図 A、長さ1のQ、差の二乗の平均を、一つずつ表示して確かめてください。",
            )


def _label(name: str, case: Case) -> str:
    if name == "hand":
        return "1標本、1チャネル、1×2画素で、生徒が [1, 2]、教師が [2, 1] の地図（A は [1, 4] と [4, 1]）"
    return f"形 {tuple(case['student'].shape)} と {tuple(case['teacher'].shape)} の地図"


def _gradients(records: Records, cases: dict[str, Case]) -> Finding:
    """教師への勾配、途切れ、有限さ、長さの方向、値の順。"""
    for record in records.values():
        student, teacher = record["grads"]
        if teacher is not None and float(torch.tensor(teacher).abs().max()) != 0:  # NaN も届いたとみなす
            yield (
                "teacher-gradient",
                "教師の地図に勾配が流れます。損失を下げるために、教師モデルのほうが生徒モデルに近づいてしまいます。"
                "教師の地図は detach してください。",
            )
        if not record["tracked"] or student is None:
            yield (
                "gradient-cut",
                "値は正しいのですが、生徒の地図に勾配が流れません。detach するのは教師の地図だけです。",
            )
    for name, record in records.items():
        yield from _gradient(name, torch.tensor(record["grads"][0]).double(), cases[name])


def _gradient(name: str, found: Tensor, case: Case) -> Finding:
    if not math.isfinite(float(found.abs().sum())):
        yield (
            "gradient-not-finite",
            "値は正しいのですが、活性がすべて0の標本の勾配に NaN か無限大があります。0での平方根の微分は無限大です。"
            "平方根を取った後でなく、取る前か、割るときの分母を、小さな正の数で抑えてください（F.normalize は、そうしています）。",
        )
    want = _reference_gradient(case)
    scale = float(want.abs().max())
    along = (found * case["student"]).sum((1, 2, 3))
    if float(along.abs().max()) > 1e-3 * scale:
        yield (
            "norm-detached",
            f"値は正しいのですが、勾配が違います。地図を何倍しても損失は変わらないので、勾配と地図の内積は0のはずですが、"
            f"{float(along.abs().max()):.3g} でした。割る長さ ‖A‖ が detach で切れていないか確かめてください。",
        )
    gap = float((found - want).abs().max())
    if gap > 1e-3 * scale:
        yield (
            "gradient-wrong",
            f"値は正しいのですが、{_label(name, case)}で、生徒の地図の勾配の要素が最大 {gap:.3g} 違います（正しい勾配の最大は {scale:.3g}）。"
            "計算の途中が detach や .data で切れていないか確かめてください。",
        )


def _attention(maps: Tensor) -> tuple[Tensor, Tensor]:
    """標本ごとの Q (N, H·W) と、長さ ‖A‖ (N, 1)。長さが 0 なら Q = 0 とする。"""
    power = (maps.double() ** 2).sum(1).reshape(len(maps), -1)
    length = (power**2).sum(1, keepdim=True) ** 0.5
    return torch.where(length > 0, power / length, torch.zeros_like(power)), length


def _value(case: Case) -> float:
    gap = _attention(case["student"])[0] - _attention(case["teacher"])[0]
    return float((gap**2).sum()) / gap.numel()


def _reference_gradient(case: Case) -> Tensor:
    """手で微分した式。g = 2(Q^S − Q^T)/(N H W) とすると、f(c, p) の勾配は 2 f(c, p)·(g_p − Q_p Σ_k g_k Q_k)/‖A‖。"""
    s = case["student"].double()
    attention, length = _attention(s)
    g = 2 * (attention - _attention(case["teacher"])[0]) / attention.numel()
    back = (g - attention * (g * attention).sum(1, keepdim=True)) / length.clamp_min(1e-300)
    back = torch.where(length > 0, back, torch.zeros_like(back))
    return 2 * s * back.reshape(len(s), 1, *s.shape[2:])
