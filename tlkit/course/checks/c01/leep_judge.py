"""演習 01-2 の判定。正しい LEEP が必ず持ち、手で値の分かる性質を並べる。

前の性質が成り立つことを、後の性質が使う（並べ替え → 符号 → 条件付き確率 → 対数の底 → 平均 → 確率の使い方）。
場合の作り方は `leep.py` にある。最後に tlkit の値と比べ、性質で見つからない誤りを知らせる。
"""

import math
from typing import Any

from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.findings import Finding, Records, close, first, first_raised, not_a_number
from tlkit.course.checks.question import PASSED, Verdict, wrong
from tlkit.course.checks.trial import failed

RARE = (5, 200)  # 少数派の 1 枚に対する、多数派の枚数
AWKWARD = ("empty", "absent", "more-targets")


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    plain = {name: record for name, record in data.items() if name not in AWKWARD}
    return (
        first_raised(plain)
        or first(not_a_number(data, "LEEP"))
        or first(_properties(_Values(plain)))
        or _empty(data["empty"])
        or _labels(data)
        or first(_numbers(data, inputs["cases"]))
        or PASSED
    )


class _Values:
    """場合の名前から LEEP の値を引く。"""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __getitem__(self, name: str) -> float:
        return float(self._records[name]["value"])

    def near(self, name: str, want: float, tolerance: float = 1e-3) -> bool:
        return close(self[name], want, tolerance)


def _properties(v: _Values) -> Finding:
    yield from _invariances(v)
    yield from _sign(v)
    yield from _conditional(v)
    yield from _unit(v)
    yield from _marginal(v)
    yield from _average(v)
    yield from _mixture(v)


def _invariances(v: _Values) -> Finding:
    """番号の付け方と並び順では変わらず、ラベルを付け替えると変わる。"""
    if not math.isfinite(v["soft"]):
        yield (
            "not-finite",
            f"確率がすべて正でも、値が {v['soft']} になりました。0での割り算や、log(0)がないか確かめてください。",
        )
    if not v.near("soft-columns", v["soft"], 1e-6):
        yield (
            "column-order",
            "ソースのクラスの番号を付け替えると、値が変わりました。ソースの z 番とターゲットの z 番は無関係です。"
            "P(y|z) を数えて、z から y を予測してください。",
        )
    if not v.near("soft-rows", v["soft"], 1e-6):
        yield (
            "row-order",
            "画像とラベルを一緒に並べ替えると、値が変わりました。i 行目の確率と i 番目のラベルの対応が崩れていませんか。",
        )
    if not v.near("soft-renamed", v["soft"], 1e-6):
        yield (
            "label-names",
            "ラベルの番号を付け替えると、値が変わりました。番号は名前であり、大きさに意味はありません。",
        )
    if v.near("mixed-up", v["sharp"], 1e-6):
        yield "labels-ignored", "ラベルを別のものに替えても、値が変わりません。labels を計算に使っていますか。"
    if not v.near("soft-twice", v["soft"], 1e-6):
        yield (
            "not-averaged",
            f"同じ画像を2回ずつ並べると、値が {v['soft-twice'] / v['soft']:.2f} 倍になりました。件数で変わらないように、"
            "和ではなく平均を取ってください。",
        )


def _sign(v: _Values) -> Finding:
    """対数尤度なので 0 以下。ラベルが完全に分かるとき 0。"""
    if v["soft"] < 1e-9:
        return
    if v.near("sharp", 1):
        yield (
            "not-log",
            "ラベルが完全に分かる例で、値が0でなく1になりました。LEEPは確率そのものではなく、その対数の平均です。",
        )
    yield (
        "sign",
        f"値が正（{v['soft']:.3f}）になりました。確率の対数の平均なので、0以下のはずです。符号と、確率が1を超えていないかを確かめてください。",
    )


def _conditional(v: _Values) -> Finding:
    """z から y が一つに決まれば P(y|z) = 1 で、LEEP は 0。"""
    if not v.near("sharp", 0):
        seen = f"z からラベルが一つに決まる例で、値が0でなく {v['sharp']:.3f} です。"
        if close(v["blind-4"], 2 * v["blind-2"]):
            yield (
                "probs-changed",
                seen
                + "渡された確率を、そのまま使っていますか。もう一度softmaxに通したり、ならしたりすると、こうなります。ラベルごとの和の取り方も確かめてください。",
            )
        else:
            yield "not-conditional", seen + "同時確率 P(y, z) を P(z) で割り、条件付き確率 P(y|z) にしていますか。"
    if not v.near("split", 0):
        yield (
            "conditional-swapped",
            f"一つのラベルが二つの z に分かれていても、z からラベルは決まります。値は0のはずですが、{v['split']:.3f} です。"
            "使うのは P(z|y) ではなく P(y|z) です。割るのは P(y) でなく P(z) です。",
        )


def _unit(v: _Values) -> Finding:
    """何も分からないとき −log C。"""
    two, four = v["blind-2"], v["blind-4"]
    if close(two, -math.log(2)) and close(four, -math.log(4)):
        return
    if close(four, 2 * two):
        yield (
            "log-base",
            f"4種類のラベルについて何も分からない例で、値が −log 4 = −1.386 でなく {four:.3f} です。"
            "ラベルの数への比例は正しいので、対数の底（自然対数）か、掛けた定数を確かめてください。",
        )
    yield "blind-value", f"4種類のラベルについて何も分からない例で、値が −log 4 = −1.386 でなく {four:.3f} です。"


def _marginal(v: _Values) -> Finding:
    """ソースのクラスの出やすさ P(z) が偏っていても、P(y|z) の和は 1。"""
    for name, want in (("blind-skew", -math.log(2)), ("merged", -2 / 3 * math.log(2))):
        if not v.near(name, want):
            yield (
                "marginal-wrong",
                f"ソースのクラスの出やすさが偏っている例で、{want:.3f} になるはずの値が {v[name]:.3f} です。"
                "P(z) は z ごとに違います。P(y|z) を y について足すと、どの z でも1になりますか。",
            )


def _average(v: _Values) -> Finding:
    """画像ごとの対数を、すべての画像で平均する。"""
    want = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    if not v.near("blind-uneven", want):
        yield (
            "not-sample-mean",
            f"ラベルの枚数が3対1の例で、{want:.3f} になるはずの値が {v['blind-uneven']:.3f} です。"
            "対数はラベルごとではなく、画像ごとに平均します。枚数の多いラベルは、多い分だけ効きます。",
        )


def _mixture(v: _Values) -> Finding:
    """確率の大きさを使い、z について足してから対数を取る。"""
    if v.near("certain-low", v["certain-high"], 1e-6):
        yield (
            "argmax-used",
            "最も確率の高いクラスを変えずに、確率を0.9から0.6に下げても、値が変わりません。"
            "argmax で一つに決めるのは別の指標（NCE）です。LEEPは確率をそのまま重みに使います。",
        )
    few, many = ((1 + count) * v[f"rare-{count}"] for count in RARE)
    if not abs(many) < 1.5 * abs(few):  # 正しければ、和は −log 2 − 1/2 の近くにとどまる
        yield (
            "log-inside",
            f"多数派の画像を{RARE[0]}枚から{RARE[1]}枚に増やすと、対数の和が {few:.2f} から {many:.2f} に動きました。"
            "z について足してから対数を取れば、ほとんど動きません。Σ と log の順番を確かめてください。",
        )


def _empty(record: dict[str, Any]) -> Verdict | None:
    if failed(record):
        return raised(record["error"], "確率がすべて0のソースのクラスがあるとき、")
    if math.isfinite(record["value"]):
        return None
    return wrong(
        "empty-class",
        f"どの画像でも確率が0のソースのクラスがあると、値が {record['value']} になりました。P(z) = 0 で割っています。"
        "その z は誰も使わないので、割る前に除いてください。",
    )


def _labels(records: Records) -> Verdict | None:
    for name, code, when in (
        ("absent", "absent-class", "現れないラベルの番号がある"),
        ("more-targets", "more-targets", "ターゲットのクラスがソースのクラスより多い"),
    ):
        record = records[name]
        if failed(record):
            message = f"{when}とき、止まりました。配列の行の数を確かめてください。{raised(record['error']).message}"
            return wrong(code, message, record["error"]["index"])
        if not math.isfinite(record["value"]):
            return wrong(code, f"{when}とき、値が {record['value']} になりました。配列の行の数を確かめてください。")
    return None


def _numbers(records: Records, cases: dict[str, Any]) -> Finding:
    """tlkit の値との比較。ここまでの性質で見つからなかった誤りを知らせる。"""
    from tlkit.transferability import leep  # 答えを呼ぶ側の名前空間に正解を置かないよう、判定のときにだけ読み込む

    for name, record in records.items():
        probs, labels = cases[name]["source_probs"], cases[name]["labels"]
        want = leep(probs, labels)
        if not abs(record["value"] - want) <= 1e-5:
            yield (
                "value-mismatch",
                f"N = {len(labels)}、ソース {probs.shape[1]} クラス、ターゲット {len(set(labels.tolist()))} クラスの例で、"
                f"{want:.5f} になるはずの値が {record['value']:.5f} になりました。式と一行ずつ見比べてください。",
            )
