"""演習 02-5 の判定。呼び方、モード、返り値、戻した重み、止まり方の順に調べる。

台本は `keep_best.py`、記録の取り方は `keep_best_model.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.c02.keep_best_weights import restored, where
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Scenes = dict[str, dict[str, Any]]


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    usual = {name: record for name, record in data.items() if name != "all-nan"}
    if verdict := first_raised(usual):
        return verdict
    seen = {name: record["value"] for name, record in data.items() if not failed(record)}
    scenes = inputs["scenes"]
    finished = {name: scene for name, scene in seen.items() if name != "all-nan"}
    return (
        first(_calls(finished, scenes))
        or first(_modes(finished))
        or first(_returned(finished, scenes))
        or first(restored(finished, scenes))
        or first(_stopping(finished, scenes))
        or first(_nothing_best(data["all-nan"]))
        or PASSED
    )


def _calls(seen: Scenes, scenes: dict[str, Any]) -> Finding:
    """1 エポックに、学習が 1 回、検証が 1 回か。"""
    for name, scene in seen.items():
        if scene["overrun"] or scene["trained"] > scenes[name]["epochs"]:
            yield (
                "too-many-epochs",
                f"epochs = {scenes[name]['epochs']} なのに、それより多く学習しました。学習は多くても epochs 回です。",
            )
        if any(call["kind"] == "T" and not call["original"] for call in scene["calls"]):
            yield (
                "trained-copy",
                "train_epoch に、渡されたモデルではなく、その写しを渡しています。最適化手法が持っているのは、もとのモデルのパラメータです。"
                "学習はもとのモデルで行い、写しは取っておくだけにします。",
            )
        order = "".join(call["kind"] for call in scene["calls"])
        if order.startswith("V"):
            yield "validated-first", "初めの学習の前に validate を呼んでいます。検証は、各エポックの学習の後です。"
        if "VV" in order:
            yield (
                "validated-twice",
                "同じエポックで validate を2回以上呼んでいます。1回だけ呼び、その値を使い回してください。",
            )
        if "TT" in order or not order.endswith("V"):
            yield "validation-skipped", "検証をしないエポックがあります。学習のたびに、validate を1回呼んでください。"


def _modes(seen: Scenes) -> Finding:
    for name in ("rises", "eval-given"):
        yield from _train_modes(name, [call for call in seen[name]["calls"] if call["kind"] == "T"])
    for call in (call for scene in seen.values() for call in scene["calls"]):
        if call["kind"] == "V" and True in call["training"]:
            yield (
                "validated-in-train",
                "学習モードの部品が残ったまま、検証しています。BatchNormの移動統計が検証の画像で動き、Dropoutも働きます。"
                "検証の前に model.eval() を呼んでください。",
            )
        if call["kind"] == "V" and call["grad"]:
            yield (
                "validated-with-grad",
                "勾配を記録しながら検証しています。時間とメモリの無駄になります。`torch.no_grad()`の中で validate を呼んでください。",
            )
        if call["kind"] == "T" and not call["grad"]:
            yield (
                "grad-left-off",
                "勾配の記録を止めたまま、学習しています。`torch.no_grad()`の範囲を、検証だけにしてください。",
            )
        if call["frozen_awake"]:
            yield (
                "frozen-woken",
                "凍結して評価モードのままにしてあるBatchNormが、学習モードになりました。部品の training に代入せず、"
                "model.train() と model.eval() でモードを変えてください。",
            )
    if any(call["flags_changed"] for scene in seen.values() for call in scene["calls"]) or any(
        scene["flags_changed"] for scene in seen.values()
    ):
        yield (
            "trainable-changed",
            "パラメータの requires_grad が変わりました。凍結した層が学習されたり、学習する層が止まったりします。"
            "検証で勾配を止めるのは、`torch.no_grad()`の役目です。",
        )


def _train_modes(name: str, trainings: list[dict[str, Any]]) -> Finding:
    awake = [call["training"] == [True] for call in trainings]
    if name == "rises" and not all(awake[1:]):
        yield (
            "eval-left",
            "2回目からの学習が、評価モードのまま行われています。検証の前に呼んだ model.eval() が残っています。"
            "エポックの初めに、毎回 model.train() を呼んでください。",
        )
    if not all(awake):
        yield (
            "train-mode-missing",
            "評価モードのモデルを渡すと、評価モードのまま学習が始まります。最初のエポックの前にも model.train() を呼んでください。",
        )


def _returned(seen: Scenes, scenes: dict[str, Any]) -> Finding:
    for name, scene in seen.items():
        result, script = scene["result"], scenes[name]["scores"]
        if result is None or any(type(value) not in (int, float) for value in result):
            yield (
                "not-list",
                f"返り値が {scene['type']} です。エポックごとの検証の値を、float の list で返してください。",
            )
        if len(result) != scene["trained"]:
            yield (
                "history-length",
                f"{scene['trained']} 回検証しましたが、返った値は {len(result)} 個です。NaN も含めて、検証のたびに1個ずつ並べてください。",
            )
        for value, score in zip(result, script, strict=False):
            if value != score and not (math.isnan(value) and math.isnan(score)):
                yield (
                    "history-values",
                    f"検証の値は {_listed(script[: len(result)])} でしたが、返ったのは {_listed(result)} です。"
                    "これまでの最良ではなく、各エポックの値をそのまま並べてください。",
                )


def _stopping(seen: Scenes, scenes: dict[str, Any]) -> Finding:
    trained = {name: scene["trained"] for name, scene in seen.items()}
    yield from _early(trained, scenes)
    expected = {"waits": 7, "echo": 4, "plateau": 3, "nan-waits": 3}
    wrong = {name for name, want in expected.items() if trained[name] != want}
    if "waits" in wrong:
        yield (
            "not-reset",
            f"{_told(scenes['waits'])}、7回目まで学習するはずが、{trained['waits']} 回で終わりました。"
            "最良を更新したら、数え直してください。続けて更新できなかった回数を数えます。",
        )
    if "echo" in wrong:
        yield (
            "reset-by-rise",
            f"{_told(scenes['echo'])}、{trained['echo']} 回学習しました。前のエポックより上がっても、最良の0.9を越えなければ、"
            "更新できなかった回数に数えます。",
        )
    if "plateau" in wrong:
        yield (
            "ties-reset",
            f"{_told(scenes['plateau'])}、{trained['plateau']} 回学習しました。最良と同じ値は、更新ではありません。",
        )
    if "nan-waits" in wrong:
        yield (
            "nan-not-counted",
            f"{_told(scenes['nan-waits'])}、{trained['nan-waits']} 回学習しました。NaN も、更新できなかったエポックに数えます。"
            "NaN を含む比較（<=、==、>）は、どれも偽になります。",
        )


def _early(trained: dict[str, int], scenes: dict[str, Any]) -> Finding:
    """5 回目と 2 回目で止まるはずの場面と、止まらないはずの場面。"""
    stop, soon = trained["stop"], trained["soon"]
    told = _told(scenes["stop"])
    if stop == len(scenes["stop"]["scores"]):
        yield "never-stops", f"{told}、最後まで学習しました。続けて patience 回更新できなければ、止めてください。"
    if stop > 5 or soon > 2:
        yield (
            "patience-late",
            f"{told}、止まるのは5回目の後です。ところが、{stop} 回学習しました。更新できなかった回数が patience に達したら止めます（等号を含みます）。",
        )
    if stop < 5:
        yield (
            "patience-early",
            f"{told}、止まるのは5回目の後です。ところが、{stop} 回で止まりました。更新したエポックは、回数に数えません。",
        )
    for name, count in trained.items():
        if scenes[name]["patience"] > count and count < scenes[name]["epochs"]:
            yield (
                "stops-too-soon",
                f"{_told(scenes[name])}、{count} 回で止まりました。更新できない回数は、まだ patience に達していません。",
            )


def _nothing_best(record: dict[str, Any]) -> Finding:
    """どのエポックも NaN で、最良がない場面。"""
    if failed(record):
        error = record["error"]
        yield (
            "nothing-to-restore",
            f"検証の値がすべて NaN のとき、例外が起きました（{error['type']}）。最良が一度もなければ、戻さずに終わってください。",
        )
        return
    scene = record["value"]
    if scene["overrun"] or scene["trained"] != 2:
        yield (
            "nan-not-counted",
            "検証の値がすべて NaN で patience = 2 のとき、2回では止まりません。NaN も回数に数えます。",
        )
    if where(scene) != 2:
        yield (
            "nan-restored",
            "検証の値がすべて NaN のとき、最後のエポックの重みのままではありません。最良が一度もなければ、何も戻さないでください。",
        )


def _told(scene: dict[str, Any]) -> str:
    return f"検証の値が {_listed(scene['scores'])}、patience = {scene['patience']} のとき"


def _listed(values: list[float]) -> str:
    return "、".join("NaN" if math.isnan(value) else f"{value:g}" for value in values)
