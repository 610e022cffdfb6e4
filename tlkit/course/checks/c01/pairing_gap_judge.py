"""演習 01-5 の判定。点数が受け取った標本の並びと、返ってきた差から診断を選ぶ。

並べ替え方（行か、特徴か、値か）、乱数の使い方、繰り返し、差のまとめ方の順に調べる。
前の性質が成り立つことを、後の性質が使う。
"""

from typing import Any

from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.findings import Records as Cases
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.shared_random import SHARED_RANDOM

_BROKEN = {
    "kind": (
        "score-input",
        "点数に torch.Tensor でないものを渡しています。並べ替えたあとも、テンソルのまま渡してください。",
    ),
    "shape": (
        "rows-dropped",
        "点数に渡した標本の形が、もとと違います。行の数が N と M で違うときも、それぞれの全部の行を並べ替えてください。",
    ),
    "features": (
        "features-shuffled",
        "行ではなく、特徴（列）を並べ替えています。並べ替えるのは標本の順番です。source[番号] のように、最初の次元を選んでください。",
    ),
    "values": (
        "values-shuffled",
        "点数に渡した標本に、もとにはない行があります。値をばらばらに混ぜると、標本そのものが変わります。行を丸ごと動かしてください。",
    ),
}
_UNEVEN = ("source", "target", "free-uneven")  # N ≠ M の場合


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    cases = data["cases"]
    repeats = inputs["cases"]["pairs"]["repeats"]
    return (
        first(_received(cases))
        or first_raised({name: record for name, record in cases.items() if name not in _UNEVEN})
        or first_raised(cases, "N ≠ M のとき、")
        or first(_form(cases))
        or first(_random(cases, data["shared_random"]))
        or first(_repeats(cases, repeats))
        or first(_exposed(cases))
        or first(_gap(cases))
        or PASSED
    )


def _received(cases: Cases) -> Finding:
    """点数が受け取ったのは、もとの行をすべて、一度ずつ並べたものか。"""
    for call in (call for record in cases.values() for call in record["calls"]):
        *orders, swapped = call
        if swapped:
            yield (
                "arguments-swapped",
                "点数に source と target を逆の順で渡しています。score(source, target) の順にそろえてください。",
            )
        yield from (_BROKEN[order] for order in orders if isinstance(order, str))
        if any(len(set(order)) < len(order) for order in orders):
            yield (
                "with-replacement",
                "並べ替えたあとに、同じ行が二度現れ、現れない行があります。番号を重複なく並べ替えてください（randint ではなく permutation）。",
            )


def _form(cases: Cases) -> Finding:
    for record in cases.values():
        if record["kind"] not in ("number", "array") or record["shape"]:
            yield (
                "not-float",
                f"返り値が {record['type']} です。点数がテンソルを返すときも、差を float(...) で数に直して返してください。",
            )


def _shuffled(record: dict[str, Any]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """もとの並びでない呼び出しの、source と target の並び。"""
    orders = [(tuple(source), tuple(target)) for source, target, _ in record["calls"]]
    return [order for order in orders if any(list(side) != sorted(side) for side in order)]


def _random(cases: Cases, shared_random: bool) -> Finding:
    once, again = _shuffled(cases["pairs"]), _shuffled(cases["again"])
    if cases["pairs"]["count"] == len(once):
        yield (
            "no-baseline",
            "もとの並びのままの点数を、一度も求めていません。並べ替えたものどうしではなく、もとの並びとの差を測ってください。",
        )
    if not once:
        yield "not-shuffled", "点数に渡した標本が、どれももとの並びのままです。行を並べ替えてから渡してください。"
    if once != again:
        yield (
            "not-reproducible",
            "同じ seed で二度呼ぶと、違う並べ替えになりました。seed から作った乱数生成器で並べ替えてください。",
        )
    if shared_random:
        yield SHARED_RANDOM
    if once and once == _shuffled(cases["other"]) == _shuffled(cases["third"]):
        yield "seed-ignored", "seed を変えても、同じ並べ替えになります。渡された seed を乱数生成器に使ってください。"


def _repeats(cases: Cases, repeats: int) -> Finding:
    many, once = _shuffled(cases["pairs"]), _shuffled(cases["once"])
    if len(many) <= 2:
        yield (
            "one-shuffle",
            f"repeats = {repeats} なのに、並べ替えを {len(many)} 回しか試していません。一度だけでは、偶然もとと同じ並びになることがあります。",
        )
    elif len(set(many)) <= 2:
        yield (
            "same-shuffle",
            "何度繰り返しても同じ並べ替えになります。乱数生成器を繰り返しの中で作り直すと、毎回同じ乱数から始まります。",
        )
    elif len(once) > 2:
        yield (
            "repeats-ignored",
            f"repeats = 1 なのに、並べ替えを {len(once)} 回試しました。渡された repeats の回数だけ繰り返してください。",
        )


def _exposed(cases: Cases) -> Finding:
    """並び順に頼る点数は見つかり、頼らない点数は 0 になるか。"""
    for side, other in (("source", "target"), ("target", "source")):
        if not any(
            order[side == "target"] != tuple(range(5 if side == "source" else 8)) for order in _shuffled(cases[side])
        ):
            yield (
                f"{side}-not-shuffled",
                f"{side} の並び順だけに頼る点数で、差が0になりました。{other} だけでなく、{side} も並べ替えてください。",
            )
    if all(source == target for source, target in _shuffled(cases["pairs"])):
        yield (
            "moved-together",
            "source と target を、いつも同じ順に並べ替えています。それでは i 行目どうしの組が崩れず、組に頼る点数を見逃します。片方ずつ並べ替えてください。",
        )
    for name in ("free", "free-uneven"):
        if not _near(cases, name, 0):
            yield (
                "order-free",
                f"平均の差を測る点数は並び順によらないので、0になるはずですが、{_value(cases, name):.3g} が返りました。",
            )


def _gap(cases: Cases) -> Finding:
    """差の絶対値の、最大値になっているか。"""
    if min(_value(cases, "pairs"), _value(cases, "rise")) < 0.01 <= max(_value(cases, "pairs"), _value(cases, "rise")):
        yield (
            "signed",
            "並べ替えると下がる点数と上がる点数のうち、片方でしか差が出ません。差の絶対値を取ってください。",
        )
    for name in ("source", "target"):
        if _near(cases, "pairs", 1) and 0.01 < _value(cases, name) < 0.99:
            yield (
                "averaged",
                f"差が0か1にしかならない点数で、{_value(cases, name):.3g} が返りました。平均ではなく、いちばん大きい差を返してください。",
            )
    yield from _units(cases)
    for name in cases:
        want = 0 if name.startswith("free") else 3 if name == "tripled" else 1
        if name != "once" and not _near(cases, name, want):
            yield "value-mismatch", f"差が {want} になるはずの点数で、{_value(cases, name):.3g} が返りました。"


def _units(cases: Cases) -> Finding:
    if not _near(cases, "lifted", _value(cases, "pairs")):
        yield (
            "shift-dependent",
            f"点数に10を足しただけで、差が {_value(cases, 'pairs'):.3g} から {_value(cases, 'lifted'):.3g} に変わりました。"
            "もとの点数で割らずに、引き算だけで比べてください。",
        )
    if not _near(cases, "tripled", 3 * _value(cases, "pairs")):
        yield (
            "not-proportional",
            f"点数を3倍にしたとき、差が {_value(cases, 'pairs'):.3g} から {_value(cases, 'tripled'):.3g} になりました（3倍のはずです）。"
            "二乗や割り算をせずに、差の絶対値をそのまま使ってください。",
        )


def _value(cases: Cases, name: str) -> float:
    return float(cases[name]["value"])


def _near(cases: Cases, name: str, want: float) -> bool:
    return abs(_value(cases, name) - want) <= 1e-4
