"""檻の中で、自分に上限を掛ける。学習者のコードより前に一度だけ動かす。上限は、あとから上げられない。

時間と記憶の本当の見張りは檻の外にある。ここは二本目の帯である。
"""

import ctypes
import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_MEGABYTE = 1024 * 1024
_FILES = 512
_STACK_MB = 64
_ADDRESS_SPARE_MB = 6144  # torch は、使う量よりずっと広い番地を予約する
_LEAST_ROOM = 64 * _MEGABYTE
_JOIN_SESSION_KEYRING = 1
_KEYCTL = {"x86_64": 250, "aarch64": 219}


def confine(limits: dict[str, Any]) -> None:
    """rlimit、優先度、鍵束を決める。

    Args:
        limits: total_seconds、memory_mb、disk_mb、processes。
    """
    seconds = int(limits["total_seconds"]) + 5
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_FSIZE, int(limits["disk_mb"]) * _MEGABYTE)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    # 上限を超えたことは外が数えて知る。外が気づくまでに増える数を、少しに抑える（多いと、外の見張りが CPU を取れない）
    _limit(resource.RLIMIT_NPROC, int(limits["processes"]) * 5 // 4)
    _limit(resource.RLIMIT_AS, (int(limits["memory_mb"]) + _ADDRESS_SPARE_MB) * _MEGABYTE)
    _limit(resource.RLIMIT_STACK, _STACK_MB * _MEGABYTE, soft=8 * _MEGABYTE)
    with suppress(OSError):
        os.nice(5)  # 外の見張りと、ほかの人の採点を待たせない
    _leave_keyring()


@contextmanager
def room(size: int) -> Iterator[None]:
    """この間は、あと size バイトしか確保できないようにする。超えると MemoryError になり、機械の記憶は守られる。"""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    reserved = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    most = reserved + max(size, _LEAST_ROOM)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _limit(kind: int, hard: int, soft: int | None = None) -> None:
    _, allowed = resource.getrlimit(kind)
    if allowed != resource.RLIM_INFINITY:
        hard = min(hard, allowed)
    resource.setrlimit(kind, (hard if soft is None else min(soft, hard), hard))


def _leave_keyring() -> None:
    """採点者のログインの鍵束を引き継がない。"""
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, _JOIN_SESSION_KEYRING, None)
