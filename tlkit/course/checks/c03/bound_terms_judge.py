"""演習 03-7 の判定。場合ごとに、手で分かる性質を確かめる。

返り値の形、評価用の扱い、ソースの誤り率、プロキシ A 距離、λ*、上界、件数の違いの順に調べる。
場合の作り方は `bound_terms.py`、学習器は `bound_terms_learner.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

KEYS = ("source_error", "divergence", "joint_error", "bound")
NEAR = 1e-6
Terms = dict[str, dict[str, float]]

# 場合 → （ε_S、プロキシ A 距離、λ*）。上界は ε_S + 距離/2 + λ*
WANT = {
    "apart": (0.0, 2.0, 0.0),
    "hand": (0.0, 1.6, 0.0),
    "swapped": (0.0, 0.0, 1.0),
    "noisy": (0.1, 2.0, 0.4),
    "crossed": (0.0, 1.0, 0.0),
    "worse": (0.0, -0.8, 0.0),
    "uneven": (0.0, 0.6, 0.1),
}


def judge(data: Any, _inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    results, fits = data["results"], data["fits"]
    even = {name: record for name, record in results.items() if name != "uneven"}
    if verdict := first_raised(even) or first_raised(results, "ソースとターゲットの件数が違うとき、"):
        return verdict
    if verdict := first(_form(results)) or first(_fits(fits)):
        return verdict
    terms = {name: {key: float(record["value"][key]) for key in KEYS} for name, record in results.items()}
    return first(_properties(terms, fits)) or PASSED


def _form(results: Records) -> Finding:
    for record in results.values():
        value = record["value"]
        if not isinstance(value, dict):
            yield "not-dict", f"返り値が {record['type']} です。{'、'.join(KEYS)} を名前とするdictを返してください。"
            return
        if missing := [key for key in KEYS if key not in value]:
            yield "missing-key", f"返り値のdictに {'、'.join(missing)} がありません。四つの名前をすべて入れてください。"
        for key in KEYS:
            if type(value.get(key)) not in (int, float):
                yield (
                    "not-number",
                    f"{key} が一つの数ではありません。ドメインごとの値や、行ごとの値を返していませんか。",
                )
            elif not math.isfinite(value[key]):
                yield "not-finite", f"{key} が {value[key]} になりました。0での割り算がないか確かめてください。"


def _fits(fits: dict[str, list[dict[str, float]]]) -> Finding:
    if any(fit["test_rows"] for calls in fits.values() for fit in calls):
        yield (
            "test-in-fit",
            "評価用の標本が、fitに渡されました。学習に使った標本で測ると、どの項も小さすぎたり大きすぎたりします。"
            "学習用だけで学習し、評価用は誤り率を測るためだけに使ってください。",
        )
    if not all(fits.values()):
        yield "fit-unused", "渡されたfitが一度も呼ばれませんでした。分類器は、渡されたfitで学習してください。"


def _properties(v: Terms, fits: dict[str, list[dict[str, float]]]) -> Finding:
    yield from _source_error(v)
    yield from _divergence(v)
    yield from _joint_error(v)
    yield from _bound(v)
    yield from _uneven(v["uneven"], fits["uneven"])
    for name, (source, distance, joint) in WANT.items():
        for key, want in zip(KEYS, (source, distance, joint, source + distance / 2 + joint), strict=True):
            if not close(v[name][key], want, NEAR):
                yield "value-mismatch", f"場合「{name}」で、{key} が {want:.3g} でなく {v[name][key]:.4g} です。"


def _source_error(v: Terms) -> Finding:
    if not close(v["swapped"]["source_error"], 0, NEAR):
        yield (
            "source-error-not-source-only",
            "ソースのラベルは区画で完全に決まり、ターゲットだけラベルが逆の例で、source_errorが0でなく "
            f"{v['swapped']['source_error']:.3g} です。source_errorの分類器は、ソースの学習用だけで学習し、ソースで測ります。",
        )
    if v["noisy"]["source_error"] < 0.1 - NEAR:
        yield (
            "source-error-on-training",
            "ソースの評価用だけ、ラベルの1割が違う例で、source_errorが0.1でなく "
            f"{v['noisy']['source_error']:.3g} です。学習用ではなく、評価用で誤り率を測ってください。",
        )
    if not close(v["noisy"]["source_error"], 0.1, NEAR):
        yield (
            "source-error-value",
            f"ソースの評価用の1割だけを誤る例で、source_errorが0.1でなく {v['noisy']['source_error']:.3g} です。"
            "誤った行の割合を、ソースの評価用だけで求めてください。",
        )


def _divergence(v: Terms) -> Finding:
    apart, hand, crossed, worse = (v[name]["divergence"] for name in ("apart", "hand", "crossed", "worse"))
    if close(apart, -2, NEAR):
        yield (
            "sign",
            "完全に見分けられる二つのドメインで、divergenceが2でなく−2です。ε は、正解率ではなく誤り率です。",
        )
    if not close(apart, 2, NEAR):
        yield (
            "apart-not-two",
            f"完全に見分けられる二つのドメイン（ε = 0）で、divergenceが2でなく {apart:.3g} です。式は2(1 − 2ε) です。",
        )
    if not close(hand, 1.6, NEAR):
        yield (
            "slope",
            f"どちらのドメインも1割を見誤る例（ε = 0.1）で、divergenceが1.6でなく {hand:.3g} です。"
            "2(1 − 2ε) = 2(1 − 0.2) = 1.6です。かっこの中の係数2と、ε の求め方を確かめてください。",
        )
    if crossed > 1.5:
        yield (
            "domain-error-on-training",
            "評価用だけ、ソースの2割とターゲットの3割が相手の側にある例で、divergenceが1でなく "
            f"{crossed:.3g} です。ドメイン識別器の誤り率も、評価用で測ってください。",
        )
    if not close(crossed, 1, NEAR):
        yield (
            "one-domain",
            f"ソースの2割とターゲットの3割を見誤る例で、divergenceが1でなく {crossed:.3g} です。"
            "ε は、二つのドメインの誤り率の平均 0.25です。",
        )
    if not close(worse, -0.8, NEAR):
        yield (
            "never-negative",
            f"評価用の7割を見誤る例で、divergenceが−0.8でなく {worse:.3g} です。"
            "偶然より悪いときは、負の値をそのまま返してください。0で切り上げると、同じ分布でも正に偏ります。",
        )


def _joint_error(v: Terms) -> Finding:
    noisy, swapped, apart = (v[name]["joint_error"] for name in ("noisy", "swapped", "apart"))
    if close(noisy, 0, NEAR):
        yield (
            "joint-on-training",
            "評価用だけ、ソースの1割とターゲットの3割のラベルが違う例で、joint_errorが0になりました。"
            "学習用ではなく、評価用で誤り率を測ってください。",
        )
    if not close(noisy, 0.4, NEAR):
        yield (
            "not-a-sum",
            f"一つの分類器の誤り率が、ソースで0.1、ターゲットで0.3になる例で、joint_errorが0.4でなく {noisy:.3g} です。"
            "λ* は、二つの誤り率の和です。平均や最大や、片方だけではありません。",
        )
    if swapped < 1 - NEAR:
        yield (
            "two-hypotheses",
            "同じ区画のラベルが、二つのドメインで逆の例です。一つの分類器なら、どちらかで必ず誤るので、λ* は1です。"
            f"ところが、{swapped:.3g} でした。ドメインごとに別の分類器を使わず、両方で学習した一つの分類器を、両方で測ってください。",
        )
    if apart > NEAR:
        yield (
            "not-joint",
            f"二つのドメインの区画が重ならない例で、joint_errorが0でなく {apart:.3g} です。両方のラベルで学習すれば、"
            "両方で誤らない分類器があります。片方のドメインだけで学習していませんか。",
        )


def _bound(v: Terms) -> Finding:
    for terms in v.values():
        half = terms["source_error"] + terms["divergence"] / 2 + terms["joint_error"]
        if close(terms["bound"], half, NEAR):
            continue
        if half > 1 and close(terms["bound"], 1, NEAR):
            yield (
                "bound-clipped",
                f"三つの項の和は {half:.3g} なのに、boundが1です。1を超えたら「何も言えていない」という情報なので、切らずに返してください。",
            )
        yield (
            "bound-sum",
            f"source_error = {terms['source_error']:.3g}、divergence = {terms['divergence']:.3g}、"
            f"joint_error = {terms['joint_error']:.3g} なのに、boundが {half:.4g} でなく {terms['bound']:.4g} です。"
            "上界に足すのは、距離の半分です。ほかの二つは、そのまま足します。",
        )


def _uneven(terms: dict[str, float], fits: list[dict[str, float]]) -> Finding:
    """ソース 360 件、ターゲット 40 件。"""
    mixed = [fit for fit in fits if fit["source"] > 0 and fit["target"] > 0]
    if any(abs(fit["source"] - fit["target"]) > 0.01 for fit in mixed):
        share = max((fit["source"] for fit in mixed), key=lambda source: abs(source - 0.5))
        yield (
            "unequal-weights",
            f"ソース360件、ターゲット40件で学習したとき、ソースの重みの和が全体の {share:.0%} でした。"
            "二つのドメインの重みの和が等しくなるように、fitの三つめの引数に重みを渡してください。",
        )
    if not close(terms["divergence"], 0.6, NEAR) or not close(terms["joint_error"], 0.1, NEAR):
        yield (
            "pooled-error",
            f"ソースのほうが9倍多い例で、divergenceとjoint_errorが {terms['divergence']:.3g} と {terms['joint_error']:.3g} です"
            "（正しくは0.6と0.1）。誤り率を全体の行で求めると、多いほうで決まります。ドメインごとに求めてから、足すか平均してください。",
        )
