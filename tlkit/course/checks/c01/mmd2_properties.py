"""演習 01-1 の判定が使う性質。正しい MMD² が必ず持ち、手で値の分かるものを並べる。

前の性質が成り立つことを、後の性質が使う。だから `properties` の順番に意味がある（大きさ → 距離 → カーネル → 推定量 → 組）。
場合の作り方は `mmd2.py`、全体の流れは `mmd2_judge.py` にある。
"""

import math
from collections.abc import Iterator
from typing import Any

Records = dict[str, dict[str, Any]]
Finding = Iterator[tuple[str, str]]  # （診断の名前, 文）。最初の一つを使う


def properties(records: Records, sigma: float) -> Finding:
    """N = M の場合で、破れた性質を順に挙げる。"""
    v = _Values(records)
    yield from _bounds(v)
    yield from _distance(v)
    yield from _kernel(v, sigma)
    yield from _estimators(v)
    yield from _cross(v)


def sizes(records: Records) -> Finding:
    """N ≠ M の場合で、破れた性質を挙げる。"""
    yield from _sizes(_Values(records))


class _Values:
    """場合の名前から MMD² の値を引く。"""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __getitem__(self, name: str) -> float:
        return float(self._records[name]["value"])

    def near(self, name: str, want: float, tolerance: float = 2e-3) -> bool:
        return _close(self[name], want, tolerance)


def _close(a: float, b: float, tolerance: float = 2e-3) -> bool:
    return abs(a - b) <= tolerance * max(1.0, abs(b))


def _bounds(v: _Values) -> Finding:
    """二つのかたまりの距離を 0 から無限大まで動かすと、MMD² は 0 から 2 まで増える。"""
    if v["one"] < -1e-6 and not math.isfinite(v["far"]):
        yield "kernel-grows", "遠い点ほどカーネルの値が大きくなっています。exp の中の符号を確かめてください。"
    if v["one"] < -1e-6 and v.near("zero", 0):
        yield "sign", "離れた二つの集まりで、biased の値が負になりました。足す項と引く項の符号を確かめてください。"
    if not all(math.isfinite(v[name]) for name in ("zero", "near", "one", "far", "spread-u", "mixed-u", "far-u")):
        yield "not-finite", "値が NaN か無限大になる場合があります。0での割り算と、距離の平方根を確かめてください。"
    if not v.near("farther", v["far"]):
        yield (
            "unbounded",
            "十分に離れた二つの集まりをさらに離すと、値がまだ増えます。RBFカーネルなら2で頭打ちになるはずです。"
            "距離を exp に通しているか確かめてください。",
        )
    if not v.near("shifted", v["one"]):
        yield (
            "position-dependent",
            "x と y を同じだけ平行移動すると、値が変わりました。カーネルは二つの点の差だけで決まるはずです。",
        )
    if v.near("scaled", v["one"]):
        yield (
            "scale-ignored",
            "x と y を3倍に広げても、値が変わりません。σ をデータから決め直したり、x と y を規格化したりしていませんか。",
        )
    yield from _weights(v)


def _weights(v: _Values) -> Finding:
    """かたまりどうしの距離が 0 なら 0、無限大なら 2。"""
    same, apart = v.near("zero", 0), v.near("far", 2)
    linear = v["near"] > 0 and _close(v["near"] / max(v["nearer"], 1e-12), 2, 0.1)
    if same and not apart and linear:
        yield (
            "square-root",
            "近い二つの集まりの距離を半分にすると、値が1/2になりました。二乗の量なら1/4になるはずです。"
            "最後に平方根を取っていませんか（求めるのはMMDではなくMMD²です）。",
        )
    elif apart and not same:
        yield (
            "cross-coefficient",
            f"すべての点が同じ場所にあるのに、値が0でなく {v['zero']:.3g} です。三つの項が打ち消し合うように、"
            "x と y の組の項の係数を確かめてください。",
        )
    elif not apart and v["far"] > 2:
        yield (
            "not-averaged",
            f"遠く離れた二つのかたまりで、値が2でなく {v['far']:.3g} です。それぞれのカーネル行列を、和でなく平均にしていますか。",
        )
    elif not apart:
        yield (
            "within-terms",
            f"遠く離れた二つのかたまりで、値が2でなく {v['far']:.3g} です。x どうしの平均と y どうしの平均は、それぞれ1になるはずです。"
            "どちらかの項の足し忘れや符号、割る数を確かめてください。",
        )


def _distance(v: _Values) -> Finding:
    """カーネルは、ユークリッド距離だけで決まる。"""
    if not v.near("padded", v["one"]):
        yield (
            "features-averaged",
            "すべて0の特徴を付け足すと、値が変わりました。距離の二乗は、特徴について平均ではなく和を取ります。",
        )
    if not v.near("slant", v["one"]):
        yield (
            "not-euclidean",
            "二つの集まりの離れる向きを変えると、距離が同じでも値が変わりました。差の絶対値の和ではなく、二乗の和を使ってください。",
        )


def _kernel(v: _Values, sigma: float) -> Finding:
    """−log k(d) = d²/(2σ²)。2 倍の距離で 4 倍、2 倍の σ で 1/4 倍になる。"""
    decay = {name: _decay(v[name]) for name in ("one", "two", "wide")}
    if not all(0 < item < math.inf for item in decay.values()):
        yield "kernel-shape", "距離に対するカーネルの減り方が exp(−d²/(2σ²)) と違います。式と見比べてください。"
        return
    by_distance, by_sigma = decay["two"] / decay["one"], decay["one"] / decay["wide"]
    if _close(by_distance, 2, 0.02):
        yield (
            "distance-not-squared",
            "距離を2倍にしたとき、exp の中が2倍にしかなりません（4倍のはずです）。距離を二乗してください。",
        )
    elif not _close(by_distance, 4, 0.005):
        yield (
            "kernel-shape",
            f"距離を2倍にしたとき、exp の中が {by_distance:.2f} 倍になりました（4倍のはずです）。距離の二乗を使っているか確かめてください。",
        )
    elif not _close(by_sigma, 4, 0.005):
        yield _bandwidth(by_sigma)
    elif not _close(decay["one"], 0.8**2 / 2, 0.002):
        times = decay["one"] / (0.8**2 / 2)
        yield (
            "kernel-coefficient",
            f"σ = {sigma:.2f} のとき、exp の中が {times:.2f} 倍ずれています。分母は 2σ² です。2を忘れたり、二度掛けたりしていませんか。",
        )


def _decay(value: float) -> float:
    kernel = 1 - value / 2
    return -math.log(kernel) if kernel > 0 else math.inf


def _bandwidth(ratio: float) -> tuple[str, str]:
    seen = f"σ を2倍にしたとき、exp の中が1/4倍でなく {1 / ratio:.2f} 倍になりました。"
    if _close(ratio, 1, 0.02):
        return "bandwidth-ignored", "σ を変えても値が変わりません。渡された sigma をカーネルに使ってください。"
    if _close(ratio, 2, 0.02):
        return "bandwidth-not-squared", seen + "分母は σ ではなく σ² です。"
    if ratio < 1:
        return (
            "bandwidth-inverted",
            seen + "σ が大きいほど、カーネルは広くなるはずです。掛け算と割り算を確かめてください。",
        )
    return "kernel-shape", seen + "分母が 2σ² になっているか確かめてください。"


def _estimators(v: _Values) -> Finding:
    """どの 2 点も遠いとき（N = M = 4）、biased は対角だけが残って 1/N + 1/M、unbiased は 0。"""
    biased, unbiased = v["spread-b"], v["spread-u"]
    has, lacks = 0.5, 0.0  # 対角を含むときと除くときの値
    if _close(biased, has) and _close(unbiased, has):
        yield (
            "estimator-ignored",
            "unbiased を指定しても、biased と同じ値が返ります。estimator で場合を分けてください。",
        )
    elif _close(biased, lacks) and _close(unbiased, lacks):
        yield (
            "biased-drops-diagonal",
            "biased でも i = j の組が除かれています。偏りのある推定では、自分自身との組も数え、N² と M² で割ります。",
        )
    elif _close(biased, lacks) and unbiased > 0.1:
        yield "estimators-swapped", "biased と unbiased が入れ替わっています。i = j の組を除くのは unbiased です。"
    elif not _close(biased, has):
        yield (
            "biased-weights",
            f"どの2点も遠いとき、biased は 1/N + 1/M になるはずですが、{biased:.3g} になりました。平均の取り方を確かめてください。",
        )
    elif not _close(unbiased, lacks):
        yield (
            "diagonal-kept",
            f"どの2点も遠いのに、unbiased が0でなく {unbiased:.3g} です。x どうしと y どうしの両方の和から、i = j の組を除いていますか。",
        )
    elif not v.near("far-u", 2):
        yield (
            "wrong-denominator",
            f"遠く離れた二つのかたまりで、unbiased が2でなく {v['far-u']:.3g} です。i = j を除いた和は、残った組の数 N(N−1) で割ります。",
        )


def _cross(v: _Values) -> Finding:
    """x と y の組は、並び順によらず N·M 組をすべて数える。"""
    for name, within in (("twin-b", 0.5), ("twin-u", 0.0)):
        if _close((within - v[name]) / 2, 1):
            yield (
                "rows-paired",
                "x と y の i 番目どうしだけを組にしています。二つの標本に対応関係はないので、N·M 組をすべて数えます。",
            )
    if v["mixed-u"] > -0.01:
        yield (
            "never-negative",
            f"unbiased は負にもなる推定量ですが、−1/3になるはずの標本で {v['mixed-u']:.3g} になりました。"
            "0で切り上げたり、絶対値を取ったりすると、偏りが戻ります。",
        )
    for name, within in (("twin-b", 0.5), ("twin-u", 0.0)):
        cross = (within - v[name]) / 2  # x と y が同じ 4 点のとき、4 組に 1 組だけが k = 1
        if _close(cross, 0):
            yield (
                "cross-diagonal-dropped",
                "x と y の組からも i = j が除かれています。x_i と y_i は別の標本の点なので、除かずに N·M で割ります。",
            )
        elif not _close(cross, 0.25):
            yield (
                "cross-weights",
                "x と y の組の平均が、行の並び順によって変わります。N·M 組をすべて同じ重みで数えてください。",
            )


def _sizes(v: _Values) -> Finding:
    """N = 2、M = 5 でも、それぞれの組の数で割る。"""
    wants = {"uneven-same-b": 0, "uneven-far-b": 2, "uneven-far-u": 2, "uneven-spread-b": 0.7, "uneven-spread-u": 0}
    for name, want in wants.items():
        if not v.near(name, want):
            yield (
                "unequal-weights",
                f"N = M では正しいのに、N = 2、M = 5 では {want:.3g} になるはずの値が {v[name]:.3g} です。"
                "x どうしは N、y どうしは M、x と y は N·M に合わせて割っていますか。",
            )
