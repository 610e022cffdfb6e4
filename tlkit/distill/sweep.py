"""設定と種の組を、一つの executor で並べて測る。終わった分はファイルに残るので、止めても続きから測れる。

executor は concurrent.futures の形なら何でもよい。省けば、この機械の全部のコアを使う。dask の `client.get_executor(pure=False)`
や mpi4py の `MPIPoolExecutor` を渡せば、計算だけがほかの機械に移る。結果のファイルは `_sweep_store.py` が受け持つ。
"""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tlkit.distill._sweep_store import SweepStore, encode

Setting = Mapping[str, Any]
Task = tuple[Setting, int]
MOST_WORKERS = 61  # Windows で、一つの ProcessPoolExecutor が使えるプロセスの数


@dataclass(frozen=True)
class Trial:
    """一つの設定と種の結果。result は JSON を通した値（組は list になる）。"""

    setting: Setting
    seed: int
    result: Any


def sweep(
    run: Callable[[Setting, int], Any],
    settings: Iterable[Setting],
    *,
    seeds: Iterable[int],
    store: Path,
    fingerprint: str,
    executor: Executor | None = None,
) -> list[Trial]:
    """すべての設定と種について run(設定, 種) を測る。store にある分は測り直さない。

    一つ終わるたびに、store へ JSON を 1 行足し、ディスクに書き終わるのを待つ。強制終了や Ctrl-C で失うのは、動いていた分だけである。
    書きかけの最後の行は捨てて、測り直す。例外で終わった組は記録せず、次に呼んだときに測り直す。

    Args:
        run: （設定, 種）→ JSON にできる値。結果は引数だけで決まること。プロセスに渡すので、モジュールの関数にする。
        settings: 設定の並び。文字列の名前 → JSON にできる値。
        seeds: 種の並び。
        store: 結果のファイル。なければ作る。後から settings や seeds を増やしてもよい。
        fingerprint: 結果を左右するのに settings にないもの（コードの sha256、固定した値、データの版）を表す文字列。
        executor: 仕事の送り先。閉じるのは呼ぶ側。省けば、使える全部のコアで、新しいプロセス（spawn、torch は 1 スレッド）を動かす。
            このとき、スクリプトでは `if __name__ == "__main__":` の中から呼ぶこと。

    Returns:
        settings の順、その中で seeds の順の結果。終わった順、executor、途中で止めたかどうかによらない。

    Raises:
        ValueError: 設定が重なるか JSON にできないとき。store が別の fingerprint のものか、壊れているか、使用中のとき（中身は変えない）。
        ExceptionGroup: run が例外で終わった組があるとき。ほかの組をすべて測ってから知らせる。
        RuntimeError: executor が壊れたとき（ワーカーが強制終了されたなど）。
    """
    tasks = _tasks(settings, list(seeds))
    with SweepStore(store, fingerprint) as kept:
        left = {key: task for key, task in tasks.items() if key not in kept.results}
        if left:
            with nullcontext(executor) if executor is not None else _all_cores(len(left)) as pool:
                failures = _perform(run, left, kept, pool)
            if failures:
                raise ExceptionGroup(
                    f"{len(left)} 組のうち {len(failures)} 組が例外で終わりました。ほかの組の結果は {store} にあります。"
                    "もう一度呼ぶと、終わっていない組だけを測ります。",
                    failures,
                )
        return [Trial(setting, seed, kept.results[key]) for key, (setting, seed) in tasks.items()]


def _tasks(settings: Iterable[Setting], seeds: list[int]) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for setting in settings:
        for seed in seeds:
            key = json.dumps([dict(setting), seed], ensure_ascii=False, sort_keys=True, default=repr)
            if key in tasks or json.loads(key) != [dict(setting), seed]:
                raise ValueError(
                    f"設定 {dict(setting)}、種 {seed!r} は使えません。同じ組が二つあるか、JSON に書くと値が変わります。"
                    "名前は文字列、値は数、文字列、真偽、None、それらの list にしてください。"
                )
            tasks[key] = setting, seed
    return tasks


def _perform(
    run: Callable[[Setting, int], Any], left: dict[str, Task], kept: SweepStore, executor: Executor
) -> list[Exception]:
    """残りの組を測り、終わったものから記録する。例外は、組の順に返す。"""
    failures: dict[str, Exception] = {}
    futures: dict[Future[Any], str] = {}
    try:
        for key, task in left.items():
            futures[executor.submit(run, *task)] = key
        for future in as_completed(futures):
            key = futures[future]
            if error := _keep(future, key, kept):
                error.add_note(f"設定 {dict(left[key][0])}、種 {left[key][1]}")
                failures[key] = error
    except BrokenExecutor as error:
        raise RuntimeError(
            "測っていたプロセスが途中で落ちました（メモリの不足など）。終わった分は記録してあります。"
            "ワーカーの数を減らし、もう一度呼ぶと、続きから測ります。"
        ) from error
    finally:
        for future, key in futures.items():  # Ctrl-C でも、もう終わっている分は記録する
            if not future.cancel() and future.done() and not future.exception() and key not in kept.results:
                _keep(future, key, kept)
    return [failures[key] for key in left if key in failures]


def _keep(future: Future[Any], key: str, kept: SweepStore) -> Exception | None:
    """終わった組を記録する。run の例外と、JSON にできない結果は、返り値で知らせる。"""
    try:
        line = encode(key, future.result())
    except BrokenExecutor:
        raise
    except Exception as error:
        return error
    kept.add(line)
    return None


def _all_cores(most: int) -> ProcessPoolExecutor:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(min(usable, most, MOST_WORKERS), mp_context=spawn, initializer=_begin_worker)


def _begin_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """親が強制終了されると、ワーカーは次の仕事を待ったまま残る。自分で終わらせる。"""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
