"""演習 07-7: 止めても続きから測れる総当たりと、検証だけによる選択。問題、入力、答えの呼び方を置く。

executor は、決めた順に終わる `SteppedExecutor`（`run_grid_executor.py`）である。だから、何を送り、いつ書き入れたかが分かる。
判定は、測る側を `run_grid_judge.py`、選ぶ側を `run_grid_judge_choice.py` が受け持つ。
"""

import copy
import math
from typing import Any

import numpy as np

from tlkit.course.checks.c07.run_grid_executor import EndlessWaitError, SteppedExecutor
from tlkit.course.checks.c07.run_grid_judge import judge_grid
from tlkit.course.checks.c07.run_grid_judge_choice import judge_choice
from tlkit.course.checks.question import PASSED, Question, Verdict
from tlkit.course.checks.trial import current, trial

SETTINGS = [(3.0, 0.9), (1.0, 0.3), (10.0, 0.5)]  # 大きさの順ではない
SEEDS = [7, 2, 5]
PAIRS = [(setting, seed) for setting in SETTINGS for seed in SEEDS]
OUTSIDE = ((5.0, 0.7), 2)  # 前の、もっと広い格子の結果

# 場面 → （済んだ組, 例外で終わる組）。済んだ組は PAIRS の番号
GRIDS: dict[str, tuple[list[int], list[int]]] = {
    "fresh": ([], []),
    "resumed": ([0, 1, 2, 4], []),  # 一つめの設定は全部、二つめの設定は一つの種だけが済んでいる
    "complete": (list(range(9)), []),
    "failing": ([8], [1, 5]),
}
# 場面 → 設定ごとの検証の値。平均は、2 進数でちょうど表せる値にしてある
TABLES: dict[str, list[list[float]]] = {
    "plain": [[0.5, 0.5, 0.625], [0.75, 0.75, 0.75], [0.25, 0.5, 0.25], [0.5, 0.25, 0.75]],
    "lucky": [[0.625, 0.625, 0.625], [0.9375, 0.25, 0.5]],
    "outlier": [[0.75, 0.75, 0.0], [0.625, 0.625, 0.625]],
    "one-bad-seed": [[0.5, 0.5, 0.5], [0.875, 0.875, 0.25]],
    "tied": [[0.25, 0.25, 0.25], [0.5, 0.75, 0.25], [0.5, 0.5, 0.5], [0.75, 0.5, 0.25]],
    "tied-again": [[0.25, 0.25, 0.25], [0.5, 0.75, 0.25], [0.5, 0.5, 0.5], [0.75, 0.5, 0.25]],
    "nan-first": [[0.875, math.nan, 0.875], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]],
    "nan-last": [[0.25, 0.25, 0.25], [0.5, 0.5, 0.5], [0.875, 0.875, math.nan]],
    "nan-middle": [[0.25, 0.25, 0.25], [math.nan, 0.875, 0.875], [0.5, 0.5, 0.5]],
    "negative": [[-2.0, -1.0, -1.5], [-0.5, -1.0, -0.75], [-3.0, -3.0, -3.0]],
    "single": [[0.5]],
    "all-nan": [[math.nan, 0.5, 0.5], [math.nan, math.nan, math.nan]],
}


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、組ごとの正解率、終わる順、表の設定の並び、テストの正解率を決める。"""
    rng = np.random.default_rng(seed)
    grids = {name: _grid(*case, rng) for name, case in GRIDS.items()}
    return {"grids": grids, "choices": {name: _choice(name, rows, rng) for name, rows in TABLES.items()}}


def _grid(done: list[int], broken: list[int], rng: np.random.Generator) -> dict[str, Any]:
    values = [round(float(value), 4) for value in rng.uniform(0.1, 0.9, len(PAIRS))]
    if done:
        values[done[0]] = 0.0  # 正解率 0 も、測り終えた結果である
    left = [place for place in range(len(PAIRS)) if place not in done]
    order = rng.permutation(left).tolist()
    if order == sorted(order):
        order.reverse()
    return {"values": values, "done": done, "broken": broken, "order": order}


def _choice(scene: str, rows: list[list[float]], rng: np.random.Generator) -> dict[str, Any]:
    """設定は、大きいものから並べる（tied-again だけは小さいものから）。テストで最も良い設定は、検証で選ばれないものにする。"""
    pool = [(t, a) for t in (1.0, 3.0, 5.0, 10.0) for a in (0.3, 0.5, 0.7, 0.9)]
    chosen = [pool[place] for place in rng.permutation(len(pool))[: len(rows)]]
    names = sorted(chosen, reverse=scene != "tied-again")
    means = [sum(row) / len(row) for row in rows]
    ranks = sorted(range(len(rows)), key=lambda place: (math.isnan(means[place]), means[place]))
    tests = [round(0.9 - 0.1 * ranks.index(place) + 0.01 * float(rng.random()), 4) for place in range(len(rows))]
    return {"names": names, "rows": rows, "tests": tests}


def probe(run_grid: Any, choose_and_test: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場面で、二つの答えを呼ぶ。"""
    return {
        "grids": {name: _observe_grid(run_grid, scene) for name, scene in inputs["grids"].items()},
        "choices": {name: trial(_observe_choice, choose_and_test, scene) for name, scene in inputs["choices"].items()},
    }


def _observe_grid(answer: Any, scene: dict[str, Any]) -> dict[str, Any]:
    values = dict(zip(PAIRS, scene["values"], strict=True))
    finished = {PAIRS[place]: scene["values"][place] for place in scene["done"]}
    if finished:
        finished[OUTSIDE] = 0.95
    rank = [PAIRS[place] for place in scene["order"] + scene["done"]]
    executor = SteppedExecutor(values, {PAIRS[place] for place in scene["broken"]}, rank, finished)
    settings, seeds = list(SETTINGS), list(SEEDS)
    seen: dict[str, Any] = {"stuck": False, "error": None, "known": False, "table": None}
    try:
        seen["table"] = _table(answer(executor.evaluate, settings, seeds, finished, executor))
    except EndlessWaitError:
        seen["stuck"] = True
    except Exception as error:
        seen["error"] = current.get().keep(error)
        seen["known"] = any(one in executor.errors for one in _linked(error))
    places = {pair: place for place, pair in enumerate(PAIRS)}
    return seen | {
        "sent": [one | {"pair": places.get(one["pair"])} for one in executor.sent],
        "late": [places[pair] for pair in executor.late],
        "direct": executor.direct,
        "closed": executor.closed,
        "changed": settings != SETTINGS or seeds != SEEDS,
        "finished": [_number(finished.get(pair)) for pair in PAIRS],
        "outside": finished.get(OUTSIDE) == 0.95 if scene["done"] else True,
    }


def _linked(error: BaseException) -> list[BaseException]:
    """例外と、そのもとになった例外、まとめられた例外。"""
    found: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending and len(found) < 50:
        one = pending.pop()
        if one is not None and one not in found:
            found.append(one)
            pending += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


def _table(returned: Any) -> dict[str, Any]:
    """返り値の形。設定は SETTINGS の番号（知らない名前は −1）にする。"""
    if not isinstance(returned, dict):
        return {"type": type(returned).__name__[:60]}
    names = [SETTINGS.index(name) if name in SETTINGS else -1 for name in returned]
    flat = bool(returned) and all(name in PAIRS for name in returned)
    rows = [_row(row) for row in returned.values()]
    return {"type": "dict", "names": names, "rows": rows, "flat": flat}


def _row(row: Any) -> list[float | None] | None:
    if isinstance(row, np.ndarray):
        row = row.tolist()
    return [_number(value) for value in row] if isinstance(row, list | tuple) else None


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if plain else None


def _observe_choice(answer: Any, scene: dict[str, Any]) -> dict[str, Any]:
    table = dict(zip(scene["names"], copy.deepcopy(scene["rows"]), strict=True))
    before = repr(table)
    calls: list[int] = []

    def test(setting: Any) -> float:
        if setting not in scene["names"]:
            raise ValueError(f"test({setting!r}) が呼ばれました。渡すのは、table にある設定です。")
        calls.append(scene["names"].index(setting))
        return float(scene["tests"][calls[-1]])

    seen: dict[str, Any] = {"refused": False, "type": "", "keys": []}
    try:
        returned = answer(table, test)
    except ValueError:
        if not any(math.isnan(sum(row)) for row in scene["rows"]):
            raise
        return seen | {"refused": True, "calls": calls, "changed": repr(table) != before}
    seen["type"] = type(returned).__name__[:60]
    if isinstance(returned, dict):
        setting = returned.get("setting")
        seen["keys"] = sorted(str(key)[:30] for key in returned)[:20]
        seen["setting"] = scene["names"].index(setting) if setting in scene["names"] else None
        seen["validation"], seen["test"] = _number(returned.get("validation")), _number(returned.get("test"))
    return seen | {"calls": calls, "changed": repr(table) != before}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """測る側、選ぶ側の順に判定する。"""
    return judge_grid(data["grids"], inputs["grids"]) or judge_choice(data["choices"], inputs["choices"]) or PASSED


RUN_GRID = Question(
    id="07-7",
    points=10,
    title="止めても続きから測れる格子と、検証だけによる選択",
    goal="温度と重みの格子を一つのexecutorに送って途中から再開でき、検証の平均だけで設定を選び、テストを一度だけ測ることができる",
    minutes=40,
    difficulty=3,
    answers=("run_grid", "choose_and_test"),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("distill.sweep", "distill._sweep_store"),
    hints=(
        "run_gridは、三つに分かれます。finishedにない組を並べる、それを全部executorに送る、終わったものから順に受け取ってfinishedに入れる。"
        "最後に、finishedから表を作ります。終わった順に受け取るときは、どのFutureがどの組のものかを覚えておきます。\n"
        "choose_and_testは、設定ごとに平均を求め、NaNになったものを除いてから、最も高いものを選びます。testを呼ぶのは、選んだ後の一度だけです。",
        "送る: executor.submit(evaluate, setting, seed) はFutureを返します。{Future: (setting, seed)} の辞書を作ります。\n"
        "受け取る: concurrent.futures.as_completed(辞書) は、終わったFutureから順に返します。\n"
        "future.result() は、evaluateの中で起きた例外をここで送出します。try で受け、控えておき、ほかを全部受け取ってから送出します。\n"
        "済みの判定: (setting, seed) in finished。値で判定すると、0.0 を「まだ」と取り違えます。\n"
        "NaN: NaNとの比較はいつも偽なので、maxの結果が並び順で変わります。先に除きます。",
        "left = [(s, k) for s in settings for k in seeds if (s, k) not in finished]\n"
        "futures = {executor.submit(evaluate, *pair): pair for pair in left}\n"
        "for future in as_completed(futures): の中で、try: finished[futures[future]] = future.result()、"
        "except Exception as error: failed.append(error)。\n"
        "ループの後で、failedがあれば raise ExceptionGroup(文, failed)。なければ {s: [finished[s, k] for k in seeds] for s in settings}。\n"
        "選ぶほうは、{設定: 平均} の辞書からNaNを除き、空なら raise ValueError、空でなければ max(辞書, key=辞書.get) です。",
    ),
)
