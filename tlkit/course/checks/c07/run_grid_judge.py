"""演習 07-7 の、測る側（run_grid）の判定。送ったもの、待ち方、書き入れ方、例外、返り値の順に調べる。

場面は `run_grid.py`、executor は `run_grid_executor.py`、選ぶ側の判定は `run_grid_judge_choice.py` にある。
組は、設定の順、その中で種の順の番号（0 から 8）で表す。設定は 3 個、種は 3 個である。
"""

from typing import Any

from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.findings import Finding, first
from tlkit.course.checks.question import Verdict

Scenes = dict[str, dict[str, Any]]
SEEDS = 3  # 一つの設定の組の数
PAIRS = 9
TOLD = {
    "fresh": "何も済んでいないとき",
    "resumed": "一部の組が済んでいるとき",
    "complete": "全部の組が済んでいるとき",
    "failing": "例外で終わる組があるとき",
}


def judge_grid(seen: Scenes, scenes: Scenes) -> Verdict | None:
    """すべての場面の記録を調べる。"""
    unsent = [one["error"] for name, one in seen.items() if one["error"] and not one["sent"] and name != "complete"]
    raised_usual = [one["error"] for name, one in seen.items() if one["error"] and name != "failing"]
    usual = {name: one for name, one in seen.items() if name != "failing"}
    if verdict := first(_sent(seen)):
        return verdict
    if unsent:
        return raised(unsent[0])
    if verdict := first(_waiting(seen)) or first(_which(seen, scenes)):
        return verdict
    if raised_usual:
        return raised(raised_usual[0])
    return (
        first(_kept(usual, scenes))
        or first(_failing(seen["failing"], scenes["failing"]))
        or first(_form(usual))
        or first(_table(usual, scenes))
    )


def _sent(seen: Scenes) -> Finding:
    for one in seen.values():
        if one["direct"]:
            yield (
                "direct-call",
                "evaluateが、executorを通さずに呼ばれました。それでは、1個のコアで順に測ることになります。"
                "executor.submit(evaluate, setting, seed) で送り、自分では呼ばないでください。",
            )
        if not all(sent["plain"] for sent in one["sent"]):
            yield (
                "wrapped",
                "executorに、evaluateを包んだ別の関数が送られました。lambdaや、関数の中で定義した関数は、ほかのプロセスや機械に送れません。"
                "executor.submit(evaluate, setting, seed) のように、関数と引数を分けて渡してください。",
            )
        if one["stuck"]:
            yield (
                "endless-wait",
                "動いている仕事がないのに、結果を待ち続けています。待つのは、送った組の数だけにしてください。",
            )


def _which(seen: Scenes, scenes: Scenes) -> Finding:
    """送った組は、済んでいない組とちょうど同じか。"""
    for name, one in seen.items():
        if any(each["pair"] is None for each in one["sent"]):
            yield (
                "bad-arguments",
                f"{TOLD[name]}、evaluateと一緒に送った引数が、settingsの設定とseedsの種になっていません。"
                "executor.submit(evaluate, setting, seed) の順で渡してください。",
            )
        done, sent = scenes[name]["done"], [each["pair"] for each in one["sent"]]
        again = [pair for pair in sent if pair in done]
        if again and all(scenes[name]["values"][pair] == 0 for pair in again):
            yield (
                "zero-rerun",
                f"{TOLD[name]}、正解率が0.0の組だけが、測り直されました。0.0も測り終えた結果です。値ではなく、finishedに組があるかで判定してください。",
            )
        if again and not any(_is_done(pair // SEEDS, done) for pair in again):
            yield (
                "setting-rerun",
                f"{TOLD[name]}、種の一部だけが済んだ設定で、済んだ種まで測り直されました。済んだかどうかは、設定と種の組ごとに調べてください。",
            )
        if again:
            yield (
                "rerun",
                f"{TOLD[name]}、finishedにある{len(done)}組のうち、{len(set(again))}組が測り直されました。finishedにある組は、送らないでください。",
            )
        if len(set(sent)) < len(sent):
            yield "sent-twice", f"{TOLD[name]}、同じ組が二度送られました。組ごとに一度だけ送ってください。"
        if missing := [pair for pair in range(PAIRS) if pair not in done and pair not in sent]:
            yield from _missing(name, missing, done)


def _is_done(setting: int, done: list[int]) -> bool:
    return all(pair in done for pair in range(setting * SEEDS, (setting + 1) * SEEDS))


def _missing(name: str, missing: list[int], done: list[int]) -> Finding:
    if all(any(other // SEEDS == pair // SEEDS for other in done) for pair in missing):
        yield (
            "partial-skipped",
            f"{TOLD[name]}、種の一部だけが済んだ設定で、残りの種が測られませんでした。済んだかどうかは、設定と種の組ごとに調べてください。",
        )
    yield "not-sent", f"{TOLD[name]}、まだ測っていない{len(missing)}組が、executorに送られませんでした。"


def _waiting(seen: Scenes) -> Finding:
    for name, one in seen.items():
        if any(each["after"] for each in one["sent"]):
            yield (
                "one-at-a-time",
                f"{TOLD[name]}、前の組の結果を待ってから、次の組が送られました。それでは、executorにコアが何個あっても1個しか使いません。"
                "まず残りの組を全部送り、それから結果を待ってください。",
            )
        if one["closed"]:
            yield (
                "executor-closed",
                "渡されたexecutorが閉じられました（withやshutdown）。executorは呼んだ側のもので、この後も使われます。閉じないでください。",
            )


def _kept(seen: Scenes, scenes: Scenes) -> Finding:
    """Finished への書き入れ。例外で終わる組のある場面は、`_failing` で調べる。"""
    for name, one in seen.items():
        scene = scenes[name]
        if one["changed"]:
            yield (
                "argument-changed",
                f"{TOLD[name]}、引数のsettingsかseedsの中身が変わりました。引数は、finishedのほかは書き換えないでください。",
            )
        if not one["outside"] or any(one["finished"][pair] != scene["values"][pair] for pair in scene["done"]):
            yield (
                "finished-lost",
                f"{TOLD[name]}、finishedに初めからあった結果が、消えたか変わりました。今の格子にない組も、別の測定の大切な結果です。",
            )
        left = [pair for pair in range(PAIRS) if pair not in scene["done"]]
        if left and all(one["finished"][pair] is None for pair in left):
            yield (
                "not-recorded",
                f"{TOLD[name]}、新しく測った結果が、finishedに入っていません。渡された辞書そのものに、finished[(setting, seed)] = 値 と書き入れて"
                "ください。写しに入れても、次に呼んだときには残っていません。",
            )
        if any(one["finished"][pair] not in (None, scene["values"][pair]) for pair in left):
            yield (
                "mixed-up",
                f"{TOLD[name]}、finishedの値が、ほかの組の値と入れ替わっています。結果は、送った順ではなく、終わった順に届きます。"
                "どのFutureがどの組のものかを、辞書で覚えておいてください。",
            )
        if any(one["finished"][pair] is None for pair in left):
            yield "some-not-recorded", f"{TOLD[name]}、新しく測った組の一部だけが、finishedに入りました。"
        if one["late"]:
            yield (
                "late-record",
                f"{TOLD[name]}、先に終わった{len(one['late'])}組の結果が、次の組が終わってもfinishedに入っていませんでした。"
                "ここで電源が落ちると、その分が失われます。送った順や全部の終わりを待たずに、終わったものから書き入れてください（as_completed）。",
            )


def _failing(one: dict[str, Any], scene: dict[str, Any]) -> Finding:
    """例外で終わる組が二つある場面。"""
    told = TOLD["failing"]
    if any(one["finished"][pair] is not None for pair in scene["broken"]):
        yield (
            "failure-recorded",
            f"{told}、その組の値がfinishedに入りました。入れると、次に呼んだときに測り直せません。",
        )
    lost = [p for p in range(PAIRS) if p not in scene["broken"] and one["finished"][p] != scene["values"][p]]
    if lost:
        yield (
            "lost-results",
            f"{told}、無事に終わった組のうち{len(lost)}組の結果が、finishedに残りませんでした。一つの失敗で、ほかの結果まで失わないように、"
            "例外を控えておき、全部を受け取ってから送出してください。",
        )
    if one["late"]:
        yield (
            "late-record",
            f"{told}、先に終わった結果が、次の組が終わってもfinishedに入っていませんでした。終わったものから書き入れてください。",
        )
    if not one["known"]:
        error = one["error"]
        found = f"関係のない {error['type']} が送出されました" if error else "例外が送出されませんでした"
        yield (
            "swallowed",
            f"{told}、{found}。測れない組があったことに、呼んだ人が気づけません。ほかの組を全部受け取った後で、"
            "evaluateの例外を送出してください（raise ExceptionGroup(…) で、まとめて伝えられます）。",
        )


def _form(seen: Scenes) -> Finding:
    for name, one in seen.items():
        table = one["table"]
        if table["type"] != "dict":
            yield (
                "not-dict",
                f"run_gridの返り値が {table['type']} です。{{設定: [種の順の値]}} のdictを返してください。",
            )
        elif table["flat"]:
            yield "flat-table", "返り値の名前が、（設定, 種）の組です。設定ごとに、種の順の値をlistにまとめてください。"
        elif any(row is None or None in row for row in table["rows"]):
            yield (
                "not-list",
                "返り値の表に、数のlistでない値があります。設定ごとに、種の順の値をlistにしてください（平均は、まだ取りません）。",
            )
        elif -1 in table["names"]:
            yield (
                "extra-setting",
                f"{TOLD[name]}、返り値の表に、settingsにない設定があります。finishedには、前の格子の結果も入っています。"
                "表には、今のsettingsとseedsの分だけを入れてください。",
            )


def _table(seen: Scenes, scenes: Scenes) -> Finding:
    for name, one in seen.items():
        names, rows, values = one["table"]["names"], one["table"]["rows"], scenes[name]["values"]
        if len(names) < PAIRS // SEEDS or any(len(row) < SEEDS for row in rows):
            yield (
                "incomplete-table",
                f"{TOLD[name]}、返り値の表に足りない値があります。前から済んでいた組も、表に入れてください。",
            )
        if any(len(row) > SEEDS for row in rows):
            yield (
                "extra-seed",
                f"{TOLD[name]}、返り値の表に、seedsの数より多くの値があります。今のseedsの分だけを入れてください。",
            )
        want = {setting: values[setting * SEEDS : (setting + 1) * SEEDS] for setting in names}
        found = dict(zip(names, rows, strict=True))
        if any(sorted(found[setting]) != sorted(want[setting]) for setting in names):
            yield "table-value", f"{TOLD[name]}、返り値の表の値が、その設定の測った値と違います。"
        if found != want:
            yield (
                "seed-order",
                f"{TOLD[name]}、表の中の値の順が、seedsの順と違います。終わった順や大きさの順ではなく、seedsの順に並べてください。",
            )
        if names != sorted(names):
            yield (
                "setting-order",
                f"{TOLD[name]}、表の設定の順が、settingsの順と違います。終わった順や大きさの順によらないようにしてください。",
            )
