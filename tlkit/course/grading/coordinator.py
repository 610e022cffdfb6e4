"""採点の進行: 仕事を送り、届いたものから次の手を決め、終わったものを記録する。

時間の上限で止めた回は、すぐには信じない。ほかの提出が全部終わってから、その提出だけを一つずつ動かし直し、その結果を採る。
機械が混んでいたせいで、だれかが損をしないためである。
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, replace

from tlkit.course.errors import CourseError
from tlkit.course.grading import judging
from tlkit.course.grading.executors import Pool
from tlkit.course.grading.jobs import Job, Run, stopped_by_time
from tlkit.course.grading.model import Limits, Outcome, Result, Submission
from tlkit.course.grading.progress import Tracker
from tlkit.course.grading.store import Store
from tlkit.course.grading.tasks import Runner, Task

Prepare = Callable[[Submission, int], Job | Result]


@dataclass(frozen=True)
class Desk:
    """進行に要るもの。

    Attributes:
        prepare: 提出と記録の番号 → 採点する仕事。採点に進めなければ、その結果。
        run: 檻で動かす関数。
        limits: 許す量。
        store: 採点の記録。
        pool: 檻の仕事を送る先。
        tracker: 進み具合。
    """

    prepare: Prepare
    run: Runner
    limits: Limits
    store: Store
    pool: Pool
    tracker: Tracker


class Coordinator:
    """提出を進める。"""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._running: dict[Future[Outcome], tuple[Job, Run]] = {}
        self._late: deque[Job] = deque()  # 最後に、一つずつ動かし直すもの

    def run(self, waiting: Iterable[tuple[str, Submission]]) -> None:
        """全部の提出を進める。"""
        queue = deque(waiting)
        try:
            while queue or self._running or self._late:
                while queue and len(self._running) < 2 * self._desk.pool.size:
                    self._start(*queue.popleft())
                if not self._running and not queue and self._late:
                    self._go_on(replace(self._late.popleft(), alone=True))
                done = wait(self._running, return_when=FIRST_COMPLETED).done if self._running else set()
                for future in done:
                    self._advance(*self._running.pop(future), future)
        except BrokenExecutor as error:
            raise CourseError(
                "檻を見張るプロセスが落ちました。同じ命令をもう一度実行すると、続きから採点します。"
            ) from error
        finally:
            for future in self._running:
                future.cancel()

    def _start(self, key: str, submission: Submission) -> None:
        attempt = self._desk.store.begin(key, submission.student)
        try:
            prepared = self._desk.prepare(submission, attempt)
        except Exception as error:
            prepared = broken(error)
        if isinstance(prepared, Result):
            self._finish(attempt, prepared)
        else:
            self._go_on(prepared)

    def _go_on(self, job: Job) -> None:
        """次の回を送る。もうなければ、判定して記録する。"""
        try:
            run = job.next_run()
            result = None if run else job.result(self._desk.limits)
        except Exception as error:
            run, result = None, broken(error)
        if run is not None:
            task = Task(job.assignment.slug, run.program, run.seeds, self._desk.limits)
            self._running[self._desk.pool.executor.submit(self._desk.run, task)] = job, run
        elif result is not None:
            self._finish(job.attempt, result, job.outcomes)

    def _advance(self, job: Job, run: Run, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except BrokenExecutor:
            raise
        except Exception as error:
            self._finish(job.attempt, broken(error))
            return
        if stopped_by_time(outcome) and not job.alone:
            self._late.append(job)
        else:
            self._go_on(job.with_outcome(run, outcome))

    def _finish(self, attempt: int, result: Result, used: tuple[Outcome, ...] = ()) -> None:
        seconds, peak = sum(one.seconds for one in used), max((one.peak_mb for one in used), default=0.0)
        self._desk.store.finish(attempt, result, seconds, peak)
        self._desk.tracker.add(result.state)


def broken(error: Exception) -> Result:
    """採点の側の故障。CourseError のほかは、値が混ざらないよう、例外の名前だけを残す。"""
    said = str(error) if isinstance(error, CourseError) else f"採点の途中で {type(error).__name__} が起きました。"
    return judging.infra_error(said)
