"""演習 07-7 の、選ぶ側（choose_and_test）の判定。形、テストの呼び方、選び方、NaN の順に調べる。

場面は `run_grid.py` にある。設定は、表の順の番号で表す。
"""

import math
from typing import Any

from tlkit.course.checks.findings import Finding, Records, close, first, first_raised
from tlkit.course.checks.question import Verdict
from tlkit.course.checks.trial import failed

Scenes = dict[str, dict[str, Any]]
KEYS = ("setting", "validation", "test")
NEAR = 1e-9
# 場面 → （診断の名前, 何が起きたか）。どの場面でも、平均の最も高い設定がただ一つ正しい
CHOICES = {
    "plain": ("not-best", "検証の平均が最も高い設定が、選ばれていません。"),
    "negative": (
        "negative",
        "値がどれも負の表で、検証の平均が最も高い設定が選ばれていません。損失に負号を付けた値のように、検証の値は負のこともあります。"
        "0を「これまでの最良」の初めの値にしないでください。",
    ),
    "lucky": (
        "lucky-seed",
        "一つの種だけで高い値が出て、平均は低い設定が選ばれました。運の良い種を選ぶと、新しい種では再現しません。種についての平均で選んでください。",
    ),
    "outlier": (
        "bad-seed-ignored",
        "一つの種で大きく失敗し、平均の低い設定が選ばれました。悪い種の値を除いたり、中央値を使ったりせずに、全部の種の平均で選んでください。",
    ),
    "one-bad-seed": (
        "worst-seed",
        "平均の最も高い設定に、一つだけ低い種があると、選ばれません。種についての平均で選んでください。",
    ),
    "tied": (
        "tie",
        "平均が同じ設定が三つあるとき、表で最も先のものが選ばれていません。同点でも、いつも同じ答えになるようにしてください。",
    ),
    "tied-again": (
        "tie-by-size",
        "平均が同じ設定が三つあり、設定が小さい順に並んでいるとき、表で最も先のものが選ばれていません。設定の値の大きさで決めていませんか。",
    ),
    "single": ("single", "設定と種が一つずつの表で、その設定が選ばれていません。"),
}


def judge_choice(records: Records, scenes: Scenes) -> Verdict | None:
    """すべての場面の記録を調べる。"""
    usual = {name: record for name, record in records.items() if name != "all-nan"}
    if verdict := first_raised(usual, "choose_and_testで、"):
        return verdict
    seen = {name: record["value"] for name, record in usual.items()}
    plain = {name: one for name, one in seen.items() if not name.startswith("nan")}
    return (
        first(_form(seen))
        or first(_calls(seen))
        or first(_chosen(plain, scenes))
        or first(_nan(seen, scenes))
        or first(_values(seen, scenes))
        or first(_all_nan(records["all-nan"]))
    )


def _form(seen: Scenes) -> Finding:
    for one in seen.values():
        if one["refused"]:
            yield "refused", "選べる設定があるのに、choose_and_testがValueErrorを送出しました。"
        elif one["type"] != "dict":
            yield (
                "choice-not-dict",
                f"choose_and_testの返り値が {one['type']} です。{'、'.join(KEYS)} を名前とするdictを返してください。",
            )
        elif missing := [key for key in KEYS if key not in one["keys"]]:
            yield "missing-key", f"choose_and_testの返り値に {'、'.join(missing)} がありません。"
        elif one["setting"] is None:
            yield (
                "unknown-setting",
                "返り値のsettingが、表にある設定ではありません。表の名前を、そのまま入れてください。",
            )
        if one["changed"]:
            yield "table-changed", "引数のtableの中身が変わりました。書き換えずに、新しい辞書を作ってください。"


def _calls(seen: Scenes) -> Finding:
    for one in seen.values():
        calls = one["calls"]
        if len(set(calls)) > 1:
            yield (
                "test-for-many",
                f"testが、{len(set(calls))}個の設定について呼ばれました。テストの値をいくつも見ると、良いものを選んだり、選び直したりできてしまい、"
                "その値はもう新しいデータでの見積もりになりません。検証だけで選び、選んだ設定を一度だけ測ってください。",
            )
        if len(calls) > 1:
            yield "test-twice", f"testが{len(calls)}回呼ばれました。一度だけ呼び、その値を使い回してください。"
        if not calls:
            yield "test-not-called", "testが呼ばれませんでした。選んだ設定を、一度だけtestに渡してください。"
        if calls != [one["setting"]]:
            yield "tested-another", "testに渡された設定と、返り値のsettingが違います。選んだ設定を測ってください。"


def _chosen(seen: Scenes, scenes: Scenes) -> Finding:
    for name, (code, said) in CHOICES.items():
        best = _best(scenes[name]["rows"])
        if seen[name]["setting"] != best:
            yield code, f"{said}{_shown(scenes[name], seen[name]['setting'], best)}"


def _nan(seen: Scenes, scenes: Scenes) -> Finding:
    for name in ("nan-first", "nan-last", "nan-middle"):
        rows, chosen = scenes[name]["rows"], seen[name]["setting"]
        if any(map(math.isnan, rows[chosen])):
            yield (
                "nan-wins",
                f"値の一つがNaNの設定が選ばれました（{_row(rows[chosen])}）。学習が発散した種のある設定です。"
                "NaNを飛ばして平均したり、そのままmaxに渡したりせずに、先に除いてください。",
            )
        if chosen != _best(rows):
            yield (
                "nan-hides",
                "NaNのある設定が表にあると、残りの中で平均の最も高い設定が選ばれません。NaNとの比較はいつも偽なので、maxや並べ替えの結果が、"
                f"表の並びで変わります。先に除いてください。{_shown(scenes[name], chosen, _best(rows))}",
            )


def _values(seen: Scenes, scenes: Scenes) -> Finding:
    for name, one in seen.items():
        row = scenes[name]["rows"][one["setting"]]
        mean, validation = sum(row) / len(row), one["validation"]
        if validation is None or not close(validation, mean, NEAR):
            yield (
                "validation-value",
                f"validationが {validation} です。選んだ設定（{_row(row)}）の、種についての平均（{mean:.4g}）を入れてください。",
            )
        if one["test"] != scenes[name]["tests"][one["setting"]]:
            yield "test-value", "返り値のtestが、testの返した値と違います。そのまま入れてください。"


def _all_nan(record: dict[str, Any]) -> Finding:
    told = "どの設定にもNaNがあるとき"
    if failed(record):
        yield (
            "all-nan-error",
            f"{told}、{record['error']['type']} が起きました。選べる設定がないことを述べるValueErrorを送出してください。",
        )
    elif not record["value"]["refused"]:
        yield "all-nan-silent", f"{told}、ValueErrorが送出されませんでした。選べる設定がないのに、値が返ります。"
    elif record["value"]["calls"]:
        yield "all-nan-test", f"{told}、testが呼ばれました。選べないと分かってから、テストを見てはいけません。"


def _best(rows: list[list[float]]) -> int:
    means = [sum(row) / len(row) for row in rows]
    usable = [place for place, mean in enumerate(means) if not math.isnan(mean)]
    return max(usable, key=lambda place: (means[place], -place))


def _shown(scene: dict[str, Any], chosen: int, best: int) -> str:
    rows = scene["rows"]
    return f"選ばれた設定の値は {_row(rows[chosen])}、選ぶべき設定の値は {_row(rows[best])} です。"


def _row(row: list[float]) -> str:
    return "、".join(f"{value:.4g}" for value in row)
