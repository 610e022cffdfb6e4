"""答えを呼ぶ: セルのあとの状態を fork し、その子の中で呼ぶ。

子が落ちても、終わらなくても、失うのはその問題だけである。種は子が受け取るので、親には残らない。
終わったら、子が残したプロセスも片づける。
"""

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, NoReturn

from tlkit.course.checks.harness import sealed
from tlkit.course.checks.question import Question
from tlkit.course.grading.inside import processes
from tlkit.course.grading.inside.confine import room
from tlkit.course.grading.inside.frames import MAX_FRAME, Channel, write_all

_TICK = 0.05
_SHORT = 0.001
_LAST_SECONDS = 0.2
_CHUNK = 1 << 16
_SWEEPS = 20
_FAILED = "!"  # 記録の代わりに送る、例外の名前の目印
_STARTED = 300 * 1024 * 1024  # 新しい Python が問題の定義を読み込んだときの、ファイルに写っていない記憶


@dataclass(frozen=True)
class Bounds:
    """一つの問題に許す量。記憶の和そのものは、檻の外が見張る。

    Attributes:
        seconds: 時間 [秒]。
        memory: 檻の中の記憶の和 [バイト]。
        start: 最初のセルの前に、この Python が持っていた記憶 [バイト]（`processes.unshared`）。
    """

    seconds: float
    memory: int
    start: int = 0


def probe(channel: Channel, question: Question, answers: tuple[Any, ...], bounds: Bounds) -> dict[str, Any]:
    """答えを呼び、外へ送る報告を作る。"""
    before = processes.everyone()
    try:
        text, reason = _in_child(channel, question, answers, bounds)
    except OSError as error:  # 学習者が口やプロセスを使い切っている
        text, reason = None, f"crash:{type(error).__name__}"
    _sweep(before)
    return {"event": "claim", "question": question.id, "claim": text, "reason": reason}


def _in_child(
    channel: Channel, question: Question, answers: tuple[Any, ...], bounds: Bounds
) -> tuple[str | None, str | None]:
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        _child(channel, question, answers, bounds, outlet)
    os.close(outlet)
    try:
        data, reason = _await(child, inlet, bounds)
    finally:
        os.close(inlet)
    status = _end(child)
    if reason is None and not data.endswith(b"\n"):
        reason = _crash(status)
    text = data[:-1].decode("ascii", "replace")
    if reason is None and text.startswith(_FAILED):
        name = text[len(_FAILED) :]
        reason = "memory" if name == "MemoryError" else f"crash:{name}"
    return (None, reason) if reason is not None else (text, None)


def _child(channel: Channel, question: Question, answers: tuple[Any, ...], bounds: Bounds, outlet: int) -> NoReturn:
    """子の仕事。必ずここで終わる。"""
    try:
        os.setsid()
        channel.send({"event": "ready", "question": question.id})
        seed = int(channel.receive()["seed"])
        _one_thread()
        with room(_room(bounds)):
            text = sealed(question, answers, seed)
        write_all(outlet, text.encode("ascii") + b"\n")
    except BaseException as error:
        write_all(outlet, f"{_FAILED}{type(error).__name__[:60]}\n".encode("ascii", "replace"))
    finally:
        os._exit(0)


def _room(bounds: Bounds) -> int:
    """子があと使ってよい記憶 [バイト]。外の見張りより先に、いつも MemoryError になるようにする。

    fork の後は、触れたページの写しができて、番地を増やさずに記憶が増える。その分は、はじめから引いておく。
    ファイルを写した分は数えない。ほかのプロセスと分け合うもので、檻の始め方によっても変わるためである。
    温めた Python は、使っていないページまで初めから持つ。進行役と子のその分は、新しい Python と同じ量とみなす。
    """
    used = sum(processes.unshared(pid) for pid in processes.everyone())
    return bounds.memory * 9 // 10 - used + 2 * max(0, bounds.start - _STARTED)


def _one_thread() -> None:
    """fork の前に作られた計算のスレッドは、子にはいない。待ち続けないよう 1 本にする。"""
    import torch

    torch.set_num_threads(1)


def _await(child: int, inlet: int, bounds: Bounds) -> tuple[bytes, str | None]:
    """子が書き終えるか、落ちるか、上限を超えるまで待つ。"""
    deadline = monotonic() + bounds.seconds
    data = bytearray()
    while True:
        if select.select([inlet], [], [], _TICK)[0]:
            chunk = os.read(inlet, _CHUNK)
            data += chunk
            if not chunk or data.endswith(b"\n"):
                return bytes(data), None
            if len(data) > MAX_FRAME:
                return b"", "refused"
        elif _gone(child):
            return bytes(data), None
        if monotonic() > deadline:
            return b"", "timeout"


def _gone(child: int) -> bool:
    """子が終わっているか（終了の状態は残しておく）。"""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end(child: int) -> int:
    """子を終わらせ、終了の状態を返す。自分から終わるのを少しだけ待つ（落ちた合図を取り違えないため）。"""
    deadline = monotonic() + _LAST_SECONDS
    while not _gone(child) and monotonic() < deadline:
        sleep(_SHORT)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:  # 学習者が SIGCHLD を捨てている
        return 0


def _crash(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"crash:{signal.Signals(number).name}" if number in set(signal.Signals) else f"crash:{number}"
    return "crash:exit"


def _sweep(before: set[int]) -> None:
    """答えが残したプロセスを、孫まで止める。"""
    for _ in range(_SWEEPS):
        left = processes.everyone() - before
        if not left:
            return
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        sleep(0.01)
