"""演習 07-1 の判定のうち、温度の効き方と、極端な場合。

確率の比の対数は log(p_i / p_j) = (z_i − z_j) / T である。だから、ロジットの差を比の対数で割ると、答えが使った温度が読める。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.findings import Finding

Values = dict[str, Tensor]


def expected(logits: Tensor, temperature: float) -> Tensor:
    """正しい確率（float64）。"""
    return torch.softmax(logits.double() / temperature, dim=1)


def temperatures(values: Values, cases: dict[str, Any]) -> Finding:
    """温度を変えたときの、確率の変わり方。"""
    names = [name for name in values if name.startswith("base/")]
    cool, warm = values["base/0.5"], values["base/4"]
    if bool(((cool - warm).abs() < 1e-9).all()):
        yield (
            "temperature-unused",
            "T = 0.5 と T = 4 で、確率が同じです。温度は、expを取る前のロジットを割ります。確率を割ってから正規化し直すと、元に戻ります。",
        )
    if bool((cool.amax(1) < warm.amax(1)).any()):
        yield (
            "temperature-inverted",
            "T を大きくすると、最大の確率が大きくなりました。温度が高いほど、確率は平らになるはずです。T を掛けずに、T で割ってください。",
        )
    if not bool(((values["moved"] - values["base/2"]).abs() < 1e-5).all()):
        yield (
            "shift-dependent",
            "一つの行のロジットすべてに同じ数を足すと、確率が変わりました。ソフトマックスなら、変わりません。expを取って、その和で割っていますか。",
        )
    order = sorted(names, key=lambda name: abs(math.log(cases[name]["temperature"])))  # T = 1 が先
    for name in order:
        yield from _read_temperature(values[name], cases[name]["logits"], cases[name]["temperature"])


def _read_temperature(p: Tensor, logits: Tensor, t: float) -> Finding:
    """答えの使った温度を読む。確率が 0 に近すぎる組は、値の比較に任せる。"""
    if bool(((p - expected(logits, t)).abs() < 1e-6).all()):
        return
    z = logits.double()
    apart = (z - z.amin(1, keepdim=True))[z > z.amin(1, keepdim=True)]
    ratio = (p.log() - p.gather(1, z.argmin(1, keepdim=True)).log())[z > z.amin(1, keepdim=True)]
    used = apart / ratio
    same = bool(used.isfinite().all()) and float(used.max() - used.min()) < 1e-3 * float(used.abs().max())
    if t == 1 and same:
        yield (
            "not-softmax",
            f"T = 1 で、確率の比の対数が、ロジットの差の {1 / float(used.mean()):.4g} 倍です。1倍になるはずです。"
            "底は e（torch.exp）ですか。T のほかに、掛けたり割ったりしている数はありませんか。",
        )
    elif t == 1:
        yield (
            "not-exponential",
            "T = 1 で、確率の比の対数が、ロジットの差になりません。ロジットをそのまま exp に入れていますか。",
        )
    elif same:
        yield (
            "temperature-scale",
            f"T = {t:g} を渡したのに、ロジットを {float(used.mean()):.4g} で割った確率になっています。割る数は、T そのものです。",
        )
    yield (
        "temperature-misplaced",
        f"T = 1 では正しいのですが、T = {t:g} では、確率の比の対数が、ロジットの差の1/T倍になりません。"
        "T を使うのは、expの中だけです。確率を後から混ぜたり、丸めたり、切り詰めたりしていませんか。",
    )


def extremes(values: Values, cases: dict[str, Any]) -> Finding:
    """大きなロジット、小さな温度、離れたロジット。"""
    for name, p in values.items():
        logits, t = cases[name]["logits"], cases[name]["temperature"]
        want = expected(logits, t)
        for row, row_want, z in zip(p, want, logits, strict=True):
            yield from _extreme_row(row, row_want, z, t)


def _extreme_row(p: Tensor, want: Tensor, z: Tensor, t: float) -> Finding:
    example = "（" + "、".join(f"{float(x):g}" for x in z) + f"）、T = {t:g} "
    if not bool(p.isfinite().all()):
        if float(z.max()) / t > 80:  # float32 の exp があふれる
            yield (
                "overflow",
                f"ロジット{example}で、確率が NaN か無限大になりました。expの値が、表せる数を超えています。"
                "行ごとの最大値を引いてから exp を取れば、確率は同じで、あふれません。",
            )
        yield (
            "underflow",
            f"ロジット{example}で、確率が NaN になりました。expの値がすべて0になり、0/0が起きています。"
            "引く最大値は、全体ではなく行ごとに、温度の割り算とそろえて求めます。",
        )
    elif bool(((p == 0) & (want > 1e-3)).any()):
        yield (
            "lost-small",
            f"ロジット{example}で、{float(want[p == 0].max()):.3g} になるはずの確率が、ちょうど0になりました。"
            "T = 1 の確率を一度作ると、小さい確率が0に丸められ、後から戻せません。ロジットのまま、T で割ってください。",
        )
    elif not bool(((p - want).abs() < 1e-3).all()):
        yield (
            "clipped",
            f"ロジット{example}で、確率が最大 {float((p - want).abs().max()):.3g} 違います。ロジットや T を切り詰めていませんか。"
            "行ごとの最大値を引けば、切り詰めなくても、あふれません。",
        )
