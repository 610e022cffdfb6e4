"""演習 08-1 の判定のうち、課題が一つのときの性質。θ、a、b を 1 ずつ動かした差から、掛かっている数を読む。

一次近似は c(θ′ − b)、θ′ = a + ρ_k(θ − a)、ρ_k = (1 − cη)^k なので、θ の傾きは cρ_k、b の傾きは −c である。
正確なメタ勾配は、どの傾きも、その ρ_k 倍である。前の性質が成り立つことを、後の性質が使う。
"""

from typing import Any

from tlkit.course.checks.findings import Finding, close

Case = dict[str, Any]
SETTINGS, ORDERS, STEPS = ("plain", "steeper", "faster"), ("first", "second"), (0, 1, 2, 3)
VARIANTS = ("base", "theta", "theta-2", "support", "query")


class Slopes:
    """θ、a、b についての傾き。values は「設定/次数/回数/動かし方」から値へ。"""

    def __init__(self, values: dict[str, float]) -> None:
        self.values = values

    def of(self, variant: str, order: str, k: int, setting: str = "plain") -> float:
        """variant を 1 だけ動かしたときの、値の変化。"""
        head = f"{setting}/{order}/{k}"
        return self.values[f"{head}/{variant}"] - self.values[f"{head}/base"]

    def row(self, variant: str, order: str, setting: str = "plain") -> list[float]:
        """回数 0、1、2、3 での傾き。"""
        return [self.of(variant, order, k, setting) for k in STEPS]


def slope_findings(slopes: Slopes, cases: dict[str, Case]) -> Finding:
    """効く値、1 次式であること、0 回、適応した点、内側の縮み方、連鎖律の順に調べる。"""
    case = cases["plain/first/1/base"]
    c, lr = float(case["curvature"][0]), case["lr"]
    yield from _roles(slopes)
    yield from _shape(slopes)
    yield from _no_steps(slopes, c)
    yield from _orders(slopes)
    yield from _inner(slopes, c, lr)
    yield from _outer(slopes)


def _roles(slopes: Slopes) -> Finding:
    for order in ORDERS:
        if _zero(slopes.of("query", order, 1)):
            yield (
                "query-ignored",
                "クエリの最小点 b（query）を動かしても、値が変わりません。外側の損失は、クエリの損失です。",
            )
        if _zero(slopes.of("theta", order, 1)):
            yield "theta-ignored", "初めの値 θ（theta）を動かしても、値が変わりません。θ′ は、θ から始めて求めます。"
    if all(_zero(value) for order in ORDERS for value in slopes.row("support", order)):
        adapts = not _same(slopes.row("theta", "first"))
        yield (
            "support-ignored" if adapts else "unadapted",
            "steps を1以上にしても、サポートの最小点 a（support）が値に効きません。内側の更新では、θ は a へ近づきます。"
            + ("" if adapts else "クエリの損失の微分は、θ でなく、適応した θ′ での値です。"),
        )


def _no_steps(slopes: Slopes, c: float) -> Finding:
    """0 回なら、c(θ − b) そのもの。"""
    slope, steeper = slopes.of("theta", "first", 0), slopes.of("theta", "first", 0, "steeper")
    if not all(_zero(slopes.of("support", order, 0)) for order in ORDERS):
        yield (
            "steps-shifted",
            "steps = 0 なのに、サポートの最小点 a を動かすと値が変わりました。0回なら θ′ = θ で、a は効きません。",
        )
    if slope < 0:
        yield (
            "outer-sign",
            "steps = 0 で、θ を大きくすると値が減りました。c(θ − b)²/2 の微分は、θ が大きいほど大きくなります。符号を確かめてください。",
        )
    if not _zero(slope) and not close(steeper, 2 * slope, 1e-6):
        yield (
            "outer-curvature",
            f"steps = 0 で、c を2倍にすると、θ の傾きが {steeper / slope:.4g} 倍になりました。c(θ − b) なら2倍です。",
        )
    if not close(slope, c, 1e-6):
        yield (
            "outer-factor",
            f"steps = 0、c = {c:.4g} で、θ を1増やすと値が {slope:.4g} 増えました。"
            "c(θ − b) なら、増える量は c です。損失の 1/2 と、2乗の微分の 2 は、打ち消し合います。",
        )
    exact = slopes.of("theta", "second", 0)
    if not close(exact, slope, 1e-6):
        yield (
            "second-order-at-zero",
            f"steps = 0 で、正確なメタ勾配が、一次近似の {exact / slope:.4g} 倍です。"
            "0回の更新では θ′ = θ なので、dθ′/dθ は1で、二つは同じ値になります。",
        )


def _shape(slopes: Slopes) -> Finding:
    """1 次式で、原点の取り方によらない。"""
    for order in ORDERS:
        for k in STEPS:
            steps = f"steps = {k}、first_order = {order == 'first'} で、"
            once, twice = slopes.of("theta", order, k), slopes.of("theta-2", order, k)
            if not close(twice, 2 * once, 1e-6):
                yield (
                    "not-linear",
                    f"{steps}θ を1動かしたときの変化が {once:.4g}、2動かしたときが {twice:.4g} で、2倍になりません。"
                    "2次の損失のメタ勾配は、θ の1次式です。",
                )
            total = sum(slopes.of(variant, order, k) for variant in ("theta", "support", "query"))
            if not _zero(total):
                yield (
                    "origin-dependent",
                    f"{steps}θ、a、b のすべてに1を足すと、値が変わりました。目盛りの原点をずらしただけなので、変わらないはずです。"
                    "縮むのは、θ そのものでなく、a からの隔たり θ − a です。",
                )


def _orders(slopes: Slopes) -> Finding:
    """一次近似の b の傾きは、回数によらず −c である。"""
    first, second = slopes.row("query", "first"), slopes.row("query", "second")
    flat_first, flat_second = (_same(row) for row in (first, second))
    if flat_second and not flat_first:
        yield (
            "orders-swapped",
            "first_order の働きが逆です。True が一次近似（dθ′/dθ を1とみなす）、False が正確なメタ勾配です。",
        )
    if flat_second:
        yield (
            "second-order-missing",
            "first_order=False で、b の傾きが、steps を変えても同じです。連鎖律の dθ′/dθ が掛かっていません。",
        )
    if not flat_first and all(close(a, b, 1e-7) for a, b in zip(first, second, strict=True)):
        yield (
            "first-order-ignored",
            "first_order=True にしても、値が変わりません。一次近似では、dθ′/dθ を1とみなします。",
        )
    if not flat_first:
        yield (
            "first-order-factor",
            "first_order=True で、b の傾きが、steps によって変わります。一次近似は c(θ′ − b) で、b に掛かる数は −c だけです。",
        )


def _inner(slopes: Slopes, c: float, lr: float) -> Finding:
    """一次近似の θ の傾きから、θ′ の縮み方 ρ_k を読む。"""
    rho, steeper, faster = (
        [value / slopes.of("theta", "first", 0, setting) for value in slopes.row("theta", "first", setting)]
        for setting in SETTINGS
    )
    seen = f"c = {c:.4g}、η = {lr:.4g}"
    if _same(rho[1:]) and not close(rho[1], 0):
        yield (
            "steps-ignored",
            "steps を1、2、3と変えても、θ′ の縮み方が同じです。内側の更新を、steps 回くり返してください。",
        )
    if close(rho[1], steeper[1], 1e-7):
        yield (
            "inner-curvature",
            "c を2倍にしても、1回の更新で縮む割合が変わりません。内側の勾配は c(θ − a) です。",
        )
    if close(rho[1], faster[1], 1e-7):
        yield (
            "lr-ignored",
            "η（lr）を2倍にしても、1回の更新で縮む割合が変わりません。更新は θ − η c (θ − a) です。",
        )
    if rho[1] > 1:
        yield (
            "inner-sign",
            f"{seen} の1回の更新で、a からの隔たりが {rho[1]:.4g} 倍に広がりました。勾配と逆の向きに動いてください。",
        )
    if not close(rho[1], 1 - c * lr, 1e-6):
        yield (
            "inner-rate",
            f"{seen} の1回の更新で、a からの隔たりが {rho[1]:.4g} 倍になりました。縮む量は、cη の {(1 - rho[1]) / (c * lr):.4g} 倍です。"
            "1倍になるはずです。",
        )
    if close(rho[2] - rho[1], rho[1] - rho[0], 1e-6):
        yield (
            "same-gradient",
            "1回めと2回めの更新で、同じ量だけ動いています。2回めの勾配は、1回めの更新が終わった点での値です。"
            "隔たりは、引き算でなく、掛け算で縮みます。",
        )
    if not all(close(rho[k], rho[1] ** k, 1e-6) for k in STEPS):
        shown = "、".join(f"{value:.4g}" for value in rho[1:])
        yield (
            "inner-steps",
            f"{seen} で、a からの隔たりが、1、2、3回の更新のあと {shown} 倍です。どの回でも、同じ割合で縮むはずです。",
        )


def _outer(slopes: Slopes) -> Finding:
    """正確なメタ勾配と一次近似の比 σ_k は ρ_k である。"""
    rho = [value / slopes.of("theta", "first", 0) for value in slopes.row("theta", "first")]
    ratios = {
        variant: [slopes.of(variant, "second", k) / slopes.of(variant, "first", k) for k in STEPS[1:]]
        for variant in ("theta", "support", "query")
    }
    sigma = ratios["query"]
    shown = "、".join(f"{value:.4g}" for value in sigma)
    seen = f"正確なメタ勾配と一次近似の比が、steps = 1、2、3 で {shown} です。"
    if not all(close(value, sigma[i], 1e-6) for row in ratios.values() for i, value in enumerate(row)):
        yield (
            "second-order-partial",
            "正確なメタ勾配と一次近似の比が、θ、a、b のどの傾きで見るかによって違います。dθ′/dθ は、c(θ′ − b) の全体に掛けてください。",
        )
    if _same(sigma):
        yield "second-order-once", f"{seen}steps によりません。dθ′/dθ には、1回の更新ごとに、1 − cη が一つ掛かります。"
    if close(sigma[1] - sigma[0], sigma[0] - 1, 1e-6):
        yield (
            "second-order-linear",
            f"{seen}1から、同じ数ずつ引かれています。連鎖律では、k回の更新の微分を掛け合わせます。",
        )
    if not all(close(sigma[k - 1], rho[k], 1e-6) for k in STEPS[1:]):
        yield (
            "second-order-factor",
            f"{seen}θ が θ′ に効く割合 dθ′/dθ と、同じになるはずです。θ′ は θ の1次式なので、θ − a に掛かる数が、その割合です。",
        )


def _zero(value: float) -> bool:
    return abs(value) < 1e-7


def _same(row: list[float]) -> bool:
    return all(close(value, row[0], 1e-7) for value in row)
