"""Ctrl-C: 動いている檻を、上限を待たずに、すぐ止める合図。

Ctrl-C を受けるのは主スレッドで、檻を見張るのは別のスレッドである。主スレッドが合図を立て、見張りが気づいて檻を止める。
"""

import threading

from tlkit.course.errors import CourseError

_STOPPED = threading.Event()


def begin() -> None:
    """合図を下ろす。採点を始めるときに呼ぶ。"""
    _STOPPED.clear()


def stop() -> None:
    """合図を立てる。"""
    _STOPPED.set()


def check() -> None:
    """合図が立っていれば、CourseError を送出する。檻の with を抜けるので、中のものは止まる。"""
    if _STOPPED.is_set():
        raise CourseError("採点を途中で止めました。")
