"""演習 02-8 の判定。返り値の組、凍結の範囲、触れてはいけない値、学習率、train() の下での振る舞い、の順に調べる。

初めて呼んだ場面を先に、二度目に呼んだ場面を後に見る。scratch の初期化は `prepare_scratch.py` にある。
"""

from typing import Any

from tlkit.course.checks.c02.prepare_model import STAGES, TRAINED, keys, named, stage_of
from tlkit.course.checks.c02.prepare_rates import rates
from tlkit.course.checks.c02.prepare_scratch import scratch
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Scene = dict[str, Any]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    scenes = inputs["scenes"]
    data = {
        name: record if failed(record) else record | {"value": _decoded(record["value"])}
        for name, record in data.items()
    }
    once = {name: record for name, record in data.items() if len(scenes[name]["methods"]) == 1}
    return (
        first_raised(once)
        or first(_findings({name: record["value"] for name, record in once.items()}, scenes))
        or first_raised(data, "同じモデルに、別の手法で2度目に呼ぶと、")
        or first(_again({name: data[name]["value"] for name in data if name not in once}, scenes))
        or PASSED
    )


def _decoded(scene: Scene) -> Scene:
    """番号を名前に直す。"""
    rows = [row | {"names": None if row["names"] is None else named(row["names"])} for row in scene["groups"]["rows"]]
    trainable = set(named(scene["trainable"]))
    parameters = [name for name in keys() if "running" not in name and "num_batches" not in name]
    return scene | {
        "groups": scene["groups"] | {"rows": rows},
        "trainable": {name: name in trainable for name in parameters},
        **{key: dict(zip(keys(), scene[key], strict=True)) for key in ("before", "after")},
        **{key: named(scene[key] or []) for key in ("graded", "stirred", "moved")},
    }


def _findings(seen: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    """初めて呼んだ場面。"""
    parts = [_form, _flags, _coverage, _touched, _gradients, _rates]
    yield from _every(parts, seen, scenes)
    yield from scratch(seen["scratch"], seen["redrawn"], seen["other"])
    yield from _every([_behaviour, _moved], seen, scenes)


def _every(parts: list[Any], seen: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    """一つの性質をすべての場面で調べてから、次の性質に進む。"""
    for part in parts:
        for name, scene in seen.items():
            yield from part(scenes[name]["methods"][-1], scene | scenes[name])


def _form(_method: str, scene: Scene) -> Finding:
    groups = scene["groups"]
    if groups["kind"] != "groups":
        yield (
            "not-groups",
            f'返り値が {groups["kind"]} です。{{"params": …, "lr": …}} という dict を並べた list を返してください。',
        )
    for row in groups["rows"]:
        if row["names"] is None or row["lr"] is None:
            yield (
                "group-keys",
                '組の中に、"params"（パラメータの list）か "lr"（数）のないものがあります。'
                "組ごとの学習率を、必ず書いてください。",
            )
    listed = [name for row in groups["rows"] for name in row["names"]]
    if "?" in listed:
        yield (
            "foreign-parameters",
            "組に、このモデルのパラメータでないものが入っています。写しを渡すと、学習してもモデルは変わりません。"
            "stage.parameters() の中身をそのまま渡してください。",
        )
    if twice := [name for name in listed if listed.count(name) > 1]:
        yield (
            "duplicated",
            f"{twice[0]} が、二つ以上の組に入っています。どのパラメータも、ちょうど一つの組に入れてください。",
        )


def _flags(method: str, scene: Scene) -> Finding:
    """requires_grad が、手法のとおりか。"""
    flags: dict[str, set[bool]] = {stage: set() for stage in STAGES}
    for name, value in scene["trainable"].items():
        flags[stage_of(name)].add(value)
    if mixed := [stage for stage, values in flags.items() if len(values) > 1]:
        yield (
            "stage-split",
            f"{method} で、段 {mixed[0]} の中の requires_grad がそろっていません。"
            "BatchNorm の重みも含めて、段の全部のパラメータを同じにしてください。",
        )
    trained = [stage for stage in STAGES if flags[stage] == {True}]
    if trained == list(TRAINED[method]):
        return
    seen = f"{method} で、学習する段が {'、'.join(trained) or 'なし'} になりました。"
    if len(trained) == len(STAGES):
        yield (
            "not-frozen",
            f"{seen}凍結する段では requires_grad を False にしてください。"
            "オプティマイザに渡さないだけでは、勾配の計算が残り、速くなりません。",
        )
    if method in ("discriminative", "scratch"):
        yield "all-trained", f"{seen}この手法では、入力に近い段も含めて、すべての段を学習します。"
    wanted = "、".join(TRAINED[method])
    if method == "head":
        yield (
            "head-boundary",
            f"{seen}正しくは {wanted} です。手法の名前の head は分類層のことで、model.head という段ではありません。",
        )
    yield (
        "last-block-boundary",
        f"{seen}正しくは {wanted} です。最後の段は model.head、分類層は model.classifier です。",
    )


def _coverage(_method: str, scene: Scene) -> Finding:
    """学習するパラメータが、ちょうど組に入っているか。"""
    listed = {name for row in scene["groups"]["rows"] for name in row["names"]}
    wanted = {name for name, value in scene["trainable"].items() if value}
    if missing := sorted(wanted - listed):
        yield (
            "missing-from-groups",
            f"{missing[0]} は requires_grad が True なのに、どの組にもありません。勾配を計算しても、更新されません。",
        )
    if extra := sorted(listed - wanted):
        yield (
            "frozen-in-groups",
            f"{extra[0]} は凍結したのに、組に入っています。組には、学習するパラメータだけを入れてください。",
        )


def _touched(method: str, scene: Scene) -> Finding:
    """scratch のほかでは、呼んだだけで値が変わってはいけない。"""
    changed = [name for name, value in scene["before"].items() if scene["after"].get(name) != value]
    if changed and method != "scratch":
        kind = "移動統計" if "running" in changed[0] or "num_batches" in changed[0] else "重み"
        yield (
            "values-touched",
            f"{method} で呼んだだけで、{kind} {changed[0]} が変わりました。事前学習の値を初期化するのは scratch だけです。",
        )


def _gradients(_method: str, scene: Scene) -> Finding:
    if scene["graded"]:
        frozen = [name for name in scene["graded"] if not scene["trainable"][name]]
        name = (frozen or scene["graded"])[0]
        yield (
            "stale-gradients",
            f"呼ぶ前の勾配が、{name} に残っています。requires_grad を False にしても、残った grad は消えません。"
            "古いオプティマイザや勾配のクリッピングが、それを使ってしまいます。model.zero_grad() で None に戻してください。",
        )


def _rates(method: str, scene: Scene) -> Finding:
    found: dict[str, set[float]] = {}  # 段の名前 → その段のパラメータの学習率
    for row in scene["groups"]["rows"]:
        for name in row["names"]:
            found.setdefault(stage_of(name), set()).add(row["lr"])
    yield from rates(method, found, scene["base_lr"], scene["decay"])


def _behaviour(method: str, scene: Scene) -> Finding:
    """train() の後、凍結した段は評価モードのように、学習する段は学習モードのように振る舞うか。"""
    if scene["awake"]:
        yield (
            "eval-broken",
            f"model.eval() の後も、部品 {scene['awake'][0]} が学習モードのままです。train を書き換えたときは、mode を渡してください。",
        )
    if not scene["chained"]:
        yield (
            "train-returns",
            "model.train() か model.eval() が、モデルを返さなくなりました。model.eval()(x) のような書き方が動かなくなります。"
            "train を書き換えたときは、元と同じくモデル自身を返してください。",
        )
    frozen = [stage for stage in STAGES if stage not in TRAINED[method]]
    stirred = [name for name in scene["stirred"] if stage_of(name) in frozen]
    if stirred:
        yield (
            "statistics-move",
            f"{method} で凍結した段なのに、model.train() の後に画像を通すと、{stirred[0]} が動きました。"
            "移動統計は requires_grad では止まりません。train() を呼ばれても評価モードにとどまるようにしてください。",
        )
    if acting := [stage for stage in frozen if scene["acts"][stage]]:
        yield (
            "frozen-acts",
            f"{method} で凍結した段 {acting[0]} の出力が、model.train() の後では、評価モードと違います。"
            "BatchNorm はバッチの統計を使わず、Dropout は働かないように、段の全体を評価モードに保ってください。",
        )
    asleep = [stage for stage in TRAINED[method] if stage != "classifier" and not scene["acts"][stage]]
    if asleep:
        yield (
            "trained-asleep",
            f"{method} で学習する段 {asleep[0]} が、model.train() の後も評価モードのままです。凍結するのは、学習しない段だけです。",
        )


def _moved(method: str, scene: Scene) -> Finding:
    """本当に学習したとき、学習する段のパラメータだけが、すべて動いたか。"""
    moved = set(scene["moved"])
    if outside := sorted(name for name in moved if stage_of(name) not in TRAINED[method]):
        yield "frozen-moved", f"{method} で学習すると、凍結した段の {outside[0]} が動きました。"
    if still := [stage for stage in TRAINED[method] if stage not in {stage_of(name) for name in moved}]:
        yield (
            "did-not-move",
            f"{method} で用意した組で2回更新しても、段 {still[0]} のパラメータが一つも動きませんでした。",
        )


def _again(seen: dict[str, Scene], scenes: dict[str, Scene]) -> Finding:
    """別の手法で用意し、学習した後に、もう一度呼んだ場面。前の手法の名残がないか。"""
    for name, scene in seen.items():
        earlier, method = scenes[name]["methods"]
        left = f"{earlier} で用意したモデルを {method} で用意し直すと、前の設定が残ります。"
        for code, message in _flags(method, scene):
            kind = "not-unfrozen" if code in ("all-trained", "head-boundary", "last-block-boundary") else "not-refrozen"
            yield kind, left + message
        for _, message in _behaviour(method, scene):
            yield "mode-left", left + message
        for part in (_form, _coverage, _touched, _gradients, _rates, _moved):
            for _, message in part(method, scene | scenes[name]):
                yield "second-call", left + message
