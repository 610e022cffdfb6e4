"""演習 07-3 の判定が使う、項ごとの性質。ソフトの項は α = 1、正解ラベルの項は α = 0 の場合だけで調べる。

前の性質が成り立つことを、後の性質が使う。場合の作り方は `logit_gradient.py` にある。
"""

import math

from torch import Tensor

from tlkit.course.checks.c07.logit_gradient_reference import Case, hard_direction, soft_direction
from tlkit.course.checks.findings import Finding, close

Grads = dict[str, Tensor]
SOFT = ("soft", "soft-1", "soft-2", "soft-retaught", "soft-restudied", "soft-both-new", "soft-twice", "random-6-2")
HARD = ("hard", "hard-relabelled", "hard-twice", "random-5-3")
NEAR = 1e-6


def differ(a: Tensor, b: Tensor) -> bool:
    """二つの勾配が違うか。"""
    return float((a - b).abs().max()) > NEAR * float(a.abs().max()) + 1e-12


def soft_findings(found: Grads, cases: dict[str, Case]) -> Finding:
    """ソフトの項。形の性質、温度による変わり方、係数の順に調べる。"""
    yield from _soft_shape(found)
    yield from _soft_temperature(found)
    fits = {name: _fit(found[name], soft_direction(cases[name])) for name in SOFT}
    if max(rest for _, rest in fits.values()) > NEAR:
        yield (
            "soft-other",
            "α = 1 の勾配が、温度 T の確率の差 q − p に比例していません。クロスエントロピーを softmax の前の値で微分すると、"
            "softmax の微分と log の微分が打ち消し合って、確率の差だけが残ります。",
        )
    yield from _soft_coefficient({name: factor for name, (factor, _) in fits.items()})


def _soft_shape(found: Grads) -> Finding:
    soft = found["soft"]
    top = float(soft.abs().max())
    rows, columns = (float(soft.sum(axis).abs().max()) > NEAR * top for axis in (1, 0))
    if rows and not columns:
        yield (
            "soft-axis",
            "α = 1 の勾配が、列（クラス）ごとに足すと0になり、行（標本）ごとでは0になりません。softmax は、標本の間でなく、クラスの間で取ります。",
        )
    if differ(soft, found["soft-shifted"]):
        yield (
            "shift-sensitive",
            "ロジットに、行ごとの定数を足すと勾配が変わりました。確率は変わらないので、勾配も変わらないはずです。"
            "確率でなく、ロジットの差そのものを使っていませんか。",
        )
    if rows:
        yield (
            "soft-rows",
            "α = 1 の勾配を、行（標本）ごとに足すと0になりません。どちらの確率も行の和が1なので、差の和は0のはずです。"
            "二つの確率の引き算を確かめてください。",
        )
    if float(found["soft-agree"].abs().max()) > NEAR * top:
        yield (
            "agree-nonzero",
            "生徒と教師のロジットが同じなのに、α = 1 の勾配が0になりません。KLは、二つの分布が同じとき最小です。"
            "生徒と教師の両方を、同じ温度 T で割っているか確かめてください。",
        )
    cross = soft - found["soft-retaught"] - found["soft-restudied"] + found["soft-both-new"]
    if float(cross.abs().max()) > NEAR * top:
        yield (
            "not-a-difference",
            "α = 1 の勾配が、（生徒だけで決まる量）−（教師だけで決まる量）の形になっていません。KLの向きが KL(教師 ‖ 生徒) か、"
            "生徒のロジットで微分しているか、softmax の微分を余計に掛けていないか確かめてください。",
        )


def _soft_temperature(found: Grads) -> Finding:
    _, rest = _fit(found["soft-1"], found["soft"])
    if rest < NEAR:
        yield (
            "temperature-ignored",
            "T を1から4に変えても、α = 1 の勾配の向きが変わりません。確率は、ロジットを T で割ってから求めます。",
        )


def _soft_coefficient(factors: dict[str, float]) -> Finding:
    """係数は T/N である。"""
    if factors["soft"] < 0:
        yield (
            "soft-sign",
            "ソフトの項の勾配の符号が逆です。教師より確率の高いクラスのロジットでは、勾配は正です（更新は勾配の逆向きに動くので、下がります）。",
        )
    yield from _batch("soft", "ソフトの項", factors["soft"], factors["soft-twice"])
    yield from _temperature_power(factors)
    yield from _constant(
        "soft", "ソフトの項の (q − p) に掛かる係数", {5: factors["soft"] * 4 / 4, 2: factors["random-6-2"] * 6 / 4}
    )


def _temperature_power(factors: dict[str, float]) -> Finding:
    ratio = factors["soft"] / factors["soft-2"]
    power = math.log2(ratio) if ratio > 0 else math.nan
    seen = f"T を2から4にすると、(q − p) の係数が {ratio:.3g} 倍になりました（2倍のはずです）。"
    if close(power, 2):
        yield (
            "chain-rule-missing",
            seen + "T²だけが掛かっています。z/T を z で微分した 1/T（連鎖律）も掛けると、T が一つ残ります。",
        )
    if close(power, -1):
        yield "t-squared-missing", seen + "連鎖律の 1/T だけが掛かっています。損失の前にある T²も掛けてください。"
    if close(power, 0):
        yield (
            "temperature-cancelled",
            seen + "係数が T によりません。T²と、連鎖律の 1/T（1回だけ）を掛けると、T が一つ残ります。",
        )
    if not close(power, 1) or not close(factors["soft-1"] * 2 / factors["soft-2"], 1):
        yield "temperature-power", seen + "係数は、損失の T²と連鎖律の 1/T を掛けた T に比例します。"


def hard_findings(found: Grads, cases: dict[str, Case]) -> Finding:
    """正解ラベルの項。温度によらないこと、形、係数の順に調べる。"""
    hard = found["hard"]
    if differ(hard, found["hard-cooler"]):
        yield from _hard_temperature(hard, found["hard-cooler"])
    if float(hard.sum(1).abs().max()) > NEAR * float(hard.abs().max()):
        yield (
            "hard-rows",
            "α = 0 の勾配を、行（標本）ごとに足すと0になりません。確率の和も、正解だけが1のベクトルの和も1なので、差の和は0のはずです。"
            "正解の引き算と、softmax を取る軸を確かめてください。",
        )
    fits = {name: _fit(found[name], hard_direction(cases[name])) for name in HARD}
    if max(rest for _, rest in fits.values()) > NEAR:
        yield (
            "hard-other",
            "α = 0 の勾配が、（温度1の確率）−（正解だけが1のベクトル）に比例していません。正解の列だけでなく、すべての列に勾配があります。",
        )
    factors = {name: factor for name, (factor, _) in fits.items()}
    if factors["hard"] < 0:
        yield "hard-sign", "正解ラベルの項の勾配の符号が逆です。正解のクラスでは、確率 − 1 で、0以下になるはずです。"
    yield from _batch("hard", "正解ラベルの項", factors["hard"], factors["hard-twice"])
    yield from _constant("hard", "正解ラベルの項の係数", {5: factors["hard"] * 4, 3: factors["random-5-3"] * 5})


def _hard_temperature(hard: Tensor, cooler: Tensor) -> Finding:
    factor, rest = _fit(hard, cooler)
    if rest < NEAR:
        yield (
            "hard-scaled",
            f"T を2から4にすると、α = 0 の勾配が {factor:.3g} 倍になりました。T²や 1/T が掛かるのは、ソフトの項だけです。",
        )
    yield (
        "hard-tempered",
        "T を変えると、α = 0 の勾配が変わりました。正解ラベルの項では、温度1の確率（ロジットを割らない softmax）を使います。",
    )


def _batch(term: str, title: str, once: float, twice: float) -> Finding:
    """行を 2 回ずつ並べると、標本での平均の勾配は、行ごとに半分になる。"""
    ratio = twice / once
    if close(ratio, 1):
        yield (
            f"{term}-not-averaged",
            f"同じ標本を2回ずつ並べても、{title}の勾配が行ごとに変わりません（半分になるはずです）。損失は標本の平均なので、N で割ります。",
        )
    if not close(ratio, 0.5):
        yield (
            f"{term}-batch",
            f"同じ標本を2回ずつ並べると、{title}の勾配が行ごとに {ratio:.3g} 倍になりました。N で1回だけ割り、半分にしてください。",
        )


def _constant(term: str, title: str, sizes: dict[int, float]) -> Finding:
    """クラス数 → 正しい係数との比。どれも 1 のはずである。"""
    (c, ratio), (d, other) = sizes.items()
    if not close(ratio, other):
        yield (
            f"{term}-classes",
            f"{title}が、クラス数 {c} では正しい値の {ratio:.3g} 倍、クラス数 {d} では {other:.3g} 倍です。"
            "平均するのは標本だけで、クラスについては和です。クラス数 C では割りません。",
        )
    if not close(ratio, 1):
        yield f"{term}-factor", f"{title}が、いつも正しい値の {ratio:.4g} 倍です。定数を確かめてください。"


def _fit(grad: Tensor, direction: Tensor) -> tuple[float, float]:
    """grad = 係数 × direction と置いたときの係数と、説明できない部分の割合。"""
    factor = float((grad * direction).sum() / direction.square().sum())
    rest = float((grad - factor * direction).norm() / grad.norm().clamp(min=1e-12))
    return factor, rest
