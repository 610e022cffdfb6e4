"""動いているコンテナ: 始める、見張れることを確かめる、必ず消す。コマンドは `container.py` が作る。"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading.process import CagedProcess
from tlkit.course.grading.world import World

_START_SECONDS = 60.0
_END_SECONDS = 20.0
_TICK = 0.02


class ContainerProcess(CagedProcess):
    """動いているコンテナ。with を抜けるときには、中のものがすべて止まり、コンテナも消えている。

    Args:
        program: コンテナの道具を呼ぶコマンド。
        name: コンテナの名前。
        command: コンテナを始めるコマンド。

    Attributes:
        world: pid の世界の名前。中から見ても同じである。始まらずに終わっていれば None（言い分は標準エラーにある）。

    Raises:
        CourseError: 道具を起動できないか、始めたものを外から見張れないとき。
    """

    def __init__(self, program: Sequence[str], name: str, command: list[str]) -> None:
        self._program, self._name = program, name
        self._world = World(None)
        self.world: str | None = None
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                start_new_session=True,  # 端末の Ctrl-C は、採点する側が受けて、順に片付ける
            )
        except OSError as error:
            raise CourseError(f"{command[0]} を起動できません: {error.strerror}。入れ直してください。") from error
        try:
            self._take_hold()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """中のものをすべて止め、コンテナが消えるのを待つ。何度呼んでもよい。"""
        self._world.end()
        if self.world is None or self.status(_END_SECONDS) is None:
            self._call("rm", "--force", self._name)
        super().kill()

    def _take_hold(self) -> None:
        first = self._find_first()
        if first is None:
            return
        try:
            self.world, self._world = _watchable(first), World(first)
        except CourseError:
            if self.status(_TICK) is None:  # もう終わっていたのなら、見張れないのは当たり前である
                raise

    def _find_first(self) -> int | None:
        end = time.monotonic() + _START_SECONDS
        while self._popen.poll() is None and time.monotonic() < end:
            said = self._call("container", "inspect", "--format", "{{.State.Pid}}", self._name)
            with suppress(ValueError):
                if (pid := int(said)) > 0:
                    return pid
            time.sleep(_TICK)
        return None

    def _call(self, *arguments: str) -> str:
        """道具を呼び、標準出力を返す。失敗なら空。"""
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                [*self._program, *arguments], capture_output=True, text=True, check=False, timeout=_END_SECONDS, cwd="/"
            )
            return done.stdout if done.returncode == 0 else ""
        return ""


def _watchable(pid: int) -> str:
    """この機械のこの利用者から、量れて、止められることを確かめ、pid の世界の名前を返す。

    Raises:
        CourseError: 量れないか、止められないとき。
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        inner = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        Path(f"/proc/{pid}/root/tmp").stat()
        _check_stoppable(pid)
        world = str(Path(f"/proc/{pid}/ns/pid").readlink())
    except PermissionError as error:
        raise CourseError(_NOT_MINE) from error
    except (OSError, StopIteration) as error:
        raise CourseError(_ELSEWHERE) from error
    if len(inner) < 2 or inner[-1] != "1":
        raise CourseError(_ELSEWHERE)
    return world


def _check_stoppable(pid: int) -> None:
    held = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(held, 0)  # 届くかどうかだけを確かめる
    finally:
        os.close(held)


_NOT_MINE = (
    "コンテナは始まりますが、いまの利用者からは中のものを量れず、止められません（root で動く docker など）。"
    "root でない podman（`sudo apt install podman`）を使うか、`sudo` で採点してください。"
)
_ELSEWHERE = (
    "コンテナが、この機械の外か仮想機械の中で動いています（Docker Desktop、DOCKER_HOST など）。"
    "外から量れず、止められないので使いません。コンテナが動く Linux の中で採点してください。"
)
