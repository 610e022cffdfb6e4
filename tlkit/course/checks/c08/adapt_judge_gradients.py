"""演習 08-2 の判定のうち、クエリの損失の勾配。初めの値へのつながり、二階と一次近似、学習率、葉でない初めの値の順に調べる。

ここへ来る答えは、どの場合でも、正しい値を返している。
"""

from typing import Any

import torch

from tlkit.course.checks.c08.adapt_reference import Reference, Vectors
from tlkit.course.checks.c08.adapt_scene import Case
from tlkit.course.checks.findings import Finding

NAMED = ("one", "three")


def gradients(seen: dict[str, Any], cases: dict[str, Case], references: dict[str, Reference]) -> Finding:
    """勾配の性質を順に調べる。"""
    for name, entry in seen.items():
        if entry["failure"] is not None:
            yield (
                "backward-failed",
                f"steps = {cases[name]['steps']}、first_order = {cases[name]['first_order']} で、返り値で測った損失を"
                f"逆伝播できません（{entry['failure']}）。記録したテンソルを、後から書き換えていませんか。",
            )
            return
    yield from _attached(seen)
    exact, approximate = ({n: _grads(seen[f"{n}{end}"]) for n in NAMED} for end in ("", "/first"))
    yield from _orders(exact, approximate, references)
    if not _near(_grads(seen["default"]), references["default"].second):
        yield (
            "default-order",
            "first_order を省くと、正確なメタ勾配になりません。既定値は False です。引数の並びは、問題のとおりにしてください。",
        )
    yield from _learnable(seen, references)
    yield from _rest(seen, cases, references)


def _attached(seen: dict[str, Any]) -> Finding:
    """どの初めの値にも、勾配が届くか。"""
    places = {
        "one": ("not-attached", "返り値が、初めの値とつながっていません"),
        "one/first": (
            "first-order-cut",
            "first_order=True で、返り値が初めの値とつながっていません。切り離すのは内側の勾配だけで、引かれる側の値は切り離しません",
        ),
        "three": ("later-cut", "steps = 1 ではつながりますが、steps = 3 では、返り値が初めの値とつながっていません"),
        "three/first": ("later-cut", "first_order=True、steps = 3 で、返り値が初めの値とつながっていません"),
        "zero": ("zero-cut", "steps = 0 で、返り値が初めの値とつながっていません"),
        "derived": ("derived-cut", "params の値が別の計算の結果（葉でないテンソル）のとき、その元まで勾配が届きません"),
        "derived/first": (
            "derived-cut",
            "first_order=True で、params の値が別の計算の結果（葉でないテンソル）のとき、その元まで勾配が届きません",
        ),
    }
    for case, (code, message) in places.items():
        lost = [name for name, grad in seen[case]["grads"].items() if grad is None]
        if lost:
            yield (
                code,
                f"{message}（クエリの損失の、{'、'.join(lost)} での勾配がありません）。"
                "`detach()`、`clone().detach()`、`.data`、`deepcopy`、`nn.Parameter`、`torch.no_grad()` を挟んでいませんか。",
            )


def _orders(exact: dict[str, Vectors], approximate: dict[str, Vectors], references: dict[str, Reference]) -> Finding:
    """二階と一次近似。"""
    right_second, right_first = (
        {n: _near(table[n], getattr(references[n], order)) for n in NAMED}
        for table, order in ((exact, "second"), (approximate, "first"))
    )
    same = _near(exact["one"], approximate["one"])
    if same and right_first["one"]:
        yield (
            "second-order-missing",
            "first_order=False でも、勾配が一次近似と同じです。内側の勾配が、ただの数になっています。create_graph を確かめてください。",
        )
    if same and right_second["one"]:
        yield (
            "first-order-ignored",
            "first_order=True でも、二階の項が残っています。内側の勾配を、計算グラフから切り離してください。",
        )
    if _near(exact["one"], references["one"].first) and _near(approximate["one"], references["one"].second):
        yield "orders-swapped", "first_order の働きが逆です。True のとき、二階の項を捨ててください。"
    if right_second["one"] and not right_second["three"]:
        yield (
            "second-order-later",
            "steps = 1 の勾配は正しいのですが、steps = 3 では違います。途中の回の値や勾配を、切り離していませんか。"
            "どの回も、二階の項が要ります。",
        )
    if not right_second["one"]:
        yield (
            "second-order-wrong",
            f"steps = 1、first_order=False で、{_worst(exact['one'], references['one'].second)}。"
            "値は正しいので、引き算の一部を切り離していないか確かめてください。",
        )
    for name, steps in (("one", 1), ("three", 3)):
        if not right_first[name]:
            yield (
                "first-order-wrong",
                f"steps = {steps}、first_order=True で、{_worst(approximate[name], references[name].first)}。"
                "一次近似の勾配は、適応した値での、クエリの損失の勾配そのものです。",
            )


def _learnable(seen: dict[str, Any], references: dict[str, Reference]) -> Finding:
    for name, when in (("learnable", ""), ("learnable/first", "first_order=True で、")):
        if seen[name]["grads"]["lr"] is None:
            yield (
                "lr-cut",
                f"{when}lr に、学習する0次元のテンソルを渡しても、勾配が届きません。float() や item() で数に直さず、"
                "勾配だけを切り離してください。",
            )
        want = getattr(references[name], "first" if when else "second")
        if not _near(_grads(seen[name]), want):
            yield "lr-gradient", f"{when}lr が学習する0次元のテンソルのとき、{_worst(_grads(seen[name]), want)}。"


def _rest(seen: dict[str, Any], cases: dict[str, Case], references: dict[str, Reference]) -> Finding:
    for name, entry in seen.items():
        want = getattr(references[name], "first" if cases[name]["first_order"] else "second")
        if not _near(_grads(entry), want, 1e-4 if name == "float32" else 1e-8):
            case = cases[name]
            derived = "、葉でない params" if case["derived"] else ""
            yield (
                "gradient-mismatch",
                f"lr = {case['lr']}、steps = {case['steps']}、first_order = {case['first_order']}{derived} の例で、"
                f"{_worst(_grads(entry), want)}。",
            )


def _grads(entry: Any) -> Vectors:
    return {name: torch.tensor(grad, dtype=torch.float64) for name, grad in entry["grads"].items() if grad is not None}


def _near(found: Vectors, want: Vectors, tolerance: float = 1e-8) -> bool:
    return set(found) == set(want) and all(
        bool(((found[name] - want[name]).abs() <= tolerance * (1 + want[name].abs())).all()) for name in want
    )


def _worst(found: Vectors, want: Vectors) -> str:
    gaps = {name: float((found[name] - want[name]).abs().max()) for name in want if name in found}
    name = max(gaps, key=lambda key: gaps[key])
    return f"{name} の勾配が最大 {gaps[name]:.3g} 違います（正しい勾配の最大は {float(want[name].abs().max()):.3g}）"
