"""檻のプロセス: 始める、つなぐ、必ず止める。

中のものを量り、止めるのは `world.py`。温めた Python から檻を始める、速い道は `zygote.py` にある。
"""

import json
import os
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Self

from tlkit.course.errors import CourseError
from tlkit.course.grading.world import Use, World, readable

_KILL_SECONDS = 10.0
_START_SECONDS = 30.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}  # 中から /proc/1/environ で読めるので、秘密を渡さない


class Cage(ABC):
    """動いている檻。with を抜けるときには、中のものがすべて止まっている。"""

    _world: World

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    @abstractmethod
    def pipes(self) -> tuple[int, int, int]:
        """標準入力、標準出力、標準エラー。"""

    @abstractmethod
    def status(self, seconds: float = 5.0) -> int | None:
        """終了の状態。合図 N で落ちていれば 128 + N。まだ動いているか、分からなければ None。"""

    @abstractmethod
    def kill(self) -> None:
        """中のものをすべて止め、止まりきるのを待つ。何度呼んでもよい。"""

    def family(self) -> list[int]:
        """中で動いているプロセスの、外から見た番号。"""
        return self._world.family()

    def use(self, memory_limit: int, process_limit: int) -> Use:
        """檻の中全体で使っている量（`World.use`）。"""
        return self._world.use(memory_limit, process_limit)

    def kill_children(self) -> None:
        """進行役の Python だけを残して、中のものを止める。"""
        self._world.kill_children()

    def expendable(self) -> None:
        """機械の記憶が尽きたとき、ほかのものより先に止められるようにする。"""
        self._world.expendable()


class CagedProcess(Cage):
    """檻の中で始めた、新しい Python。"""

    def __init__(self, command: list[str]) -> None:
        info, told = os.pipe()
        try:
            self._popen = subprocess.Popen(
                telling(command, told),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=ENVIRONMENT,
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
        self._world = World(_first_process(info))

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
        """終了の状態。合図 N で落ちていれば 128 + N。まだ動いていれば None。"""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """中のものをすべて止め、止まりきるのを待つ。何度呼んでもよい。"""
        self._world.end()
        self._popen.kill()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_KILL_SECONDS)
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def telling(command: list[str], told: int) -> list[str]:
    """檻を作る（いちばん内側の）bwrap に、pid の世界の主を知らせる口を付ける。"""
    place = command.index("--unshare-user")
    return [*command[:place], "--info-fd", str(told), *command[place:]]


def _first_process(info: int) -> int | None:
    """pid の世界の主の番号。檻を作れずに終わっていれば None。"""
    text = b""
    try:
        while b"}" not in text and readable(info, _START_SECONDS):
            chunk = os.read(info, 4096)
            if not chunk:
                break
            text += chunk
        return int(json.loads(text)["child-pid"])
    except (ValueError, KeyError, TypeError, OSError):
        return None
    finally:
        os.close(info)
