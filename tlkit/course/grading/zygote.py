"""温めた Python から檻を始める、速い道。見えるものも許すことも、結果も、`process.py` の道と同じである。

torch の読み込みと準備には数秒かかる。一度だけ温めておき（`inside/zygote.py`）、提出ごとにその写しを新しい檻に入れる。
この機械で写しを檻に入れられないときは、`ZygoteError` になる。使い分けるのは `tasks.py` である。
"""

import array
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tlkit.course.grading import cage
from tlkit.course.grading.inside.zygote import MAX_REQUEST
from tlkit.course.grading.model import Limits
from tlkit.course.grading.process import ENVIRONMENT, Cage
from tlkit.course.grading.world import World, readable

_INSIDE = ("-m", "tlkit.course.grading.inside.zygote")
_WARM_SECONDS = 180.0
_REQUEST_SECONDS = 90.0
_KILL_SECONDS = 10.0
# bwrap は、自分を始めたスレッドが終わると道連れになる。採点のスレッドより長く生きるスレッドから始める
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="tlkit-zygote")


class ZygoteError(Exception):
    """温めた Python を使えない。提出のせいではない。"""


class Zygote:
    """温めた Python。始めるとすぐ戻り、温まるのは、最初の檻を頼むときに待つ。

    Args:
        tree: 檻に見せる tlkit の写し（`inside_tree.prepare`）。
        limits: 書ける場所の大きさを決める上限。
        questions: 読み込んでおく問題の id。
        modules: 読み込んでおくモジュール。
    """

    def __init__(self, tree: Path, limits: Limits, questions: Iterable[str], modules: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._warm = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = _STARTER.submit(_launch, cage.nursery(tree, limits, _INSIDE), theirs.fileno()).result()
        try:
            order = {"questions": list(questions), "modules": list(modules)}
            self._tell(json.dumps(order).encode("ascii"))
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        """温まるのを待つ。"""
        if self._warm:
            return
        warmed = self._hear(_WARM_SECONDS)
        if warmed.get("threads") != 1:
            raise ZygoteError(f"温めた Python のスレッドが 1 本ではありません（{warmed}）。")
        self._warm = True

    def alive(self) -> bool:
        """まだ動いているか。"""
        return self._popen.poll() is None

    def close(self) -> None:
        """終わらせる。動いている檻も止まる。"""
        self._control.close()
        self._popen.kill()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_KILL_SECONDS)
        if self._popen.stderr is not None:
            self._popen.stderr.close()

    def cage(self, limits: Limits) -> "ForkedProcess":
        """写しを入れた檻を一つ始める。

        Raises:
            ZygoteError: 始められないとき。
        """
        ours, theirs = _pipes()
        try:
            request = json.dumps({"command": cage.room(limits, ())}).encode("utf-8")
            with self._lock:
                self._wait()
                self._tell(request, theirs)
                answer = self._hear(_REQUEST_SECONDS)
            first = answer.get("first")
            if not isinstance(first, int):
                raise ZygoteError(f"檻を始められません: {answer.get('error')}")
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        return ForkedProcess(first, ours)

    def _tell(self, request: bytes, descriptors: Iterable[int] = ()) -> None:
        rights = array.array("i", descriptors)
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        try:
            self._control.sendmsg([request], extra)
        except OSError as error:  # もう終わっている
            raise self._lost(error) from error

    def _hear(self, seconds: float) -> dict[str, object]:
        try:
            data = self._control.recv(MAX_REQUEST) if readable(self._control.fileno(), seconds) else b""
        except (OSError, ValueError) as error:  # ValueError は、口がもう閉じてあるとき
            raise self._lost(error) from error
        if not data:
            raise ZygoteError(f"温めた Python が答えません。{self._complaint()}")
        found: dict[str, object] = json.loads(data)
        return found

    def _lost(self, error: Exception) -> ZygoteError:
        return ZygoteError(f"温めた Python と話せません（{error}）。{self._complaint()}")

    def _complaint(self) -> str:
        errors = self._popen.stderr
        if errors is None or errors.closed or not readable(errors.fileno(), 1.0):
            return ""
        return os.read(errors.fileno(), 4000).decode("utf-8", "replace").strip()[-1500:]


class ForkedProcess(Cage):
    """写しの入った檻。"""

    def __init__(self, first: int, pipes: tuple[int, int, int, int]) -> None:
        self._pipes = pipes
        self._world = World(first)

    @property
    def pipes(self) -> tuple[int, int, int]:
        """標準入力、標準出力、標準エラー。"""
        return self._pipes[:3]

    def status(self, seconds: float = 5.0) -> int | None:
        """終了の状態。合図 N で落ちていれば 128 + N。まだ動いているか、世界の主ごと止まっていれば None。"""
        if not readable(self._pipes[3], seconds):
            return None
        with suppress(ValueError):
            return int(os.read(self._pipes[3], 32))
        return None

    def kill(self) -> None:
        """中のものをすべて止め、止まりきるのを待つ。何度呼んでもよい。"""
        self._world.end()
        _close(self._pipes)
        self._pipes = (-1, -1, -1, -1)


def _launch(command: list[str], control: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=control,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


def _pipes() -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """こちらの端と、檻の側の端。順に、標準入力、標準出力、標準エラー、終わりの知らせ。"""
    inlet, ours_in = os.pipe()
    (ours_out, outlet), (ours_err, complaints), (ours_end, ended) = os.pipe(), os.pipe(), os.pipe()
    return (ours_in, ours_out, ours_err, ours_end), (inlet, outlet, complaints, ended)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
