"""檻の中の世界: 中で動くものを外から数え、量り、止める。

中のものは、すべて pid の世界の主（中では 1 番のプロセス）の子孫である。主を止めれば、一つ残らず止まる。
檻を始めるのは `process.py`（新しい Python）と `zygote.py`（温めた Python）である。
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.grading.inside.processes import memory

_MOST_COUNTED = 100_000
_KILL_SECONDS = 10.0
_THREADS = 17  # /proc/PID/stat の「)」より後の番号


@dataclass(frozen=True)
class Use:
    """いま使っている量。

    Attributes:
        memory: 記憶の和 [バイト]。
        processes: プロセスとスレッドの数。
        files: /tmp と /dev/shm にあるファイルの数。
    """

    memory: int = 0
    processes: int = 0
    files: int = 0


class World:
    """一つの檻の中のもの。

    Args:
        first: pid の世界の主の、外から見た番号。檻を作れずに終わっていれば None。
    """

    def __init__(self, first: int | None) -> None:
        self._first: tuple[int, int] | None = None
        with suppress(OSError):
            self._first = None if first is None else (first, os.pidfd_open(first))

    def family(self) -> list[int]:
        """中で動いているプロセスの、外から見た番号。親が先。"""
        return [] if self._first is None else [self._first[0], *_descendants(self._first[0])]

    def use(self, memory_limit: int, process_limit: int) -> Use:
        """檻の中全体で使っている量。

        記憶は、memory_limit を超えそうなときだけ、共有を除いて数え直す。数え直しには時間がかかり、その間にも fork で
        増え続けることがある。だから途中でも数を確かめ、process_limit を超えたら、記憶は数えない。
        """
        family = self.family()
        count = sum(map(_threads, family))
        used = None
        if count <= process_limit:
            used = memory(family, memory_limit, lambda: sum(map(_threads, self.family())) > process_limit)
        if used is None:
            return Use(0, max(count, sum(map(_threads, self.family()))), self._files())
        return Use(used, count, self._files())

    def kill_children(self) -> None:
        """進行役の Python だけを残して、中のものを止める。"""
        if self._first is None:
            return
        runner, *orphans = children(self._first[0]) or [0]
        for pid in [*_descendants(runner), *orphans, *(child for orphan in orphans for child in _descendants(orphan))]:
            _kill_in_world(pid, self._first[0])

    def expendable(self) -> None:
        """機械の記憶が尽きたとき、ほかのものより先に止められるようにする。"""
        for pid in self.family():
            with suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")

    def end(self) -> None:
        """中のものをすべて止め、止まりきるのを待つ。何度呼んでもよい。"""
        if self._first is None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first[1], signal.SIGKILL)
        readable(self._first[1], _KILL_SECONDS)  # pidfd は、終わると読めるようになる
        os.close(self._first[1])
        self._first = None

    def _files(self) -> int:
        """中の tmpfs にあるファイルの数。大きさの上限は、空のファイルの数を抑えない。"""
        if self._first is None:
            return 0
        total = 0
        for folder in ("tmp", "dev/shm"):
            with suppress(OSError):
                found = os.statvfs(f"/proc/{self._first[0]}/root/{folder}")
                total += found.f_files - found.f_ffree
        return total


def readable(descriptor: int, seconds: float) -> bool:
    """seconds 秒のうちに読めるようになるか。"""
    poll = select.poll()  # select.select は、番号の大きい口を扱えない
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def children(pid: int) -> list[int]:
    """子の番号。できた順。"""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _descendants(root: int) -> Iterator[int]:
    """root の子孫の番号（root 自身は含めない）。"""
    waiting, seen = [root], 0
    while waiting and seen < _MOST_COUNTED:
        for child in children(waiting.pop()):
            seen += 1
            waiting.append(child)
            yield child


def _kill_in_world(pid: int, first: int) -> None:
    """同じ pid の世界にいるものだけを止める（番号は使い回されるので、掴んでから確かめる）。"""
    with suppress(OSError):
        held = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/ns/pid").readlink() == Path(f"/proc/{first}/ns/pid").readlink():
                signal.pidfd_send_signal(held, signal.SIGKILL)
        finally:
            os.close(held)


def _threads(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[_THREADS])
    return 0
