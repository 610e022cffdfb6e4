"""檻の仕事を並べて進める手段。どれも `concurrent.futures.Executor` の形で使う。

- threads: この機械で、何本かのスレッドが檻を見張る（既定）。追加のものは要らない。
- distributed: dask のスケジューラにつなぎ、ほかの機械にも送る（`pip install "tlkit[dask]"`）。

どれを使っても、判定と記録は一か所（`pipeline.py`）で行うので、結果は同じになる。
"""

import importlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tlkit.course.errors import CourseError
from tlkit.course.grading import interrupt

MAX_JOBS = 256
_CONNECT_SECONDS = 20


@dataclass(frozen=True)
class Pool:
    """仕事を送る先。

    Attributes:
        executor: 送る先。
        size: 同時に進む仕事の数。
        here: この機械で、このプロセスの中で進めるなら True。
    """

    executor: Executor
    size: int
    here: bool = True


def default_jobs() -> int:
    """この機械で同時に進める檻の数。檻の始めと終わりには待つ時間があるので、使える CPU より一つ多くする。"""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(usable) + 1


@contextmanager
def threads(jobs: int | None = None) -> Iterator[Pool]:
    """この機械のスレッドで進める。

    Raises:
        CourseError: jobs が 1 から 256 の間にないとき。
    """
    count = default_jobs() if jobs is None else jobs
    if not 1 <= count <= MAX_JOBS:
        raise CourseError(f"`--jobs` は 1 から {MAX_JOBS} までです（渡された値: {count}）。")
    stop = threading.Event()
    executor = ThreadPoolExecutor(count, thread_name_prefix="tlkit-grade", initializer=interrupt.obey, initargs=(stop,))
    patient = True
    try:
        yield Pool(executor, count)
    except KeyboardInterrupt:
        patient = False  # Ctrl-C では、動いている檻をすぐ止め、終わりを待たない
        stop.set()
        raise
    finally:
        executor.shutdown(wait=patient, cancel_futures=True)


@contextmanager
def distributed(address: str) -> Iterator[Pool]:
    """dask のスケジューラで進める。ワーカーが途中で落ちても、その仕事は別のワーカーでやり直される。

    Raises:
        CourseError: dask がないとき、つながらないとき、ワーカーがいないとき。
    """
    try:
        connect: Any = importlib.import_module("distributed").Client
    except ImportError as error:
        raise CourseError(
            '`--scheduler` を使うには dask が要ります。`pip install "tlkit[dask]"` を実行してください。'
        ) from error
    try:
        client = connect(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # TypeError は、TLS の証明書の設定がないとき
        raise CourseError(
            f"dask のスケジューラ {address} につながりません（{type(error).__name__}）。\n"
            "`tcp://127.0.0.1:8786` のような形で、動いているスケジューラを指定してください。"
        ) from error
    with client:
        size = sum(client.nthreads().values())
        if size == 0:
            raise CourseError(f"dask のスケジューラ {address} に、ワーカーが一つもいません。")
        executor = client.get_executor(pure=False)
        try:
            yield Pool(executor, size, here=False)
        finally:
            executor.shutdown(wait=False)
