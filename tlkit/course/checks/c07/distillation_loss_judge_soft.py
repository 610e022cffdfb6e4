"""演習 07-2 の判定のうち、ソフトの項（α = 1）の性質。

T²·KL が必ず持ち、手で値や関係の分かるものを、0 になる場合、T の次数、平均の取り方、KL の向きの順に並べる。
"""

import math
from typing import Any

from tlkit.course.checks.c07 import distillation_loss_judge_reference as reference
from tlkit.course.checks.findings import Finding, close

Values = dict[str, float]
Cases = dict[str, Any]


def ratio(a: float, b: float) -> float:
    """A が b の何倍か。b が 0 なら NaN。"""
    return a / b if b else math.nan


def soft_term(v: Values, cases: Cases) -> Finding:
    """破れた性質を順に挙げる。"""
    yield from _zero(v, cases)
    yield from _temperature(v)
    yield from _averages(v)
    yield from _direction(v)
    yield from _value(v, cases)


def _zero(v: Values, cases: Cases) -> Finding:
    """KL は、ロジットの定数の違いに依らず、二つの確率が同じなら 0、違えば正。"""
    if not close(v["soft"], v["soft-shifted"], 1e-6):
        yield (
            "soft-not-normalised",
            "alpha = 1 で、一つの画像のロジットすべてに同じ数を足すと、値が変わりました。ソフトマックスを通した確率どうしを比べてください。",
        )
    excess = v["soft"] - reference.value(cases["soft"])
    if abs(v["soft-same"]) > 1e-9 and close(v["soft-same"], excess, 1e-6):
        yield (
            "entropy-kept",
            f"教師と生徒のロジットが同じでも、値が0でなく {v['soft-same']:.4g} です。ほかの生徒でも、値は同じ数だけ大きくなっています。"
            "生徒によらない、教師のエントロピーです。勾配は変わりませんが、KL ではなく交差エントロピーです（F.kl_div は、エントロピーを引いた値を返します）。",
        )
    if abs(v["soft-same-cool"]) > 1e-9:
        yield (
            "not-zero",
            f"教師と生徒のロジットが同じで T = 1 なのに、値が0でなく {v['soft-same-cool']:.4g} です。"
            "F.kl_div の1番目の引数は生徒の「対数の」確率、2番目の引数は教師の確率です。softmax と log_softmax を取り違えていませんか。",
        )
    if abs(v["soft-same"]) > 1e-9:
        yield (
            "one-sided-temperature",
            f"教師と生徒のロジットが同じとき、T = 1 なら0なのに、T = 4 では {v['soft-same']:.4g} です。教師と生徒の両方のロジットを、同じ T で割ってください。",
        )
    if v["soft"] <= 0:
        yield (
            "negative",
            f"ソフトの項が {v['soft']:.4g} です。確率が違えば、KL は正です。log p と log q の、どちらからどちらを引くかを確かめてください。",
        )


def _temperature(v: Values) -> Finding:
    """確率はロジットと T の比だけで決まる。ロジットと T をともに 2 倍にすると、残るのは掛けた T の次数である。"""
    times = [ratio(v[name], v[f"{name}-cool"]) for name in ("soft", "soft-teacher")]
    if close(times[0], times[1], 1e-6):
        yield (
            "temperature-unused",
            f"T を1から4にすると、教師が何であっても、値が同じ {times[0]:.4g} 倍になります。確率が変わっていません。ロジットを T で割ってからソフトマックスを取ってください。",
        )
    power = math.log2(v["soft-doubled"] / v["soft"]) if v["soft-doubled"] > 0 else math.nan
    if not close(power, 2, 1e-6):
        yield (
            "t-squared",
            f"ロジットと T をともに2倍にすると、ソフトの項が4倍でなく {v['soft-doubled'] / v['soft']:.4g} 倍になりました。"
            f"確率は変わらないので、掛けている T の次数が2でなく {power:.3g} です。KL の勾配は、T が大きいと約 1/T² に縮みます。T² を掛けて戻してください。",
        )


def _averages(v: Values) -> Finding:
    """同じ画像のくり返しでも、確率 0 のクラスを加えても、変わらない。"""
    repeated, padded = v["soft-repeated"] / v["soft"], v["soft-padded"] / v["soft"]
    if not close(repeated, 1, 1e-6):
        yield (
            "batch-summed",
            f"alpha = 1 で、同じ画像を3回ずつ並べると、値が {repeated:.3g} 倍になりました。画像について平均してください"
            '（F.kl_div なら reduction="batchmean"）。和のままでは、バッチの大きさで重みが変わります。',
        )
    if not close(padded, 1, 1e-6):
        yield (
            "class-mean",
            f"確率がほとんど0のクラスを3個加えて4クラスを7クラスにすると、ソフトの項が {padded:.4g} 倍になりました。"
            'KL は、クラスについての和です。F.kl_div の reduction="mean" は、クラスの数でも割ります。"batchmean" にしてください。',
        )


def _direction(v: Values) -> Finding:
    """片方だけが確信しているとき、KL(p ‖ q) は、q が p の可能性を捨てたときだけ大きい。"""
    teacher, student = v["soft-sure-teacher"], v["soft-sure-student"]
    if close(teacher, student, 1e-6):
        yield (
            "symmetric",
            f"教師だけが確信している例と、生徒だけが確信している例で、値が同じ {teacher:.4g} です。KL は、入れ替えると値が変わります。"
            "教師の確率で重みを付けた KL(教師 ‖ 生徒) だけを使ってください。",
        )
    if teacher > student:
        yield (
            "direction-swapped",
            f"教師が4クラスを等しく迷い、生徒だけが確信している例の値（{student:.4g}）が、その逆の例（{teacher:.4g}）より小さくなりました。"
            "KL(教師 ‖ 生徒) なら、教師が可能性を残したクラスを生徒が捨てたときに、大きくなります。F.kl_div(生徒の対数, 教師) の順です。",
        )


def _value(v: Values, cases: Cases) -> Finding:
    ratios = {name: v[name] / reference.value(cases[name]) for name in ("soft", "soft-teacher", "soft-sure-teacher")}
    off, *others = ratios.values()
    if not close(off, 1, 1e-6):
        if all(close(ratio, off, 1e-6) for ratio in others):
            yield (
                "soft-scale",
                f"ソフトの項が、どの例でも本来の {off:.4g} 倍です。余分に掛けたり割ったりしている数や、対数の底を確かめてください。",
            )
        yield (
            "soft-value",
            f"alpha = 1、T = 4 の例で、{reference.value(cases['soft']):.5f} になるはずの値が {v['soft']:.5f} です。"
            "p (log p − log q) を、クラスで足し、画像で平均し、T² を掛けてください。",
        )
