"""演習 02-2 の判定。組の形、パラメータの過不足、学習率の順に調べる。

正しい学習率は、出力から数えた段の番号 k だけで決まる。組の順番と、一つの段をいくつの組に分けるかは問わない。
"""

import math
from collections import Counter
from typing import Any

from tlkit.course.checks.c02 import layerwise_rates as rates
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Scene = dict[str, Any]
Scenes = dict[str, Scene]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    finished = {name: record["value"] for name, record in data.items() if not failed(record)}
    return (
        first_raised({"plain": data["plain"]})
        or first(_forms(finished))
        or first_raised({name: data[name] for name in ("all-frozen", "bare-stage")}, "学習するもののない段があるとき、")
        or first_raised(data)
        or first(_members(finished))
        or first(rates.findings(finished, inputs["scenes"]))
        or first(_untouched(finished))
        or PASSED
    )


def _forms(seen: Scenes) -> Finding:
    """組が、オプティマイザに渡せる形か。"""
    for scene in seen.values():
        if scene["type"] not in ("list", "tuple"):
            yield (
                "not-groups",
                f"返り値が {scene['type']} です。段ごとの dict を list に並べて返してください。",
            )
        for group in scene["groups"]:
            yield from _form(group)


def _form(group: dict[str, Any]) -> Finding:
    if group["type"] != "dict" or "params" not in group["keys"]:
        kind = f"{group['type']}（名前は {group['keys']}）" if "keys" in group else group["type"]
        yield (
            "not-dict",
            f'組の一つが {kind} です。{{"params": パラメータのlist, "lr": 学習率}} という dict にしてください。',
        )
    if "lr" not in group["keys"]:
        yield (
            "no-rate",
            "lr のない組があります。オプティマイザの既定の学習率が使われ、段ごとの差がなくなります。",
        )
    if group["params"] not in ("list", "tuple"):
        yield (
            "params-read-once",
            f"params が {group['params']} です。ジェネレータは、一度読むと空になります。"
            "数えたり印字したりした後でオプティマイザに渡すと、その段は黙って学習から漏れます。list にしてください。",
        )
    if group["rate"] is None or not math.isfinite(group["rate"]):
        yield "rate-not-number", f"lr が {group['rate_type']} です。有限の数（float）にしてください。"


def _members(seen: Scenes) -> Finding:
    """学習できるパラメータが、ちょうど一度ずつ入っているか。"""
    for name, scene in seen.items():
        names = rates.listed(scene)
        yield from _strangers(names)
        yield from _frozen(name, names)
        yield from _missing(name, names)
        yield from _twice(name, names)
        if any(not group["names"] for group in scene["groups"]):
            yield (
                "empty-group",
                "パラメータが一つもない組があります。学習するもののない段は、組を作らずに飛ばしてください。",
            )


def _strangers(names: list[str]) -> Finding:
    if any("移動統計" in item for item in names):
        yield (
            "buffers-included",
            "BatchNormの移動統計が params に入っています。勾配で学習するものではありません。"
            "state_dict() ではなく parameters() を使ってください。",
        )
    if "?" in names:
        yield (
            "not-parameters",
            "params に、渡した段のパラメータでないものが入っています。写しや detach したものを更新しても、モデルは変わりません。"
            "stage.parameters() が返すものを、そのまま入れてください。",
        )


def _frozen(scene: str, names: list[str]) -> Finding:
    trained = rates.wanted(scene)
    if extra := [item for item in names if item not in trained]:
        yield (
            "frozen-included",
            f"凍結された（requires_grad が False の）パラメータ {extra[0]} が組に入っています。"
            "学習しないものは、組から外してください。",
        )


def _missing(scene: str, names: list[str]) -> Finding:
    trained = rates.wanted(scene)
    lost = [item for item in trained if item not in names]
    if not lost:
        return
    stages = {trained[item] for item in trained}
    whole = [stage for stage in stages if not any(trained[item] == stage for item in trained if item in names)]
    if scene in ("frozen-stage", "frozen-parts"):
        yield (
            "trainable-left-out",
            f"凍結の混ざった段の並びで、学習できるパラメータ {lost[0]} がどの組にも入っていません。"
            "凍結されているかどうかは、段ごとではなく、パラメータごとに調べてください。",
        )
    if scene == "token" and lost == ["0:token"]:
        yield (
            "own-parameter-missing",
            "段が子の部品を介さずに直接持つパラメータ（token）が、どの組にも入っていません。stage.parameters() は、直接持つものも返します。",
        )
    if whole == [0] and len(stages) > 1:
        yield (
            "stem-missing",
            "いちばん入力に近い段のパラメータが、どの組にも入っていません。入力の段（stem）の入れ忘れは、誤りも警告も出ないので気づきにくい失敗です。",
        )
    if len(whole) == 1 and whole[0] == max(stages):
        yield "head-missing", "出力の段（分類層）のパラメータが、どの組にも入っていません。いちばん学習させたい段です。"
    yield (
        "parameter-missing",
        f"パラメータ {lost[0]} が、どの組にも入っていません（番号は段、続きは段の中の名前）。"
        "組に入らなかったパラメータは、黙って学習から漏れます。",
    )


def _twice(scene: str, names: list[str]) -> Finding:
    repeated = [item for item, count in Counter(names).items() if count > 1]
    if not repeated:
        return
    if scene in ("shared", "wholly-shared"):
        yield (
            "shared-twice",
            f"二つの段が共有するパラメータ {repeated[0]} が、2回入っています。オプティマイザを作るときに例外になります。"
            "すでに入れたパラメータを覚えておき、一度だけ入れてください。",
        )
    yield "listed-twice", f"パラメータ {repeated[0]} が、2回入っています。オプティマイザを作るときに例外になります。"


def _untouched(seen: Scenes) -> Finding:
    for scene in seen.values():
        if not scene["given_kept"]:
            yield (
                "stages-reordered",
                "呼んだ後に、渡した stages の並びが変わりました。reverse() や pop() は元の list を書き換えます。reversed(stages) を使ってください。",
            )
        if not scene["parameters_kept"]:
            yield (
                "parameters-touched",
                "呼んだ後に、パラメータの値か requires_grad が変わりました。この関数は、組を作るだけです。",
            )
