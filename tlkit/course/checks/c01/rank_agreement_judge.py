"""演習 01-7 の判定。破れた性質から診断を選ぶ。

返り値の形、順位相関、引き直しの乱数、引き直し方、区間の水準、帰無分布の幅の順に調べる。
入力の作り方は `rank_agreement.py` にある。
"""

import itertools
import math
from typing import Any

import numpy as np

from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.shared_random import SHARED_RANDOM

EXACT = 1e-6
LOW_OF_BINARY = 1 / math.sqrt(8)  # 引き直しの全部を数え上げた 2.5 % 点


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    cases = data["cases"]
    if verdict := first_raised(cases) or first(_form(cases)):
        return verdict
    values = {name: _Result(*record["value"]) for name, record in cases.items()}
    possible = _possible_rhos(inputs["cases"]["zigzag"])
    return (
        first(_rho(values, inputs["cases"]["ties"]))
        or first(_interval_form(values))
        or first(_random(values, data["shared_random"]))
        or first(_resampling(values, possible))
        or first(_level(values, possible))
        or first(_null(values))
        or PASSED
    )


class _Result:
    """答えの 4 つの数。"""

    def __init__(self, rho: float, low: float, high: float, null: float) -> None:
        self.rho, self.low, self.high, self.null = rho, low, high, null
        self.interval = low, high


Values = dict[str, _Result]


def _form(cases: Records) -> Finding:
    for record in cases.values():
        value = record["value"]
        if not isinstance(value, list) or len(value) != 4 or any(type(item) not in (int, float) for item in value):
            yield (
                "not-four-numbers",
                f"返り値が {record['type']} です。(ρ, 区間の下端, 区間の上端, 帰無分布の半幅) の4つの数を、この順の組で返してください。",
            )


def _spearman(rows: np.ndarray, scores: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """rows (B, n) の各行で引き直したときの順位相関 (B,)。定義できなければ NaN。"""
    a, b = (_ranks(values[rows]) for values in (scores, accuracies))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    result: np.ndarray = (a * b).sum(axis=1) / np.where(scale > 0, scale, np.nan)
    return result


def _ranks(values: np.ndarray) -> np.ndarray:
    """平均を引いた順位。自分より小さい数と大きい数の個数の差の半分なので、同点は平均の順位になる。"""
    difference = values[:, :, None] - values[:, None, :]
    ranks: np.ndarray = np.sign(difference).sum(axis=2) / 2
    return ranks


def _possible_rhos(case: dict[str, Any]) -> np.ndarray:
    """引き直しで現れうる順位相関のすべて。引き直した番号の組み合わせを数え上げる。"""
    n = len(case["scores"])
    rows = np.array(list(itertools.combinations_with_replacement(range(n), n)))
    rhos = _spearman(rows, case["scores"], case["accuracies"])
    return np.unique(rhos[np.isfinite(rhos)])


def _rho(v: Values, ties: dict[str, Any]) -> Finding:
    up, down, zigzag = v["up-n8"].rho, v["down"].rho, v["zigzag"].rho
    if up < 0 < down:
        yield "sign", "点数の順と正解率の順が同じとき、ρ が負になりました。二つの順位を、同じ向きにつけてください。"
    if not _near(up, 1) and not _near(down, -1):
        yield (
            "not-rank",
            f"正解率が点数とともに必ず増えるのに、ρ が1でなく {up:.3g} です。値そのものではなく、順位の相関を求めてください。",
        )
    if not _near(zigzag, 1 - 6 * 8 / (8 * 63)):
        yield (
            "not-spearman",
            f"8件のうち、隣どうしの4組だけが入れ替わった例で、ρ が {zigzag:.3f} になりました（スピアマンの順位相関なら0.905です）。",
        )
    if not _near(v["ties"].rho, v["ties-moved"].rho):
        yield (
            "ties-by-position",
            "同点があるとき、転移元の並び順を替えると ρ が変わりました。argsort の順位は、同点に並び順で差をつけます。平均の順位を使ってください。",
        )
    want = float(_spearman(np.arange(6)[None], ties["scores"], ties["accuracies"])[0])
    if not _near(v["ties"].rho, want):
        yield (
            "ties-formula",
            f"同点のある例で、ρ が {want:.3f} でなく {v['ties'].rho:.3f} です。同点には平均の順位をつけ、"
            "順位どうしの相関係数を求めてください（1 − 6Σd²/(n(n²−1)) は、同点があると使えません）。",
        )


def _interval_form(v: Values) -> Finding:
    for result in v.values():
        if not all(map(math.isfinite, result.interval)):
            yield (
                "nan-interval",
                "区間の端が NaN か無限大です。引き直した点数がすべて同じになると、順位相関を定義できません。その引き直しは捨ててください。",
            )
        if result.low > result.high + EXACT:
            yield "ends-swapped", "区間の下端が上端より大きくなっています。返す順番を確かめてください。"
        if result.low < -1 - EXACT or result.high > 1 + EXACT:
            yield (
                "outside-range",
                f"区間が [{result.low:.2f}, {result.high:.2f}] で、順位相関の範囲（−1から1）を越えました。"
                "ρ ± 1.96×標準誤差ではなく、引き直した ρ の分位点を使ってください。",
            )


def _random(v: Values, shared_random: bool) -> Finding:
    wide = v["wide"]
    if wide.interval != v["again"].interval:
        yield (
            "not-reproducible",
            "同じ seed で二度呼ぶと、区間が変わりました。seed から作った乱数生成器で引き直してください。",
        )
    if shared_random:
        yield SHARED_RANDOM
    if wide.interval == (wide.rho, wide.rho) or wide.high - wide.low < EXACT:
        yield (
            "without-replacement",
            "17件の例で、区間の幅が0です。重複を許さずに引くと、いつも同じ17件になります。重複を許して引き直してください。",
        )
    if wide.interval == v["other"].interval == v["third"].interval:
        yield "seed-ignored", "seed を変えても、区間がまったく同じです。渡された seed を乱数生成器に使ってください。"


def _resampling(v: Values, possible: np.ndarray) -> Finding:
    """引き直しは、組のまま、n 件を、順位をつけ直して。"""
    if not _near(v["up-n8"].low, 1) or not _near(v["down"].high, -1):
        yield (
            "pairs-broken",
            f"順位が完全に一致する例で、区間の下端が {v['up-n8'].low:.2f} になりました。組のまま引き直せば、どの引き直しでも ρ は1です。"
            "点数と正解率に、同じ番号を使ってください。",
        )
    if not (_near(v["up-n3"].low, 1) and _near(v["up-n2"].low, 1)):
        yield (
            "degenerate-counted",
            f"3件の順位が完全に一致する例で、区間の下端が {v['up-n3'].low:.2f} になりました。"
            "すべて同じ値になって ρ を定義できない引き直しは、0とみなさずに捨ててください。",
        )
    ones = [v[f"one-{k}"] for k in range(8)]
    if any(result.high - result.low > EXACT for result in ones):
        yield (
            "resamples-ignored",
            "resamples = 1 なのに、区間に幅があります。値が一つだけなら、下端も上端もその値です。引き直す回数に resamples を使ってください。",
        )
    if not all(_contains(possible, result.low) for result in ones):
        yield (
            "not-reranked",
            "引き直しが1回のとき、区間の端が、順位相関としてありえない値です。もとの n 件と同じ件数を引き、"
            "引き直した標本の中で順位をつけ直してから、相関を求めてください。",
        )


def _level(v: Values, possible: np.ndarray) -> Finding:
    """2.5 % 点と 97.5 % 点か。"""
    for result in (v[f"two-{k}"] for k in range(8)):
        spread = (result.high - result.low) / 0.95
        ends = result.low - 0.025 * spread, result.high + 0.025 * spread
        if not any(all(_contains(possible, end) for end in pair) for pair in (ends, result.interval)):
            yield (
                "percentile",
                "引き直しが2回のとき、区間の端が、二つの ρ の2.5%点と97.5%点になっていません。分位点の指定を確かめてください。",
            )
    low = v["binary"].low  # 引き直しの全部を数え上げると、1.33 % 点から 3.74 % 点までが 0.354
    if not 0.25 < low < 0.41:
        side = "内側" if low > LOW_OF_BINARY else "外側"
        yield (
            f"level-{'narrow' if low > LOW_OF_BINARY else 'wide'}",
            f"7件の例で、95%区間の下端は0.354の近くになるはずですが、ずっと{side}の {low:.3f} でした。2.5%点と97.5%点を使ってください。",
        )


def _null(v: Values) -> Finding:
    if len({v[name].null for name in ("wide", "other", "third", "wide-2")}) > 1:
        yield (
            "null-varies",
            "同じ17件なのに、点数や seed を変えると帰無分布の半幅が変わりました。ここでは、件数だけで決まる 1.96/√(n−1) を返してください。",
        )
    few, many = v["up-n2"].null, v["wide"].null
    if not abs(few / many - 4) < 1e-3:
        yield (
            "null-count",
            f"2件と17件の半幅の比が、4でなく {few / many:.3g} です。半幅は √(n−1) に反比例します。n や n−2 で割っていませんか。",
        )
    if not abs(many - 0.49) < 1e-3:
        yield (
            "null-scale",
            f"17件のとき、半幅が 1.96/√16 = 0.49 でなく {many:.3g} です。標準偏差そのものや、全幅を返していませんか。",
        )


def _near(value: float, want: float) -> bool:
    return abs(value - want) <= EXACT


def _contains(possible: np.ndarray, value: float) -> bool:
    return bool(np.abs(possible - value).min() <= EXACT)
