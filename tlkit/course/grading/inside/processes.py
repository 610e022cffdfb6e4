"""プロセスの記憶の量。檻の中（答えを呼ぶ間）と、檻の外の見張りの、両方が使う。

RSS の和は、fork した子と親が共有する分を二重に数える。和が上限を超えたときだけ、共有を割り勘にした PSS で確かめる。
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_KILOBYTE = 1024
_LOOK_SECONDS = 0.05


def everyone() -> set[int]:
    """/proc に見える、生きているプロセスの番号。檻の中では、檻の中のものだけが見える。"""
    return {pid for pid in _listed() if not _is_zombie(pid)}


def memory(pids: Iterable[int], limit: int, crowded: Callable[[], bool] = bool) -> int | None:
    """プロセスの記憶の和 [バイト]。limit を超えなければ RSS の和、超えそうなら PSS の和。

    Args:
        pids: プロセスの番号。
        limit: これを超えそうなときだけ、PSS を数える。
        crowded: 数えるのをやめるべきか。数えている途中で、ときどき確かめる。

    Returns:
        和。途中でやめたら None。
    """
    resident = {pid: _resident(pid) for pid in pids}
    if sum(resident.values()) <= limit:
        return sum(resident.values())
    total, looked = 0, monotonic()
    for pid in resident:
        total += _proportional(pid)
        if monotonic() - looked > _LOOK_SECONDS:
            if crowded():
                return None
            looked = monotonic()
    return total


def unshared(pid: int) -> int:
    """ファイルに写っていない記憶 [バイト]。fork した子がすべてに触れると、これだけの写しができる。"""
    with suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * _KILOBYTE
    return 0


def _listed() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


def _resident(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int((_PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """PSS。読めなければ、いまの RSS（もう終わっていれば 0）。"""
    with suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _KILOBYTE
    return _resident(pid)


def _is_zombie(pid: int) -> bool:
    with suppress(OSError, IndexError):
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[0] in ("Z", "X")
    return True
