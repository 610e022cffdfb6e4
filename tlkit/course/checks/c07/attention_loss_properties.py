"""演習 07-5 の、値の性質。地図の動かし方と値の変わり方から、どの段階の誤りかを選ぶ。

判定の全体は `attention_loss_judge.py`、動かした地図は `attention_loss.py` にある。
"""

import math

from tlkit.course.checks.findings import Finding

Values = dict[str, float]
DARK_PLACES = 12  # すべて 0 の地図を含む場合の H·W


def properties(v: Values) -> Finding:
    """有限さ、正規化、チャネルのつぶし方、差の測り方、標本についての平均の順。"""
    yield from _finite(v)
    yield from _scales(v)
    yield from _channels(v)
    yield from _gaps(v)
    if not _same(v["twice"], v["base"]):
        yield (
            "batch-sum",
            f"同じ標本を2回ずつ並べると、値が {v['twice'] / v['base']:.3g} 倍になります。"
            "バッチの大きさで変わらないよう、標本について平均してください。",
        )


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 2e-4 * max(abs(a), abs(b)) + 1e-12


def _finite(v: Values) -> Finding:
    for name, value in v.items():
        if math.isfinite(value):
            continue
        if name.startswith("dark"):
            yield (
                "dark-not-finite",
                f"活性がすべて0の標本があると、値が {value} になります。長さ0で割っています。"
                "ReLU の後の地図では実際に起きます。分母を小さな正の数で抑え、Q = 0 にしてください。",
            )
        yield "not-finite", f"値が {value} になりました（{name} の場合）。"


def _scales(v: Values) -> Finding:
    """Q は、標本ごとの正の定数倍で変わらない。"""
    if not _same(v["scaled"], v["base"]):
        yield (
            "not-normalised",
            f"生徒の地図を3倍すると、値が {v['base']:.4g} から {v['scaled']:.4g} に変わります。"
            "比べたいのは強さでなく、どの位置が強いかです。地図を長さ1にしてから比べてください。",
        )
    for name, who in (("scaled-each", "生徒"), ("teacher-scaled-each", "教師")):
        if not _same(v[name], v["base"]):
            yield (
                "scaled-together",
                f"{who}の地図を標本ごとに違う数で倍すると、値が {v['base']:.4g} から {v[name]:.4g} に変わります。"
                "長さは、バッチ全体でなく標本ごとに求めてください。",
            )
    if not _same(v["faint"], v["base"]):
        yield (
            "floor-too-high",
            f"どちらの地図も0.02倍すると、値が {v['base']:.4g} から {v['faint']:.4g} に変わります。"
            "0で割らないように分母に入れた数が、大きすぎます。1e-12 ほどにしてください。",
        )


def _channels(v: Values) -> Finding:
    """Σ_c f² は、チャネルの符号の反転や、チャネルの回転で変わらない。"""
    if not _same(v["negated"], v["base"]):
        yield (
            "sign-matters",
            f"生徒の一部のチャネルの符号を反転すると、値が {v['base']:.4g} から {v['negated']:.4g} に変わります。"
            "二乗してから、チャネルについて足してください。足してから二乗すると、正と負の活性が打ち消し合います。",
        )
    if not _same(v["rotated"], v["base"]):
        yield (
            "not-sum-of-squares",
            f"生徒のチャネルを直交行列で混ぜると、値が {v['base']:.4g} から {v['rotated']:.4g} に変わります。"
            "二乗の和なら変わりません。絶対値の和、最大値、位置についての和になっていないか確かめてください。",
        )
    if abs(v["same-attention"]) > 1e-9:
        yield (
            "nonzero-at-target",
            f"注意の地図が同じ二つ（活性は違う）の損失が、0でなく {v['same-attention']:.4g} になりました。"
            "生徒と教師に、同じ計算を施してください。",
        )


def _gaps(v: Values) -> Finding:
    """損失は、差について 2 次である。"""
    if v["base"] < 0:
        yield "negative", f"値が負（{v['base']:.4g}）になりました。差の二乗の平均は、負になりません。"
    ratio = v["near"] / v["nearer"] if v["nearer"] else math.inf
    if not 3.8 < ratio < 4.2:
        yield (
            "gap-not-squared",
            f"生徒が教師に近いとき、差を半分にすると、損失は1/4になるはずですが、1/{ratio:.3g} でした。"
            "差は、絶対値やノルムでなく、二乗で測ってください。",
        )


def lengths(v: Values) -> Finding:
    """位置についての平均と、‖Q‖₂ = 1。教師がすべて 0 なら、損失は ‖Q^S‖² の平均 1/(H·W) になる。"""
    summed = _same(v["dark-teacher"], 1.0) and _same(v["dark-student"], 1.0)
    if summed and _same(v["tiled"], v["base"]):
        yield (
            "places-summed",
            "画素を2×2倍に細かくしても、値が変わりません。位置について足しています。"
            "足した値は本来の H·W 倍になるので、損失の重みβの意味が、論文の実装と変わります。位置についても平均してください。",
        )
    for name, who in (("dark-teacher", "教師"), ("dark-student", "生徒")):
        squared = v[name] * DARK_PLACES
        if not _same(squared, 1.0):
            yield (
                "not-unit-length",
                f"{who}の地図がすべて0のとき、損失は、もう片方の ‖Q‖² の平均を H·W で割った値になるはずです。"
                f"そこから求めた ‖Q‖² の平均は、1でなく {squared:.4g} でした。"
                "H と W を一列に並べ、標本ごとに L2 ノルムで割り、すべて0の地図では Q = 0 としてください。",
            )
    if abs(v["dark-both"]) > 1e-9:
        yield (
            "dark-both",
            f"両方の地図がすべて0のとき、損失が {v['dark-both']:.4g} になりました。どちらも Q = 0 なので、0 のはずです。",
        )
