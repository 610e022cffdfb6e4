"""演習 03-4 の判定が使う、値の性質。前の性質が成り立つことを、後の性質が使う。場合の作り方は `coral_loss.py` にある。"""

import math

from tlkit.course.checks.findings import Finding

Values = dict[str, float]
MOVED = ("base", "both-shifted", "y-shifted", "shuffled", "scaled", "swapped", "rotated")


def properties(v: Values) -> Finding:
    """破れた性質を順に挙げる。"""
    yield from _finite({name: v[name] for name in ("square", "square-shuffled", *MOVED)})
    yield from _positive(v)
    yield from _means(v)
    yield from _degree(v)
    yield from _finite(v)
    yield from _matrix(v)
    yield from _counts(v)
    yield from _dimension(v)


def _near(got: float, want: float) -> bool:
    return abs(got - want) <= 1e-4 * abs(want) + 1e-9


def _finite(v: Values) -> Finding:
    if not all(map(math.isfinite, v.values())):
        yield (
            "not-finite",
            "値が NaN か無限大になる例があります。値の動かない特徴があっても、共分散は求まります。0での割り算がないか確かめてください。",
        )


def _positive(v: Values) -> Finding:
    if v["base"] < 1e-9:
        yield (
            "not-positive",
            f"共分散の違う二つの標本で、正になるはずの値が {v['base']:.3g} になりました。差の要素を二乗してから足します。",
        )


def _means(v: Values) -> Finding:
    """平均は値に響かない。"""
    if not _near(v["both-shifted"], v["base"]):
        yield (
            "not-centred",
            "x と y を同じだけ平行移動すると、値が変わりました。共分散を求める前に、それぞれの平均を引いてください。",
        )
    if not _near(v["y-shifted"], v["base"]):
        yield (
            "mean-sensitive",
            "y だけを平行移動すると、値が変わりました。CORALが見るのは共分散だけで、平均の差は見ません。"
            "平均の差を足したり、x と y をまとめた平均を引いたりしていないか確かめてください。",
        )


def _degree(v: Values) -> Finding:
    """x と y を 2 倍にすると、共分散は 4 倍、その二乗は 16 倍になる。"""
    ratio = v["scaled"] / v["base"]
    if _near(ratio, 4):
        yield (
            "not-squared",
            "x と y を2倍にすると、値が4倍になりました（16倍になるはずです）。"
            "フロベニウスノルムの二乗、つまり差の要素の二乗の和を使います。最後に平方根や絶対値を取っていませんか。",
        )
    if _near(ratio, 1):
        yield (
            "correlation",
            "x と y を2倍にしても、値が変わりません（16倍になるはずです）。標準偏差で割ると、相関行列になります。使うのは共分散行列です。",
        )
    if not _near(ratio, 16):
        yield (
            "degree",
            f"x と y を2倍にすると、値が {ratio:.3g} 倍になりました。共分散は4倍、その二乗は16倍になるはずです。二乗の数を確かめてください。",
        )


def _matrix(v: Values) -> Finding:
    """(D, D) の行列の、要素ごとの差の二乗の和である。"""
    if not (_near(v["shuffled"], v["base"]) and _near(v["square-shuffled"], v["square"])):
        yield (
            "order-dependent",
            "行を並べ替えると、値が変わりました。共分散は、標本の間でなく特徴の間で取る (D, D) の行列です。転置と軸を確かめてください。",
        )
    if v["correlated"] < 1e-9:
        yield (
            "variances-only",
            "分散が同じで、共分散だけが違う二つの標本で、値が0になりました。対角だけでなく、行列のすべての要素を比べてください。",
        )
    if v["turned"] < 1e-9:
        yield (
            "direction-ignored",
            "長い向きだけが違う二つの標本で、値が0になりました。二つの行列のノルムやトレースの差でなく、行列の差のノルムを求めてください。",
        )
    if not _near(v["swapped"], v["base"]):
        yield (
            "asymmetric",
            "x と y を入れ替えると、値が変わりました。C_x は N − 1 で、C_y は M − 1 で割り、二つの標本を同じように扱います。",
        )
    if not _near(v["rotated"], v["base"]):
        yield (
            "not-frobenius",
            "座標の軸を回すと、値が変わりました。行列のすべての要素の二乗を、同じ重みで足しているか確かめてください。",
        )


def _counts(v: Values) -> Finding:
    """3 点を 2 回ずつ並べると、N − 1 で割る共分散は (2·3 − 2)/(2·3 − 1) 倍になる。"""
    ratio = v["twice"] / v["once"] if v["once"] else math.inf
    if _near(ratio, 1):
        yield (
            "ddof",
            "同じ点を2回ずつ並べても、値が変わりません。N で割る共分散（標本分散と同じ割り方）です。論文と同じく N − 1 で割ってください。",
        )
    if ratio > 2:
        yield (
            "not-divided",
            f"同じ点を2回ずつ並べると、値が {ratio:.3g} 倍になりました。積の和を N − 1 で割っていないか、割る所が違います。",
        )


def _dimension(v: Values) -> Finding:
    """値が 0 の特徴を加えて D を 2 倍にすると、値は 1/4 になる。"""
    ratio = v["padded"] / v["base"]
    if _near(ratio, 1):
        yield (
            "no-dimension",
            "値がいつも0の特徴を加えて D を2倍にしても、値が変わりません。D²で割るので、1/4になるはずです。",
        )
    if not _near(ratio, 1 / 4):
        yield (
            "dimension-power",
            f"値がいつも0の特徴を加えて D を2倍にすると、値が {ratio:.3g} 倍になりました。D でなく D²で割るので、1/4になるはずです。",
        )
