"""演習 03-1 の判定が使う性質のうち、ほかの計算との組み合わせと、2 階の微分。

全体の流れは `gradient_reversal_judge.py`、答えの呼び方は `gradient_reversal_probe.py` にある。
"""

from collections.abc import Iterable
from typing import Any

from tlkit.course.checks.findings import Finding, Records, close


def flat(value: Any) -> list[float]:
    """入れ子の list を 1 列に並べる。"""
    return [number for item in value for number in flat(item)] if isinstance(value, list) else [float(value)]


def near(values: Any, wants: Iterable[float], tolerance: float = 1e-9) -> bool:
    """入れ子の list の値が、どれも wants に近いか。"""
    return all(close(got, want, tolerance) for got, want in zip(flat(values), wants, strict=True))


def composed(records: Records, case: dict[str, Any]) -> Finding:
    """ほかの枝、ほかの葉、ほかの呼び出しに影響しないか。"""
    w, more = (flat(case[name].tolist()) for name in ("weight", "more"))
    a, b = case["lambda_"], case["other"]
    grads = {name: record["value"]["grads"] for name, record in records.items() if name != "second"}
    if not _arrived(grads["branch"], [m - a * v for m, v in zip(more, w, strict=True)]):
        yield (
            "other-branch",
            "x が反転層を通らない枝にも使われるとき、その枝の勾配まで変わりました。反転するのは、反転層を通った勾配だけです。"
            "x そのものにフックを付けていませんか。",
        )
    if not _arrived(grads["sibling"][1:], w):
        yield (
            "grad-overwritten",
            "下流から来た勾配のテンソルを、その場で書き換えています。同じテンソルが、ほかの計算にも渡されています。"
            "`mul_` や `*=` を使わず、新しいテンソルを返してください。",
        )
    if not _arrived(grads["pair"], [-a * v for v in w] + [-b * v for v in w]):
        yield (
            "shared-lambda",
            "違う λ で2回呼んでから逆伝播すると、勾配の係数が違いました。λ は、呼び出しごとに（ctx などに）分けて覚えてください。",
        )
    if not _arrived(grads["nested"], [a * b * v for v in w]):
        yield "nested", "反転層を二つ重ねると、勾配は λ の積（符号は正）の倍率になるはずですが、違いました。"


def _arrived(grads: list[Any], wants: list[float]) -> bool:
    return None not in grads and near(grads, wants)


def second(record: dict[str, Any], case: dict[str, Any]) -> Finding:
    """L = Σ w·x³ では、1 階が −λ·3w·x²、重み v を掛けてもう一度微分すると λ²·6w·x·v。"""
    x, w, v = (flat(case[name].tolist()) for name in ("x", "weight", "more"))
    wants = [6 * case["lambda_"] ** 2 * a * b * c for a, b, c in zip(x, w, v, strict=True)]
    error = record.get("error") or record["value"].get("backward_error")
    if error or not _arrived(record["value"]["grads"], wants):
        shown = f"（{error['type']}: {error['message'][:120]}）" if error else ""
        yield (
            "second-order",
            f"勾配を create_graph=True で求めて、もう一度微分すると、正しい値になりません{shown}。"
            "backward の中も、detach や .data を挟まず、ふつうのテンソルの計算で書いてください。",
        )
