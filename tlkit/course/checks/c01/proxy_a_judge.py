"""演習 01-4 の判定。正しいプロキシ A 距離が必ず持ち、作り方から値の分かる性質を並べる。

学習と評価の標本は答えが乱数で選ぶので、値は少しばらつく。許す幅は、そのばらつきの 5 倍より広く取ってある。
場合の作り方は `proxy_a.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.findings import Finding, Records, first, first_raised, not_a_number
from tlkit.course.checks.question import PASSED, Verdict

TINY = 14  # tiny の場合の、各ドメインの標本の数
WIDTH = 0.35


def judge(data: Any, _inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    even = {name: record for name, record in data.items() if not name.endswith("uneven")}
    return (
        first_raised(even)
        or first_raised(data, "ソースとターゲットの件数が違うとき、")
        or first(not_a_number(data, "プロキシA距離"))
        or first(_properties(_Values(data)))
        or PASSED
    )


class _Values:
    """場合の名前から値を引く。"""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __getitem__(self, name: str) -> float:
        return float(self._records[name]["value"])

    def near(self, name: str, want: float, width: float = WIDTH) -> bool:
        return abs(self[name] - want) <= width

    def series(self, start: str, end: str = "") -> list[float]:
        names = [name for name in self._records if name.startswith(start)]
        return [self[name] for name in names if name.endswith("-again") == (end == "-again")]


def _properties(v: _Values) -> Finding:
    yield from _scale(v)
    yield from _held_out(v)
    yield from _seeds(v)
    yield from _halves(v)
    yield from _balance(v)
    yield from _negative(v)


def _scale(v: _Values) -> Finding:
    """完全に見分けられれば 2、ε = 1/4 なら 1。線形で見分けられなければ、大きな値にならない。"""
    if not math.isfinite(v["apart"]):
        yield (
            "not-finite",
            f"はっきり離れた二つのドメインで、値が {v['apart']} になりました。0での割り算がないか確かめてください。",
        )
    if v.near("apart", -2, 0.1):
        yield (
            "sign",
            "完全に見分けられる二つのドメインで、値が2でなく−2です。ε は正解率ではなく誤り率です。"
            "ドメインの番号の付け方と、引き算の向きも確かめてください。",
        )
    if not v.near("apart", 2, 0.1):
        yield (
            "apart-not-two",
            f"はっきり離れた二つのドメインで、値が2でなく {v['apart']:.2f} です。このとき ε = 0 なので、2(1 − 2ε) = 2です。"
            "ドメインごとに平均や幅をそろえると、測りたい違いが消えてしまうことにも注意してください。",
        )
    if 1.75 < v["checker"] < 2.1:  # どの直線で分けても、四つの角の一つは誤るので、1 を大きく超えない
        yield (
            "not-linear",
            f"市松模様に並べた二つのドメインは、直線では分けられません。ところが、値は {v['checker']:.2f} でした。"
            "線形の識別器を使ってください。",
        )
    if not v.near("overlap", 1):
        yield (
            "slope",
            f"どちらのドメインも標本の1/4が相手の側にある例で、値が1でなく {v['overlap']:.2f} です。ε = 1/4のはずです。"
            "2(1 − 2ε) の係数を確かめてください。",
        )


def _held_out(v: _Values) -> Finding:
    """同じ分布なら、学習に使わなかった標本では見分けられない。"""
    values = v.series("wide")
    mean = sum(values) / len(values)
    if not mean <= 1:
        yield (
            "train-error",
            f"同じ分布から取った120次元の標本で、値が0の近くでなく {mean:.2f} です。次元が高いと、学習に使った標本は"
            "必ず見分けられます。誤り率は、学習に使わなかった半分だけで測ってください。",
        )


def _seeds(v: _Values) -> Finding:
    """同じ種なら同じ値、違う種なら違う分け方。"""
    if v.series("tiny") != v.series("tiny", "-again"):
        yield (
            "not-reproducible",
            "同じ標本と同じ seed で2回呼ぶと、値が変わりました。並べ替えの乱数を、seed から作ってください。",
        )
    if len(set(v.series("tiny"))) == 1 and len(set(v.series("wide"))) == 1:
        yield (
            "seed-ignored",
            "seed を変えても、値が変わりません。標本の並びには偏りがあるかもしれません（ラベルの順に並ぶなど）。"
            "seed で決まる並べ替えをしてから、半分に分けてください。",
        )


def _negative(v: _Values) -> Finding:
    """偶然より悪く見分けたときは負になる。"""
    if v["twins"] > -0.3:
        yield (
            "never-negative",
            f"学習に使った点が、テストでは反対のドメインに現れる例です。偶然より悪いので負になるはずが、{v['twins']:.2f} でした。"
            "0で切り上げたり、絶対値を取ったりすると、同じ分布でも正に偏ります。",
        )


def _halves(v: _Values) -> Finding:
    """各ドメイン 7 点でテストすれば、14 点中の誤りの数は整数になる。"""
    for value in v.series("tiny"):
        mistakes = (2 - value) / 4 * TINY
        if abs(mistakes - round(mistakes)) > 1e-3:
            yield (
                "not-halves",
                f"{TINY}点ずつの標本で、値が {value:.3f} になりました。{TINY // 2}点ずつでテストしたなら、この値にはなりません。"
                "各ドメインを半分に分け、前半で学習し、後半だけで誤り率を測ってください。",
            )
            return


def _balance(v: _Values) -> Finding:
    """二つのドメインの誤り率を、件数によらず同じ重みで数える。"""
    if not v.near("lopsided", 1.2):
        yield (
            "one-domain",
            f"ソースの誤り率が0、ターゲットの誤り率が0.4になる例で、値が1.2でなく {v['lopsided']:.2f} です。"
            "ε は二つのドメインの誤り率の平均です。",
        )
    if not v.near("lopsided-uneven", 1.2):
        yield (
            "domain-average",
            f"ソースを2700件、ターゲットを300件にすると、値が1.2でなく {v['lopsided-uneven']:.2f} になりました。"
            "全体の誤り率では、多いほうのドメインだけで値が決まります。ドメインごとに誤り率を求めてから平均してください。",
        )
    if not v.near("overlap-uneven", 1):
        yield (
            "classifier-imbalanced",
            f"ソースを1600件、ターゲットを200件にすると、値が1でなく {v['overlap-uneven']:.2f} になりました。"
            "識別器が、多いほうのドメインばかりを答えています。学習でも二つのドメインを同じ重みで扱ってください"
            '（`class_weight="balanced"` など）。',
        )
