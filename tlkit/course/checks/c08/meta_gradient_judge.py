"""演習 08-1 の判定。手計算、返り値の形、自動微分の使用、一つの課題での性質、課題の平均、特別な学習率の順に調べる。

場合の作り方は `meta_gradient.py`、一つの課題での性質は `meta_gradient_slopes.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.c08.meta_gradient_slopes import Case, Slopes, slope_findings
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

HAND = {"c": 2.0, "a": 1.0, "b": 0.0, "theta": 5.0, "lr": 0.25}  # 手計算の例。2 回更新する
Values = dict[str, float]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    records, cases = data["values"], inputs["cases"]
    if verdict := first(_by_hand(data["by_hand"])) or first_raised(records) or first(_form(records, cases)):
        return verdict
    values = {name: float(record["value"]) for name, record in records.items()}
    return (
        first(_graph(data["graph"]))
        or first(_finite({name: value for name, value in values.items() if name.count("/") == 3}))
        or first(slope_findings(Slopes(values), cases))
        or first(_tasks(values))
        or first(_special(values, cases))
        or first(_all_values(values, cases))
        or PASSED
    )


def expected(case: Case) -> float:
    """内側の更新を 1 回ずつ進めて求めた、正しい値。"""
    total = 0.0
    tasks = zip(*(case[key].double().tolist() for key in ("curvature", "support", "query")), strict=True)
    for c, a, b in tasks:
        theta, slope = float(case["theta"]), 1.0
        for _ in range(case["steps"]):
            theta -= case["lr"] * c * (theta - a)
            slope *= 1 - case["lr"] * c
        total += c * (theta - b) * (1.0 if case["first_order"] else slope)
    return total / len(case["curvature"])


def _by_hand(numbers: list[float] | None) -> Finding:
    """手計算の三つの数: θ′、一次近似、正確なメタ勾配。"""
    if numbers is None or len(numbers) != 3:
        yield "hand-form", "by_hand には、θ′、一次近似、正確なメタ勾配の三つの数を、この順のリストで書いてください。"
        return
    adapted, first_order, second_order = numbers
    c, a, b, theta, lr = HAND.values()
    shrink = 1 - c * lr
    if not _near(adapted, a + shrink**2 * (theta - a)):
        yield (
            "hand-adapted",
            f"by_hand の1番目の θ′ = {adapted:.4g} が違います。1回ごとに、その時の θ で勾配 c(θ − a) を求め直し、η を掛けて引いてください。",
        )
    if not _near(first_order, c * (adapted - b)):
        yield (
            "hand-first",
            f"by_hand の2番目の一次近似 {first_order:.4g} が違います。クエリの損失の微分 c(θ − b) の、θ′ = {adapted:.4g} での値です。",
        )
    if not _near(second_order, shrink**2 * first_order):
        yield (
            "hand-second",
            f"by_hand の3番目のメタ勾配 {second_order:.4g} が違います。連鎖律の dθ′/dθ を、一次近似に掛けます。"
            "1回の更新の微分は 1 − cη で、2回の更新では、その積です。",
        )


def _form(records: Records, cases: dict[str, Case]) -> Finding:
    """返り値の種類、形、dtype。"""
    for name, record in records.items():
        dtype = str(cases[name]["curvature"].dtype).removeprefix("torch.")
        if record["kind"] != "tensor":
            yield "not-tensor", f"返り値が {record['type']} です。0次元の torch.Tensor を返してください。"
        elif record["shape"]:
            yield (
                "not-averaged-shape",
                f"返り値の形が {tuple(record['shape'])} です。課題ごとのメタ勾配を平均して、0次元のテンソルにしてください。",
            )
        elif record["dtype"] != dtype:
            yield (
                "dtype-changed",
                f"{dtype} の課題を渡すと、{record['dtype']} が返りました。返り値の dtype は curvature にそろえてください。",
            )


def _graph(drawn: bool) -> Finding:
    if drawn:
        yield (
            "autograd",
            "自動微分（requires_grad、backward、autograd.grad、torch.func など）が使われています。この演習では、"
            "手で導いた式を計算してください。",
        )


def _finite(values: Values) -> Finding:
    if not all(math.isfinite(value) for value in values.values()):
        yield (
            "not-finite",
            "ふつうの大きさの課題で、値が NaN か無限大です。0での割り算や、負の数の対数がないか確かめてください。",
        )


def _tasks(values: Values) -> Finding:
    """課題についての平均。"""
    for end in ("", "/first"):
        together, twice = values[f"four{end}"], values[f"four-twice{end}"]
        alone = [values[f"alone-{i}{end}"] for i in range(4)]
        if not close(together, twice, 1e-6):
            yield (
                "not-averaged",
                f"同じ四つの課題を2回ずつ並べると、値が {twice / together:.4g} 倍になりました。課題の平均なら、変わりません。",
            )
        if not close(together, sum(alone) / 4, 1e-6):
            yield (
                "tasks-mixed",
                f"四つの課題を一緒に渡した値 {together:.6g} が、一つずつ渡した値の平均 {sum(alone) / 4:.6g} と違います。"
                "課題ごとに適応させ、課題ごとのメタ勾配を求めてから、最後に平均してください。",
            )


def _special(values: Values, cases: dict[str, Case]) -> Finding:
    """1 − cη が 0 や負のとき。一次近似からは θ′ の縮み方が、正確な値との比からは dθ′/dθ が読める。"""
    for name in ("zero", "negative", "diverging"):
        case, first_order, second_order = cases[name], values[f"{name}/first"], values[name]
        c, a, b = (float(case[key][0]) for key in ("curvature", "support", "query"))
        rate, theta = c * case["lr"], case["theta"]
        seen, want = f"cη = {rate:.4g}、steps = {case['steps']} で、", (1 - rate) ** case["steps"]
        if math.isnan(first_order) or math.isnan(second_order):
            yield (
                "nan",
                f"{seen}値が NaN です。1 − cη は、0にも負にもなります。対数や平方根、0での割り算を使わずに書いてください。",
            )
        for what, found in (
            ("θ′ の、a からの隔たり", ((first_order / c + b) - a) / (theta - a)),
            ("dθ′/dθ", second_order / (first_order or math.nan)),
        ):
            if close(found, -want, 1e-6) and abs(want) > 1e-6:
                yield (
                    "sign-lost",
                    f"{seen}{what}の符号が逆です。1 − cη が負で、奇数回なら、積も負です。絶対値を取っていませんか。",
                )
            if abs(found) < abs(want) - 1e-6:
                yield (
                    "clipped",
                    f"{seen}{what}が、更新の前の {found:.4g} 倍になりました（{want:.4g} 倍のはずです）。"
                    "1 − cη が負や −1 より小さい数になっても、途中で切り詰めずに、そのまま掛けてください。",
                )


def _all_values(values: Values, cases: dict[str, Case]) -> Finding:
    for name, case in cases.items():
        want, gap = expected(case), abs(values[name] - expected(case))
        double = not name.startswith("float32")
        if not gap <= (1e-5 if double else 1e-4) * max(1.0, abs(want)):
            yield (
                "value-mismatch",
                f"課題が {len(case['curvature'])} 個、η = {case['lr']:.4g}、steps = {case['steps']}、"
                f"first_order = {case['first_order']} で、値が {gap:.3g} 違います。",
            )
        if double and not gap <= 1e-12 * max(1.0, abs(want)):
            yield (
                "rounded",
                f"値は近いのですが、float64の計算にしては誤差が大きすぎます（{gap:.1e}）。途中で float32 にしたり、"
                "数値微分で代えたりせず、導いた式を計算してください。",
            )


def _near(a: float, b: float) -> bool:
    return abs(a - b) < 5e-3
