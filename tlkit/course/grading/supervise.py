"""外からの見張り: 檻を始め、手順を渡し、報告を集め、上限を超えたら止める。

提出されたコードが何をしても、例外は出さずに Outcome を返す。例外（CourseError）は、檻そのものを使えないときだけである。
種は、その問題のセルが終わってから渡す。届いた報告の形は `claims.py` が確かめる。
"""

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tlkit.course.checks.question import Question
from tlkit.course.errors import CourseError
from tlkit.course.grading import available, interrupt, ledger
from tlkit.course.grading.inside.frames import MAX_FRAME
from tlkit.course.grading.model import MEGABYTE, Limits, Outcome, Step
from tlkit.course.grading.process import Cage
from tlkit.course.grading.world import Use

INSIDE = ("-m", "tlkit.course.grading.inside")
START_SECONDS = 180.0  # torch の読み込みまで。ここでは学習者のコードは動いていない
MAX_REPORTS = 64 * MEGABYTE
MAX_FILES = 20_000
_TICK = 0.05
_CHUNK = 1 << 18
_MAX_COMPLAINT = 4000


def run(
    program: Sequence[Step],
    questions: Iterable[Question],
    seeds: Mapping[str, int],
    limits: Limits,
    tree: Path,
    start: Callable[[], Cage] | None = None,
) -> Outcome:
    """一つの提出を、檻の中で動かす。

    Args:
        program: 動かすセル。上から順。
        questions: 答えを呼ぶ問題。
        seeds: 問題の id → 隠した入力の種。
        limits: 許す量。
        tree: 檻に見せる、パッケージ tlkit のフォルダ（または、それを含むフォルダ）。
        start: 檻を始める関数。省くと、この機械で作れる檻（`available.py`）の中で、新しい Python を始める。

    Raises:
        CourseError: 檻そのものを使えないとき。提出されたコードのせいで出ることはない。
    """
    answers = {question.id: list(question.answers) for question in questions}
    book = ledger.Ledger(program, {name: seeds[name] for name in answers}, limits)
    order = ledger.order(program, answers, limits)
    begin = start or partial(available.driver().start, tree, limits, INSIDE)
    with begin() as process:
        watch = _Watch(process, book, limits)
        watch.send(order)
        watch.until_end()
    return book.outcome(watch.seconds, watch.peak / MEGABYTE)


class _Watch:
    """一つの檻の見張り。"""

    def __init__(self, process: Cage, book: "ledger.Ledger", limits: Limits) -> None:
        self._process = process
        self._book = book
        self._limits = limits
        self._started = time.monotonic()
        self._pending = bytearray()
        self._line = bytearray()
        self._complaint = bytearray()
        self._received = 0
        self._skipping = False
        self._selector = selectors.DefaultSelector()
        self.peak = 0
        self.seconds = 0.0
        for pipe in process.pipes:
            os.set_blocking(pipe, False)
        self._input, self._output, self._errors = process.pipes
        self._selector.register(self._output, selectors.EVENT_READ)
        self._selector.register(self._errors, selectors.EVENT_READ)

    def send(self, data: bytes) -> None:
        """行を、書けるようになったら書く。"""
        if not self._pending:
            self._selector.register(self._input, selectors.EVENT_WRITE)
        self._pending += data

    def until_end(self) -> None:
        """終わるか、止める理由ができるまで見張る。"""
        measured = 0.0
        try:
            while not self._book.ended:
                interrupt.check()
                for key, _ in self._selector.select(_TICK):
                    self._serve(key.fd)
                now = time.monotonic()
                self.seconds = now - self._started
                if now - measured >= _TICK:
                    measured = now
                    self._measure()
                self._check_time()
        finally:
            self._selector.close()

    def _serve(self, descriptor: int) -> None:
        if descriptor == self._input:
            self._write()
        elif descriptor == self._errors:
            self._hear_complaint()
        elif descriptor == self._output and not self._book.ended:
            self._read()

    def _write(self) -> None:
        try:
            written = os.write(self._input, self._pending)
        except BlockingIOError:
            return
        except OSError:  # 中が先に終わった。理由は、読む側で分かる
            written = len(self._pending)
        del self._pending[:written]
        if not self._pending:
            self._selector.unregister(self._input)

    def _hear_complaint(self) -> None:
        """始まる前の失敗の言い分。始まったあとは、中で閉じられる。"""
        chunk = self._take(self._errors)
        if chunk == b"":
            self._selector.unregister(self._errors)
        self._complaint += (chunk or b"")[: max(0, _MAX_COMPLAINT - len(self._complaint))]

    def _read(self) -> None:
        chunk = self._take(self._output)
        if chunk is None:
            return
        if not chunk:
            self._closed()
            return
        self._received += len(chunk)
        if self._received > MAX_REPORTS:
            self._book.stop("output", "檻からの報告が多すぎます。")
            return
        self._line += chunk
        if b"\n" in chunk:
            *lines, rest = bytes(self._line).split(b"\n")
            self._line = bytearray(rest)
            for line in lines:
                self._hear(line)
        if len(self._line) > MAX_FRAME:
            self._skipping, self._line = True, bytearray()

    def _hear(self, line: bytes) -> None:
        if self._skipping or len(line) > MAX_FRAME:
            self._skipping = False
            self._book.note("長すぎる報告を 1 行捨てました。")
            return
        waiting = not self._book.started
        reply = self._book.hear(line, time.monotonic())
        if waiting and self._book.started:
            self._process.expendable()
        if reply is not None:
            self.send(reply)

    def _closed(self) -> None:
        """報告が「終わり」を言わずに途切れた。"""
        status = self._process.status()
        if not self._book.started:
            raise CourseError(_start_failure(status, self._complaint.decode("utf-8", "replace")))
        self._book.stop("crash", _crash_text(status))

    @staticmethod
    def _take(descriptor: int) -> bytes | None:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _measure(self) -> None:
        use = self._process.use(self._limits.memory_mb * MEGABYTE, self._limits.processes)
        self.peak = max(self.peak, use.memory)
        if not self._book.started or self._book.ended:
            return
        excess = self._excess(use)
        if excess is not None and self._book.forgive(excess[0], time.monotonic()):
            self._process.kill_children()  # 答えを呼ぶ子だけを止め、ほかの問題は続ける
        elif excess is not None:
            self._book.stop(*excess)

    def _excess(self, use: Use) -> tuple[str, str] | None:
        limits = self._limits
        if use.processes > limits.processes:
            return "processes", f"プロセスとスレッドが、上限の {limits.processes} 個を超えました。"
        if use.memory > limits.memory_mb * MEGABYTE:
            return "memory", f"記憶が上限の {limits.memory_mb} MB を超えました。"
        if use.files > MAX_FILES:
            return "disk", f"ファイルの数が、上限の {MAX_FILES} 個を超えました。"
        return None

    def _check_time(self) -> None:
        if self._book.started:
            self._book.check_time(time.monotonic())
        elif self.seconds > START_SECONDS:
            raise CourseError(
                f"檻の中の Python が {START_SECONDS:.0f} 秒たっても始まりません。"
                "機械が混んでいるときは `--jobs` を減らして、やり直してください。"
            )


def _crash_text(status: int | None) -> str:
    """Python が途中で終わったときの説明。bwrap は、合図 N で落ちた子を 128 + N で伝える。"""
    if status is not None and status > 128:
        with suppress(ValueError):
            return f"途中で終了しました（{signal.Signals(status - 128).name}）。"
    return "途中で終了しました（os._exit など）。"


def _start_failure(status: int | None, complaint: str) -> str:
    said = complaint.strip()[-1500:] or "（何も言っていません）"
    return (
        f"檻を始められません（終了コード {status}）: {said}\n"
        "`tlkit grade selftest` で、この機械で檻を作れるかどうかと、直し方を確かめてください。"
    )
