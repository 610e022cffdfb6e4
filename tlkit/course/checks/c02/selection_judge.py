"""演習 02-7 の判定。破れた性質から診断を選ぶ。

返り値の形、検証での選び方、テストの最大、差、区間の半幅の順に調べる。
表の作り方は `selection.py` にある。
"""

import math
from typing import Any, NamedTuple

import numpy as np

from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

NEAR = 1e-6


class Report(NamedTuple):
    """答えの 4 つの数。"""

    honest: float
    optimistic: float
    gap: float
    half: float


# 半幅が標準誤差の何倍かで分ける。R = 5 なら、t 分布の 97.5 % 点は 2.776
TOO_NARROW = (
    (1.2, "se-returned", "標準誤差に、t分布の点を掛けてください。"),
    (2.05, "normal-not-t", "正規分布の1.96ではなく、自由度4のt分布の点を使います。"),
    (2.3, "confidence-level", "両側95%の区間なら、片側は2.5%です（t.ppf(0.975, …)）。"),
    (2.53, "ddof", "標準偏差は R ではなく R − 1 で割ります（ddof=1）。"),
    (2.7, "degrees-of-freedom", "t分布の自由度は R − 1 です。"),
)
TOO_WIDE = (
    (5.8, "sd-not-se", "標準偏差を √R で割って、平均の標準誤差にしてください。"),
    (2.85, "too-wide", "信頼水準と自由度を確かめてください。全幅を返していませんか。"),
)
Reports = dict[str, Report]
Cases = dict[str, Any]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := first_raised(data) or first(_form(data)):
        return verdict
    reports = {name: Report(*record["value"]) for name, record in data.items()}
    return first(_properties(reports, inputs["cases"])) or PASSED


def _form(data: Records) -> Finding:
    for record in data.values():
        value = record["value"]
        if not isinstance(value, list) or len(value) != 4 or any(type(item) not in (int, float) for item in value):
            yield (
                "not-four-numbers",
                f"返り値が {record['type']} です。(honest, optimistic, gap, half) の4つの数を、この順の組で返してください。",
            )


def _properties(v: Reports, cases: Cases) -> Finding:
    yield from _rows_and_columns(v, cases)
    yield from _best(v, cases)
    yield from _order(v)
    yield from _choice(v, cases)
    yield from _ties(v, cases)
    yield from _gap(v)
    yield from _half(v)
    yield from _quantile(v)
    yield from _all_values(v, cases)


def _rows_and_columns(v: Reports, cases: Cases) -> Finding:
    """honest はテストの値か。候補が一つしかなければ、選び方によらず、その候補の平均になる。"""
    if not close(v["raised-validation"].honest, v["wide"].honest, NEAR):
        yield (
            "validation-reported",
            "検証の値をすべて同じだけ増やすと、honest も変わりました。検証の値は、候補を選ぶためだけに使います。"
            "報告するのは、選んだ候補のテストの値です。",
        )
    if v["single"].honest > 1.5:
        yield (
            "percent",
            f"honest が {v['single'].honest:.3g} です。正解率は、百分率ではなく0から1の数で返してください。",
        )
    want = float(cases["single"]["test"].mean())
    if not close(v["single"].honest, want, NEAR):
        yield (
            "axis",
            f"候補が一つだけ（形が (5, 1)）のとき、honest はその候補のテストの平均 {want:.3f} です。ところが、"
            f"{v['single'].honest:.3f} でした。行が繰り返し、列が候補です。行ごと（axis=1）に選び、行ごとに1個の値を取り出してください。",
        )


def _order(v: Reports) -> Finding:
    if v["wide"].honest > v["wide"].optimistic + NEAR:
        yield (
            "order",
            "honest が optimistic より大きくなりました。同じテストの値から選ぶので、最大を越えることはありません。"
            "返す順番を確かめてください。",
        )


def _choice(v: Reports, cases: Cases) -> Finding:
    """検証の順位だけを使って選び、報告するのはテストの値か。"""
    agree, opposite = v["agree"], v["opposite"]
    test = cases["agree"]["test"]
    if close(agree.honest, opposite.honest, NEAR):
        yield (
            "validation-unused",
            "検証の順位を逆にしても、honest が変わりません。候補を選ぶのに、検証の値を使ってください。テストの値で選んではいけません。",
        )
    if close(agree.honest, test.min(axis=1).mean(), NEAR):
        yield (
            "worst-chosen",
            "検証とテストの順位が同じとき、テストで最低の候補を選びました。正解率が最大の候補を選んでください。",
        )
    if close(v["one-winner"].honest, v["one-winner"].optimistic, NEAR) and not close(
        agree.honest, agree.optimistic, NEAR
    ):
        yield (
            "one-for-all",
            "繰り返しごとに検証の最良が違うのに、同じ候補を選び続けています。検証の値を平均してから選ばずに、"
            "繰り返し（行）ごとに選んでください。",
        )


def _ties(v: Reports, cases: Cases) -> Finding:
    """検証がどの候補も同じなら、先頭の候補を選ぶ。"""
    means = {name: cases[name]["test"].mean(axis=0) for name in ("ties-low", "ties-high")}
    found = [v[name].honest for name in means]
    if all(close(value, columns.max(), NEAR) for value, columns in zip(found, means.values(), strict=True)):
        yield (
            "ties-by-test",
            "検証の値が並んだとき、テストの値が高い候補を選んでいます。テストの値で決めてはいけません。先頭の候補を選びます。",
        )
    if any(not close(value, columns[0], NEAR) for value, columns in zip(found, means.values(), strict=True)):
        yield (
            "ties",
            "検証の値がどの候補も同じとき、先頭の候補のテストの値になりません。同じ値なら、番号の小さい候補を選んでください。",
        )


def _best(v: Reports, cases: Cases) -> Finding:
    want = float(cases["new-winners"]["test"].max(axis=1).mean())
    found = v["new-winners"].optimistic
    if found < want - NEAR:
        yield (
            "max-of-means",
            f"最良の候補が繰り返しごとに変わる例で、optimistic が {want:.3f} でなく {found:.3f} です。"
            "候補ごとの平均を取ってから最大を選ぶのではなく、繰り返しごとの最大を平均してください。",
        )
    if found > want + NEAR:
        yield (
            "single-max",
            f"optimistic が {want:.3f} でなく {found:.3f} です。表全体の最大ではなく、繰り返しごとの最大を平均してください。",
        )


def _gap(v: Reports) -> Finding:
    for report in v.values():
        if report.gap < -NEAR and report.optimistic > report.honest + NEAR:
            yield (
                "gap-sign",
                "gap が負になりました。gap は optimistic − honest の平均です。引き算の向きを確かめてください。",
            )
        if not close(report.gap, report.optimistic - report.honest, NEAR):
            yield (
                "gap-mismatch",
                f"gap が {report.gap:.4g} ですが、optimistic − honest は {report.optimistic - report.honest:.4g} です。"
                "差の平均は、平均の差と同じになります（絶対値や割合にしないでください）。",
            )


def _half(v: Reports) -> Finding:
    if not math.isfinite(v["same-gap"].half) or not close(v["same-gap"].half, 0, NEAR):
        yield (
            "zero-spread",
            f"どの繰り返しでも差が等しいとき、半幅が0でなく {v['same-gap'].half:.3g} です。"
            "半幅は、差のばらつきだけで決まります。正解率の割り算や、0での割り算が入っていませんか。",
        )
    if not close(v["lifted"].half / v["r=5"].half, 1, 1e-4):
        yield (
            "unpaired",
            "繰り返しごとに、すべての候補のテストの値を同じだけ増やすと、半幅が変わりました。差には残らないはずです。"
            "honest と optimistic の区間を別々に求めずに、繰り返しごとの差 d_r の標準偏差を使ってください。",
        )


def _quantile(v: Reports) -> Finding:
    """差の不偏標準偏差は 0.01。"""
    times = {count: v[f"r={count}"].half / (0.01 / math.sqrt(count)) for count in (3, 5, 12)}
    five = f"5回の繰り返しで、半幅が標準誤差 s/√R の {times[5]:.3g} 倍です（正しくは2.776倍）。"
    for bound, code, advice in TOO_NARROW:
        if times[5] < bound:
            yield code, five + advice
    for bound, code, advice in TOO_WIDE:
        if times[5] > bound:
            yield code, five + advice
    if not close(times[3], 4.303, 1e-3) or not close(times[12], 2.201, 1e-3):
        yield (
            "fixed-quantile",
            "5回の繰り返しでは正しいのに、3回や12回では半幅が違います。t分布の点は、繰り返しの数から求めてください。",
        )


def _all_values(v: Reports, cases: Cases) -> Finding:
    for name, report in v.items():
        validation, test = cases[name]["validation"], cases[name]["test"]
        honest = test[np.arange(len(test)), validation.argmax(axis=1)]
        for key, want in (("honest", honest.mean()), ("optimistic", test.max(axis=1).mean())):
            if not close(getattr(report, key), float(want), NEAR):
                yield (
                    "value-mismatch",
                    f"形が {test.shape} の表で、{key} が {want:.4f} でなく {getattr(report, key):.4f} です。",
                )
