"""演習 01-6 の判定。破れた性質から診断を選ぶ。

返り値の形、差の向き、種の組、区間の幅、「それ以降ずっと」、枚数の順、境目の場合の順に調べる。
曲線の作り方は `crossover.py` にある。
"""

from typing import Any

from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

# 曲線の名前 → 利得が消える枚数の番目（枚数の小さい順）。None なら最後まで消えない
ANSWERS: dict[str, int | None] = {
    "falls": 2, "lasts": None, "never": 0, "harmful": 0, "turns": 1, "dip": 3, "dip-lasts": None, "single": 0,
    "t=2.05": 1, "t=2.35": 1, "t=2.53": 1, "t=2.65": 1, "t=2.9": None, "t=5.5": None, "three": 1, "ten": None,
    "common": 2, "noisy": None, "unsorted": 2, "equal": 1, "constant": None,
}  # fmt: skip


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    sizes = {name: sorted(case["sizes"].tolist()) for name, case in inputs["cases"].items()}
    return (
        first_raised(data)
        or first(_form(data, sizes))
        or first(_properties({name: _place(record["value"], sizes[name]) for name, record in data.items()}))
        or PASSED
    )


def _place(value: int | None, sizes: list[int]) -> int | None:
    return None if value is None else sizes.index(value)


def _form(data: Records, sizes: dict[str, list[int]]) -> Finding:
    """返り値は None か、渡した枚数のどれか。"""
    for record in data.values():
        if record["type"] != "NoneType" and not (record["shape"] == [] and type(record["value"]) is int):
            yield (
                "not-int",
                f"返り値が {record['type']} です。枚数を int で返してください（利得が最後まで残るなら None）。",
            )
    values = {name: record["value"] for name, record in data.items()}
    if all(value is None for value in values.values()):
        yield (
            "always-none",
            "どの曲線にも None が返りました。枚数を return していますか。利得が最後まで残るときだけ None です。",
        )
    outside = {name: value for name, value in values.items() if value is not None and value not in sizes[name]}
    if outside and all(0 <= value < len(sizes[name]) for name, value in outside.items()):
        yield "index-returned", "枚数ではなく、配列の番目が返りました。sizes のその番目にある枚数を返してください。"
    for name, value in outside.items():
        yield "not-a-size", f"{value} が返りましたが、渡した枚数は {sizes[name]} です。このどれかを返してください。"


def _properties(found: dict[str, int | None]) -> Finding:
    wrong = {name for name, want in ANSWERS.items() if found[name] != want}
    yield from _direction(found, wrong)
    yield from _pairs(wrong)
    yield from _width(wrong)
    yield from _onwards(wrong)
    yield from _edges(wrong)


def _direction(found: dict[str, int | None], wrong: set[str]) -> Finding:
    """はっきりした利得と損失、利得とも損失とも言えない差。"""
    if found["lasts"] == 0 and found["harmful"] is None:
        yield (
            "sign-reversed",
            "事前学習したほうが必ず良い曲線と、必ず悪い曲線の答えが逆です。差は pretrained − scratch です。",
        )
    if "never" in wrong and found["never"] is None and found["harmful"] == 0:
        yield (
            "no-interval",
            "差の平均は正でも、区間に0が入る曲線で、利得があると答えています。平均ではなく、区間の下端を0と比べてください。",
        )
    if "lasts" in wrong:
        yield (
            "clear-gain-lost",
            "どの枚数でも差が標準誤差の20倍ある曲線で、利得が消えたと答えています。None を返すはずです。",
        )
    if found["falls"] == 1:
        yield "last-gain", "利得が残る最大の枚数が返りました。求めるのは、その次の、利得が消えた最小の枚数です。"
    if found["falls"] == 3:
        yield (
            "not-smallest",
            "利得のない枚数のうち、最大のものが返りました。そこから先ずっと利得のない、最小の枚数です。",
        )
    if {"turns", "harmful"} & wrong:
        yield (
            "loss-ignored",
            "はっきり損をする（区間全体が0より小さい）枚数でも、利得が残っていると答えています。"
            "区間に0が入るかどうかだけでなく、下端が0以下かどうかを見てください。",
        )


def _pairs(wrong: set[str]) -> Finding:
    if "common" in wrong and "falls" not in wrong:
        yield (
            "unpaired",
            "同じ種の二つの正解率を同じだけ動かすと、答えが変わりました。差に共通のばらつきは残らないはずです。"
            "二つの平均を別々に求めずに、種ごとの差を取ってから、平均と標準偏差を求めてください。",
        )
    if "noisy" in wrong:
        yield (
            "pooled-spread",
            "ある枚数のばらつきを大きくすると、別の枚数の判断が変わりました。標準偏差は、枚数ごとに、種について（axis=1）求めてください。",
        )


def _width(wrong: set[str]) -> Finding:
    """種が 5 個なら、t 分布の 97.5 % 点は 2.776。"""
    if "t=2.05" in wrong:
        yield (
            "normal-not-t",
            "種が5個で、差が標準誤差の2.05倍のとき、利得があると答えています。正規分布の1.96ではなく、自由度4のt分布の2.776を使います。",
        )
    if "t=2.35" in wrong:
        yield (
            "confidence-level",
            "種が5個で、差が標準誤差の2.35倍のとき、利得があると答えています。両側95%の区間なら、片側は2.5%です（t.ppf(0.975, …)）。",
        )
    if "t=2.53" in wrong:
        yield (
            "ddof",
            "種が5個で、差が標準誤差の2.53倍のとき、利得があると答えています。標準偏差は K ではなく K − 1 で割ります（ddof=1）。",
        )
    if "t=2.65" in wrong:
        yield (
            "degrees-of-freedom",
            "種が5個で、差が標準誤差の2.65倍のとき、利得があると答えています。t分布の自由度は K − 1 です。",
        )
    if "t=5.5" in wrong:
        yield (
            "sd-not-se",
            "差が標準誤差の5.5倍あるのに、利得がないと答えています。標準偏差を √K で割り、平均の標準誤差にしていますか。",
        )
    if "t=2.9" in wrong:
        yield (
            "too-wide",
            "種が5個で、差が標準誤差の2.9倍のとき、利得がないと答えています。区間が広すぎます。信頼水準と自由度を確かめてください。",
        )
    if {"three", "ten"} & wrong:
        yield (
            "fixed-quantile",
            "種が5個なら正しいのに、3個や10個では違う答えになります。t分布の点は、種の数から求めてください。",
        )


def _onwards(wrong: set[str]) -> Finding:
    if {"dip", "dip-lasts"} & wrong:
        yield (
            "first-crossing",
            "途中で一度だけ利得が消え、次の枚数で戻る曲線で、答えが違います。「その枚数から先ずっと」利得がない枚数を返してください。",
        )
    if "unsorted" in wrong:
        yield (
            "unsorted",
            "枚数が小さい順に並んでいないとき、答えが違います。先に、枚数と二つの正解率を同じ順に並べ直してください。",
        )


def _edges(wrong: set[str]) -> Finding:
    if "equal" in wrong:
        yield (
            "zero-gain",
            "二つの正解率がすべて等しい枚数で、利得が残っていると答えています。下端がちょうど0のときも、利得はありません。"
            "標準偏差が0のときに NaN になっていないかも確かめてください。",
        )
    if "constant" in wrong:
        yield (
            "zero-spread",
            "どの種でも差が等しく正のとき、利得がないと答えています。標準偏差が0なら、区間は平均の一点になります。",
        )
    for name in sorted(wrong):
        yield "value-mismatch", f"利得の消える枚数が違う曲線があります（{name}）。条件を一つずつ確かめてください。"
