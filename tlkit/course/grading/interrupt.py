"""Ctrl-C: 動いている檻を、上限を待たずに、すぐ止める合図。

Ctrl-C を受けるのは主スレッドで、檻を見張るのは、採点のスレッド（`executors.py`）である。
主スレッドが合図を立て、見張りが気づいて檻を止める。合図は採点ごとに作るので、次の採点には残らない。
"""

import threading

from tlkit.course.errors import CourseError

_THREAD = threading.local()


def obey(signal: threading.Event) -> None:
    """いまのスレッドを、signal に従わせる。"""
    _THREAD.signal = signal


def check() -> None:
    """従っている合図が立っていれば、CourseError を送出する。檻の with を抜けるので、中のものは止まる。"""
    signal: threading.Event | None = getattr(_THREAD, "signal", None)
    if signal is not None and signal.is_set():
        raise CourseError("採点を途中で止めました。")
