"""演習 03-8 の判定。密度比が持つ性質と、実効標本数が持つ性質を、順に確かめる。

場合の作り方は `importance.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.findings import Finding, Records, close, first, first_raised, not_a_number
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

NEAR = 1e-6
Weights = dict[str, list[float]]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    ratios, sizes = data["ratios"], data["sizes"]
    if verdict := first_raised(ratios) or first(_form(ratios, inputs["ratios"])):
        return verdict
    weights = {name: record["value"] for name, record in ratios.items()}
    return (
        first(_ratio(weights, inputs["ratios"]))
        or first(_refusals(data["refused"], inputs["refused"]))
        or first_raised(sizes, "effective_sample_size で、")
        or first(not_a_number(sizes, "実効標本数"))
        or first(_sizes({name: float(record["value"]) for name, record in sizes.items()}, inputs["sizes"]))
        or PASSED
    )


def _form(ratios: Records, cases: dict[str, Any]) -> Finding:
    for name, record in ratios.items():
        want = len(cases[name]["probability"])
        if record["kind"] not in ("array", "tensor"):
            yield "not-array", f"返り値が {record['type']} です。行ごとの重みを、NumPy配列で返してください。"
        elif record["shape"] != [want]:
            shape = tuple(record["shape"])
            yield "shape", f"返り値の形が {shape} です。ソースの行ごとに1個なので、形は ({want},) です。"


def _ratio(v: Weights, cases: dict[str, Any]) -> Finding:
    if not all(math.isfinite(weight) for weights in v.values() for weight in weights):
        yield "not-finite", "重みに NaN か無限大があります。0での割り算がないか確かめてください。"
    yield from _table(v["table"])
    yield from _counts(v)
    yield from _alone(v)
    yield from _extreme(v["extreme"])
    for name, weights in v.items():
        case = cases[name]
        for weight, p in zip(weights, case["probability"].tolist(), strict=True):
            want = case["n_source"] / case["n_target"] * p / (1 - p)
            if not close(weight, want, NEAR):
                yield (
                    "value-mismatch",
                    f"P(T|x) = {p:.4g}、ソース{case['n_source']}件、ターゲット{case['n_target']}件のとき、"
                    f"重みが {want:.4g} でなく {weight:.4g} です。",
                )


def _table(weights: list[float]) -> Finding:
    """p_S = (0.8, 0.2)、p_T = (0.4, 0.6)。正しい重みは (0.5, 3)。"""
    rare, dense = weights
    shown = f"p_S = (0.8, 0.2)、p_T = (0.4, 0.6) の二点で、重みが ({rare:.3g}, {dense:.3g}) になりました。"
    if rare >= dense:
        yield (
            "inverse",
            shown
            + "重みは、ターゲットに多い二つめの点のほうが大きいはずです。w = p_T / p_S の向きを確かめてください。",
        )
    if dense <= 1 + NEAR:
        yield (
            "not-a-ratio",
            shown
            + "二つめの点は、ターゲットではソースの3倍多いので、重みは3です。確率 P(T|x) そのものは1を超えません。"
            "P(S|x) で割って、比にしてください。",
        )
    if not close(rare, 0.5, NEAR) or not close(dense, 3, NEAR):
        yield "odds", shown + "正しくは (0.5, 3) です。件数が同じなら、w = P(T|x) / (1 − P(T|x)) です。"


def _counts(v: Weights) -> Finding:
    """分布が同じなら、件数によらず重みは 1。"""
    more, fewer = v["same"][0], v["same-many-target"][0]
    if not close(more, 1, NEAR) or not close(fewer, 1, NEAR):
        shown = (
            "分布は同じで、件数だけが違う例です。重みは、どちらも1のはずですが、"
            f"ソース300件とターゲット100件で {more:.3g}、100件と300件で {fewer:.3g} でした。"
        )
        if close(more, 1 / 3, NEAR) and close(fewer, 3, NEAR):
            yield "counts-ignored", shown + "P(T|x) は、件数の多いドメインに偏ります。n_S / n_T を掛けてください。"
        if more < 1 / 3 and fewer > 3:
            yield "counts-turned", shown + "件数の補正で、1から遠ざかりました。n_S と n_T の向きを確かめてください。"
        yield "counts", shown + "件数の補正を確かめてください。"


def _alone(v: Weights) -> Finding:
    if any(not close(a, b, NEAR) for a, b in zip(v["part"], v["many"], strict=False)):
        yield (
            "depends-on-others",
            "同じ識別器の確率から15行だけを渡すと、その行の重みが変わりました。密度比は、その点だけで決まります。"
            "平均や和が1になるようにそろえずに、そのまま返してください（そろえるかどうかは、使う側が決めます）。",
        )


def _extreme(weights: list[float]) -> Finding:
    _, large, zero, tiny = weights
    if large < 999 * (1 - NEAR):
        yield (
            "large-clipped",
            f"P(T|x) = 0.999の点で、重みが999でなく {large:.4g} です。切らずに返してください。"
            "大きな重みを隠すと、重なりが足りないことに気づけません。",
        )
    if zero > NEAR or tiny > 2e-6:
        yield (
            "small-clipped",
            f"P(T|x) が0と1e-6の点で、重みが {zero:.3g} と {tiny:.3g} です。ターゲットにほとんどない点の重みは、0の近くです。"
            "小さな数を足したり、下限を設けたりしないでください。",
        )


_REFUSED = {
    "one": "1がある（密度比が無限大になる）",
    "above-one": "1より大きい値がある",
    "negative": "負の値がある",
    "nan": "NaNがある",
}


def _refusals(records: Records, cases: dict[str, Any]) -> Finding:
    for name, why in _REFUSED.items():
        record = records[name]
        if not failed(record):
            yield (
                f"accepts-{name}",
                f"確率 {cases[name].tolist()} には{why}のに、ValueErrorになりませんでした。"
                "黙って重みを返すと、後の計算が狂います。0以上1未満でない値が一つでもあれば、raise ValueError(…) としてください。",
            )
        elif record["error"]["type"] != "ValueError":
            yield (
                "other-error",
                f"確率に{why}とき、ValueErrorでなく {record['error']['type']} になりました。raise ValueError(…) としてください。",
            )


def _sizes(v: dict[str, float], cases: dict[str, Any]) -> Finding:
    """実効標本数。等しい重みなら N、一件だけなら 1、定数倍と 0 の行で変わらない。"""
    if not close(v["equal"], 10, NEAR):
        yield (
            "size-equal",
            f"10件の重みがすべて1のとき、実効標本数が10でなく {v['equal']:.4g} です。(Σw)² / Σw² を確かめてください。",
        )
    if not close(v["equal-small"], 10, NEAR) or not close(v["random-scaled"], v["random"], NEAR):
        yield (
            "size-scale",
            f"重みをすべて定数倍すると、実効標本数が変わりました（10件の重みがすべて0.1のとき {v['equal-small']:.4g}）。"
            "分子は和の2乗、分母は2乗の和です。",
        )
    if not close(v["random-padded"], v["random"], NEAR):
        yield (
            "size-zero-rows",
            f"重みが0の行を20行加えると、実効標本数が {v['random']:.4g} から {v['random-padded']:.4g} に変わりました。"
            "重みが0の行は、何の働きもしません。",
        )
    if not close(v["single"], 1, NEAR):
        yield "size-single", f"一件だけが0でないとき、実効標本数が1でなく {v['single']:.4g} です。"
    for name, value in v.items():
        w = cases[name]
        want = float(w.sum() ** 2 / (w**2).sum())
        if not close(value, want, NEAR):
            shown = w.tolist() if len(w) <= 4 else f"{len(w)}件"
            yield (
                "size-mismatch",
                f"重み {shown} の実効標本数が {want:.4g} でなく {value:.4g} です（Σw = {w.sum():.4g}、Σw² = {(w**2).sum():.4g}）。",
            )
