"""演習 02-4 の判定。学習する段の範囲、モード、残った勾配の順に調べる。

場面の作り方は `unfreeze_top.py`、段の並びは `unfreeze_stages.py` にある。
"""

from collections.abc import Iterator
from typing import Any

from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Call = dict[str, Any]
Scenes = dict[str, list[Call]]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:  # noqa: ARG001 記録だけで判定できる
    """probe の記録を判定する。"""
    finished = {name: record["value"] for name, record in data.items() if not failed(record)}
    return (
        first_raised({"one": data["one"]})
        or first_raised({"beyond": data["beyond"]}, "count が段の数より大きいとき、")
        or first_raised(data)
        or first(_properties(finished))
        or PASSED
    )


def _properties(seen: Scenes) -> Finding:
    yield from _kept(seen)
    yield from _mixed(seen)
    yield from _scope(seen)
    yield from _history(seen)
    yield from _modes(seen)
    yield from _stale(seen)
    yield from _trained(seen)


def _kept(seen: Scenes) -> Finding:
    """渡したものが、呼び出しだけで変わらないか。"""
    for call in _calls(seen):
        if not call["given_kept"]:
            yield (
                "stages-reordered",
                "呼んだ後に、渡した stages の並びが変わりました。reverse() や pop() は元の list を書き換え、次の呼び出しを狂わせます。"
                "reversed(stages) か、番号を使ってください。",
            )
        if any(call["edited"]):
            yield (
                "values-changed",
                "呼んだだけで、重みか移動統計の値が変わりました。この関数は、値を変えずに、学習する段を決めます。",
            )


def _scope(seen: Scenes) -> Finding:
    """requires_grad の範囲。単純な場面から順に調べる。"""
    one, everything = _trains(seen["one"][0]), _trains(seen["beyond"][0])
    if all(all(_trains(call)) for name in ("one", "none", "growing", "shrinking") for call in seen[name]):
        yield (
            "nothing-frozen",
            "count を変えても、すべての段のパラメータが requires_grad=True のままです。部品ではなく、そのパラメータに設定してください。",
        )
    if one[0] and not one[-1]:
        yield (
            "wrong-end",
            "count = 1 で、入力の段が学習され、出力の段が凍結されました。学習するのは、出力に近い側の段です。",
        )
    if one != _wanted(seen["one"][0]):
        yield (
            "off-by-one",
            f"count = 1 で、学習する段が{sum(one)}個になりました。ちょうど1個（分類層だけ）のはずです。",
        )
    if _trains(seen["none"][0]) != _wanted(seen["none"][0]):
        yield (
            "count-zero",
            "count = 0 で、学習する段が残りました。すべてを凍結してください。stages[-0:] は、空ではなく、すべての段になります。",
        )
    if everything != _wanted(seen["beyond"][0]):
        yield (
            "count-beyond",
            "count が段の数より大きいときに、凍結された段が残りました。すべてを学習してください。"
            "len(stages) - count が負になると、スライスは後ろから数えます。",
        )


def _mixed(seen: Scenes) -> Finding:
    """一つの段の中がそろっているか。"""
    for call in _calls(seen):
        for values in call["trainable"]:
            if len(set(values.values())) == 2:
                lost = next(name for name, trainable in values.items() if not trainable)
                yield (
                    "mixed-stage",
                    f"一つの段の中に、学習するパラメータと、凍結されたパラメータ（{lost} など）が混ざっています。段は丸ごと切り替えてください。",
                )


def _history(seen: Scenes) -> Finding:
    """前の呼び出しの状態に左右されないか。"""
    for name in ("shrinking", "to-none-and-back", "growing", "given-frozen", "bare"):
        for call in seen[name]:
            got, want = _trains(call), _wanted(call)
            extra = any(a and not b for a, b in zip(got, want, strict=True))
            lacking = any(b and not a for a, b in zip(got, want, strict=True))
            if name == "bare" and (extra or lacking):
                yield (
                    "bare-not-counted",
                    "パラメータのない段（Flatten など）があると、学習する段がずれます。パラメータがなくても、段は1個と数えてください。",
                )
            if extra:
                yield (
                    "never-refrozen",
                    f"count を減らして{call['count']}にしたのに、前に学習していた段が requires_grad=True のまま残りました。"
                    "学習しない段は、呼ぶたびに凍結してください。",
                )
            if lacking:
                yield (
                    "never-unfrozen",
                    f"count = {call['count']} で、凍結されていた段が学習できるようになりません。"
                    "学習する段は、requires_grad を True に戻してください。",
                )


def _modes(seen: Scenes) -> Finding:
    """凍結した段は評価モード、学習する段は学習モードか。probe は、呼ぶ前にすべてを train() にしている。"""
    for call in _calls(seen):
        for trains, moved, values in zip(_wanted(call), call["moved"], call["trainable"], strict=True):
            buffers = [name for name in moved if name not in values]
            if not trains and buffers:
                yield (
                    "statistics-moved",
                    f"凍結した段のBatchNormの移動統計（{buffers[0]}）が動きました。requires_grad では止まりません。"
                    "凍結した段は eval() にしてください。",
                )
    for call in _calls(seen):
        for trains, modes in zip(_wanted(call), call["modes"], strict=True):
            different = [name for name, training in modes.items() if training != trains and name != "段"]
            if different and trains:
                yield (
                    "trained-in-eval",
                    f"count = {call['count']} で、学習する段の部品 {different[0]} が評価モードです。学習する段は学習モードにしてください。",
                )
            if different:
                yield (
                    "partly-in-train",
                    f"凍結した段の部品 {different[0]} が学習モードのままです。BatchNormだけでなく、Dropoutなども含めて段ごと eval() にしてください。",
                )


def _stale(seen: Scenes) -> Finding:
    """凍結した段に勾配が残り、更新が続いていないか。"""
    for call in _calls(seen):
        for trains, grads, moved in zip(_wanted(call), call["grads"], call["moved"], strict=True):
            if trains:
                continue
            amount = max(moved.values(), default=0.0)
            if "kept" in grads.values():
                yield (
                    "stale-grad",
                    f"凍結した段に、前の勾配が .grad として残っています。この後の更新で、凍結したはずの重みが最大 {amount:.2g} 動きました。"
                    "オプティマイザは requires_grad ではなく .grad を見ます。None にしてください。",
                )
            if "zero" in grads.values():
                yield (
                    "grad-zeroed",
                    f".grad を0で埋めても、モーメンタムと重み減衰が重みを動かし続けます（この後の更新で最大 {amount:.2g}）。"
                    "0ではなく None にしてください。",
                )
            if moved:
                yield "frozen-moved", f"凍結した段の {next(iter(moved))} が、その後の学習で動きました。"


def _trained(seen: Scenes) -> Finding:
    """学習する段は、勾配を失わず、実際に動くか。"""
    for call in _calls(seen):
        for trains, grads, had, moved, values in zip(
            _wanted(call), call["grads"], call["had_grads"], call["moved"], call["trainable"], strict=True
        ):
            if trains and had and "kept" not in grads.values():
                yield (
                    "trained-grad-cleared",
                    "学習を続ける段の .grad まで消えました。勾配をためている途中で呼ぶと、その分の学習が失われます。"
                    "消すのは、凍結する段のものだけです。",
                )
            if trains and values and not moved:
                yield "trained-still", "学習するはずの段が、その後の学習で動きませんでした。"


def _calls(seen: Scenes) -> Iterator[Call]:
    for calls in seen.values():
        yield from calls


def _trains(call: Call) -> list[bool]:
    """段ごとに、学習するか。パラメータのない段は、期待どおりとみなす。"""
    return [
        any(values.values()) if values else want for values, want in zip(call["trainable"], _wanted(call), strict=True)
    ]


def _wanted(call: Call) -> list[bool]:
    total = len(call["trainable"])
    return [index >= total - call["count"] for index in range(total)]
