"""演習 03-9 の判定。破れた性質から診断を選ぶ。

形、件数によらないこと、混同の使い方、変化がないとき、重みの向きと合計、の順に調べる。
入力の作り方は `label_shift.py` にある。
"""

import math
from typing import Any

import numpy as np

from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

NEAR = 1e-4
EARLY = ("three", "large-target", "large-source", "base", "turned", "dull", "one-way", "no-shift")  # 初めに使う場合
Weights = dict[str, Any]
Cases = dict[str, dict[str, Any]]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    cases = inputs["cases"]
    usual = {name: record for name, record in data.items() if name != "last-unseen"}
    if (
        verdict := first(_singular(data))
        or first_raised(usual)
        or first(_form(usual, cases))
        or first(_last_unseen(data, cases))
    ):
        return verdict
    weights = {name: np.array(record["value"], dtype=float) for name, record in data.items()}
    return first(_properties(weights, cases)) or PASSED


def equations(case: dict[str, Any]) -> tuple[Any, Any]:
    """混同の割合 Ĉ (C, C) と、ターゲットの予測の割合 μ̂ (C,)。"""
    classes = case["classes"]
    joint = np.zeros((classes, classes))
    np.add.at(joint, (case["source_predictions"], case["source_labels"]), 1)
    shares = np.bincount(case["target_predictions"], minlength=classes)
    return joint / joint.sum(), shares / shares.sum()


def _singular(data: Records) -> Finding:
    for record in data.values():
        if failed(record) and "singular" in record["error"].get("message", "").lower():
            yield (
                "singular",
                "連立一次方程式が解けませんでした（行列が特異です）。渡される標本では、正しく作った Ĉ に必ず逆行列があります。"
                "Ĉ に、すべての行（予測）と列（ラベル）の割合が入っているか、途中の Ĉ を表示して確かめてください。",
            )


def _form(records: Records, cases: Cases) -> Finding:
    for name, record in records.items():
        classes, value = cases[name]["classes"], record["value"]
        listed = value if isinstance(value, list) else []
        if len(listed) != classes or any(type(item) not in (int, float) for item in listed):
            shape = f"形 {tuple(record['shape'])} の" if record["kind"] in ("tensor", "array") else ""
            yield (
                "form",
                f"classes = {classes} のとき、返り値が{shape} {record['type']} でした。"
                f"クラスごとの重みを、長さ {classes} の1列（テンソル、配列、list のどれか）で返してください。",
            )


def _last_unseen(data: Records, cases: Cases) -> Finding:
    """ターゲットで一度も予測されないクラスが、最後にある場合。"""
    record = data["last-unseen"]
    if failed(record) or any(_form({"last-unseen": record}, cases)):
        happened = f"例外が起きました（{record['error']['type']}）" if failed(record) else "返り値の長さが変わりました"
        yield (
            "classes-from-data",
            f"クラスが3個（classes = 3）で、ターゲットの予測に最後のクラスが一つもないとき、{happened}。"
            "クラスの数を予測から数えずに、渡された classes を使ってください。",
        )


def _properties(w: Weights, cases: Cases) -> Finding:
    yield from _finite({name: w[name] for name in EARLY})
    yield from _scale(w)
    yield from _confusion(w, cases)
    yield from _no_shift(w["no-shift"])
    yield from _direction(w["perfect"])
    yield from _finite(w)
    yield from _clipped(w, cases)
    yield from _total(w, cases)
    yield from _absent(w["absent"], cases["absent"])
    yield from _all_values(w, cases)


def _finite(w: Weights) -> Finding:
    if any(not np.isfinite(value).all() for value in w.values()):
        yield "not-finite", "重みに NaN か無限大があります。0での割り算がないか確かめてください。"


def _scale(w: Weights) -> Finding:
    for name, side in (("large-target", "ターゲットの予測を、割合を保って3倍"), ("large-source", "ソースの標本を2倍")):
        if not _same(w[name], w["three"]):
            yield (
                "counts-not-shares",
                f"{side}に増やすと、重みが {_listed(w['three'])} から {_listed(w[name])} に変わりました。"
                "割合は同じなので、重みも同じはずです。件数を、それぞれの標本の数で割ってください。",
            )


def _confusion(w: Weights, cases: Cases) -> Finding:
    """base、turned、dull は、ラベルの割合も予測の割合も同じで、混同だけが違う。"""
    if _same(w["base"], w["turned"]) and _same(w["base"], w["dull"]):
        yield (
            "confusion-ignored",
            "分類器の間違え方を変えても、重みが変わりません。予測の割合がずれる原因には、クラスの割合の変化だけでなく、"
            "分類器の誤りもあります。どの予測にどのラベルが混ざるか（Ĉ）を使って、誤りの分を除いてください。",
        )
    if _same(w["base"], w["turned"]):
        yield (
            "diagonal-only",
            "当たる割合は同じで、誤りの行き先だけが違う分類器なのに、重みが変わりません。"
            "Ĉ の対角（当たった割合）だけでなく、全部の要素を使ってください。",
        )
    joint, shares = equations(cases["one-way"])
    right = shares[1] / joint[1, 1]
    if close(w["one-way"][0], shares[0] / joint[0, 0], NEAR) and not close(w["one-way"][1], right, NEAR):
        yield (
            "rows-and-columns",
            f"「予測が1なら、ラベルは必ず1」の分類器では、w_1 = μ̂_1/Ĉ_11 = {right:.3f} と決まります。"
            f"ところが、w_1 は {w['one-way'][1]:.3f} でした。逆に w_0 が、予測0の割合だけで決まっています。予測0には、ラベル1も混ざっています。"
            "Ĉ の行が予測、列がラベルになっているか確かめてください。",
        )


def _no_shift(w: Any) -> Finding:
    """ソースとターゲットで、予測の件数が同じ。重みはどれも 1 になる。"""
    if _same(w, np.ones_like(w)):
        return
    told = f"ターゲットの予測の割合がソースと同じ（変化がない）とき、重みはどれも1のはずです。ところが、{_listed(w)} でした。"
    if close(w.sum(), 1, NEAR):
        yield (
            "not-ratio",
            told + "合計が1なので、比ではなく割合（確率）になっています。"
            "求めるのは比 p_T(y)/p_S(y) です。Ĉ を列ごとに割って条件つき確率にすると、解は p_T(y) になります。",
        )
    if close(w.sum(), len(w), NEAR):
        yield (
            "source-prior-ignored",
            told + "合計がクラスの数なので、ソースの割合を一様とみなした比になっています。"
            "ソースのラベルの割合は、一様とは限りません。",
        )
    yield "no-shift", told + "Ĉ は、条件つき確率ではなく同時の割合です。全体の件数 N だけで割ってください。"


def _direction(w: Any) -> Finding:
    """誤りのない分類器。件数を (10, 20, 30) から (30, 20, 60) に変えたので、正しい比は (18/11, 6/11, 12/11)。"""
    right = np.array([18, 6, 12]) / 11
    if np.sign(w - 1).tolist() == (-np.sign(right - 1)).tolist():
        yield (
            "upside-down",
            f"誤りのない分類器で、クラスの割合が {_listed(right)} 倍になったのに、重みは {_listed(w)} でした。"
            "増えたクラスの重みが1より小さくなっています。比の分子はターゲット、分母はソースです。",
        )


def _clipped(w: Weights, cases: Cases) -> Finding:
    """解の正の部分は合っているのに、負の部分だけが負でない。"""
    right, found = np.linalg.solve(*equations(cases["negative"])), w["negative"]
    if _same(found[right > 0], right[right > 0]) and (found > -1e-9).all():
        yield (
            "clipped",
            f"連立方程式の解は {_listed(right)} ですが、返ったのは {_listed(found)} でした。"
            "標本の揺れなどで、解が負になることもあります。ここでは、0に切り上げたり絶対値にしたりせず、解をそのまま返してください。",
        )


def _total(w: Weights, cases: Cases) -> Finding:
    """Σ_j p_S(j) w_j = 1。Ĉ の列の合計が p_S、μ̂ の合計が 1 だから、必ず成り立つ。"""
    for name, value in w.items():
        total = float(equations(cases[name])[0].sum(axis=0) @ value)
        if not close(total, 1, NEAR):
            yield (
                "total",
                f"ソースのラベルの割合で重みを平均すると、Σ p_S(y)·w(y) = Σ p_T(y) = 1 になるはずです。ところが、{total:.4f} でした。"
                f"（{_told(cases[name])}、返り値は {_listed(value)}）",
            )


def _absent(w: Any, case: dict[str, Any]) -> Finding:
    right = np.linalg.solve(*equations(case)).round(9) + 0.0  # 丸めの誤差と −0 を除く
    if w[right == 0].min() > 0.02:
        yield (
            "absent-class",
            f"ターゲットに一つも現れないクラスがあり、正しい重みは {_listed(right)} ですが、返ったのは {_listed(w)} でした。"
            "現れないクラスの重みが0になりません。「予測が i のとき、ラベルが j の確率」は、クラスの割合が変わると変わります。"
            "変わらないのは「ラベルが j のとき、予測が i の確率」です。",
        )


def _all_values(w: Weights, cases: Cases) -> Finding:
    for name, value in w.items():
        right = np.linalg.solve(*equations(cases[name]))
        if not _same(value, right):
            yield (
                "value-mismatch",
                f"{_told(cases[name])}のとき、重みは {_listed(right)} ですが、返ったのは {_listed(value)} でした。",
            )


def _same(a: Any, b: Any) -> bool:
    return all(math.isfinite(x) and close(x, y, NEAR) for x, y in zip(a.tolist(), b.tolist(), strict=True))


def _told(case: dict[str, Any]) -> str:
    joint, shares = equations(case)
    rows = "、".join(_listed(row) for row in joint)
    return f"Ĉ の行が {rows}、μ̂ が {_listed(shares)}"


def _listed(values: Any) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"
