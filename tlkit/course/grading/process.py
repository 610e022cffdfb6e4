"""檻のプロセス: 始める、量る、必ず止める。

檻の中のものは、すべて bwrap の子孫である。pid の世界の主（bwrap の子）を止めれば、中のものは一つ残らず止まる。
"""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tlkit.course.errors import CourseError
from tlkit.course.grading.inside.processes import memory

_MOST_COUNTED = 100_000
_KILL_SECONDS = 10.0
_START_SECONDS = 30.0
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


class CagedProcess:
    """動いている檻。with を抜けるときには、中のものがすべて止まっている。"""

    def __init__(self, command: list[str]) -> None:
        info, told = os.pipe()
        try:
            self._popen = subprocess.Popen(
                _telling(command, told),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},  # 中から /proc/1/environ で読めるので、秘密を渡さない
                cwd="/",
                pass_fds=(told,),
                start_new_session=True,  # 中から kill(0) されても、採点者の側に届かない
            )
        except OSError as error:
            os.close(info)
            raise CourseError(
                f"bubblewrap（{command[0]}）を起動できません: {error.strerror}。入れ直してください。"
            ) from error
        finally:
            os.close(told)
        self._init = _first_process(info)

    def __enter__(self) -> "CagedProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pipes(self) -> tuple[int, int, int]:
        """標準入力、標準出力、標準エラー。"""
        streams = (self._popen.stdin, self._popen.stdout, self._popen.stderr)
        opened = [stream.fileno() for stream in streams if stream is not None]
        return opened[0], opened[1], opened[2]

    def listen(self, seconds: float) -> tuple[bytes, bytes]:
        """何も渡さずに終わりを待ち、標準出力と標準エラーを返す。時間切れなら、そこまでで空を返す。"""
        try:
            return self._popen.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return b"", b""

    def status(self, seconds: float = 5.0) -> int | None:
        """終了の状態。まだ動いていれば None。"""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def family(self) -> list[int]:
        """中で動いているプロセスの、外から見た番号。親が先。"""
        return list(_family(self._popen.pid))

    def use(self, memory_limit: int, process_limit: int) -> Use:
        """檻の中全体で使っている量。

        記憶は、memory_limit を超えそうなときだけ、共有を除いて数え直す。
        数え直しには時間がかかるので、process_limit を超えて増えている間は数えない。
        """
        family = self.family()
        count = sum(map(_threads, family))
        return Use(0 if count > process_limit else memory(family, memory_limit), count, self._files())

    def kill_children(self) -> None:
        """進行役の Python だけを残して、中のものを止める。"""
        if self._init is None:
            return
        runner, *orphans = _children(self._init[0]) or [0]
        for pid in [*_family(runner), *orphans, *(child for orphan in orphans for child in _family(orphan))]:
            _kill_in_world(pid, self._init[0])

    def expendable(self) -> None:
        """機械の記憶が尽きたとき、ほかのものより先に止められるようにする。"""
        for pid in self.family():
            with suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")

    def kill(self) -> None:
        """中のものをすべて止め、止まりきるのを待つ。何度呼んでもよい。"""
        if self._init is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init[1], signal.SIGKILL)
            _readable(self._init[1], _KILL_SECONDS)  # pidfd は、終わると読めるようになる
            os.close(self._init[1])
            self._init = None
        self._popen.kill()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_KILL_SECONDS)
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _files(self) -> int:
        """中の tmpfs にあるファイルの数。大きさの上限は、空のファイルの数を抑えない。"""
        if self._init is None:
            return 0
        total = 0
        for folder in ("tmp", "dev/shm"):
            with suppress(OSError):
                found = os.statvfs(f"/proc/{self._init[0]}/root/{folder}")
                total += found.f_files - found.f_ffree
        return total


def _telling(command: list[str], told: int) -> list[str]:
    """檻を作る（いちばん内側の）bwrap に、pid の世界の主を知らせる口を付ける。"""
    place = command.index("--unshare-user")
    return [*command[:place], "--info-fd", str(told), *command[place:]]


def _first_process(info: int) -> tuple[int, int] | None:
    """pid の世界の主の番号と、その pidfd。檻を作れずに終わっていれば None。"""
    text = b""
    try:
        while b"}" not in text and _readable(info, _START_SECONDS):
            chunk = os.read(info, 4096)
            if not chunk:
                break
            text += chunk
        pid = int(json.loads(text)["child-pid"])
        return pid, os.pidfd_open(pid)
    except (ValueError, KeyError, TypeError, OSError):
        return None
    finally:
        os.close(info)


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # select.select は、番号の大きい口を扱えない
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _kill_in_world(pid: int, first: int) -> None:
    """同じ pid の世界にいるものだけを止める（番号は使い回されるので、掴んでから確かめる）。"""
    with suppress(OSError):
        held = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/ns/pid").readlink() == Path(f"/proc/{first}/ns/pid").readlink():
                signal.pidfd_send_signal(held, signal.SIGKILL)
        finally:
            os.close(held)


def _family(root: int) -> Iterator[int]:
    """root の子孫の番号（root 自身は含めない）。"""
    waiting, seen = [root], 0
    while waiting and seen < _MOST_COUNTED:
        for child in _children(waiting.pop()):
            seen += 1
            waiting.append(child)
            yield child


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _threads(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[_THREADS])
    return 0
