"""採点の流れ: 集める → 照合する → 檻で動かす → 檻の外で判定する → 記録する。

檻の仕事だけを executor に送り、照合・判定・記録はここで一つずつ行う。だから、並べて進めても、途中で止めて再開しても、
どの executor を使っても、同じ記録ができる。もう採点した提出（鍵が同じもの）は動かさない。
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading import judging
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.executors import Pool
from tlkit.course.grading.gather import Policy, gather
from tlkit.course.grading.matching import match
from tlkit.course.grading.model import Limits, Outcome, Result, Step, Submission
from tlkit.course.grading.progress import Listener, Tracker
from tlkit.course.grading.roster import Student
from tlkit.course.grading.rows import Entry, Row
from tlkit.course.grading.seeds import seeds_for
from tlkit.course.grading.store import Store
from tlkit.course.grading.tasks import Runner, Task, caged, get_ready
from tlkit.course.grading.versions import versions
from tlkit.course.intake import IntakeError, parse_notebook, require_python


@dataclass(frozen=True)
class Setting:
    """採点のしかた。

    Attributes:
        assignment: 採点する演習。
        secret: 隠した入力の秘密。
        limits: 一つの提出に許す量。
        run: 檻で動かす関数。
        policy: 提出がいくつもあるときの選び方（`gather.py`）。
    """

    assignment: Assignment
    secret: bytes
    limits: Limits = field(default_factory=Limits)
    run: Runner = caged
    policy: Policy = "last"


def grade(
    folder: Path,
    roster: Sequence[Student],
    setting: Setting,
    store: Store,
    pool: Pool,
    *,
    listener: Listener | None = None,
    again: bool = False,
) -> list[Row]:
    """フォルダの提出を全部採点し、名簿の順の行を返す。

    Args:
        folder: 提出を置いたフォルダ。何も書き込まない。
        roster: 名簿。
        setting: 採点のしかた。
        store: 採点の記録。
        pool: 檻の仕事を送る先。
        listener: 進み具合を受け取る関数。
        again: True なら、もう採点した提出も動かし直す。

    Raises:
        CourseError: フォルダや記録を使えないとき。提出の中身のせいで出ることはない。
    """
    slug = setting.assignment.slug
    submissions = gather(folder, roster, setting.assignment, policy=setting.policy)
    entries = _entries(submissions, setting)
    store.enter(slug, entries)
    waiting: dict[str, Submission] = {}
    settled = []
    for submission, entry in zip(submissions, entries, strict=True):
        known = None if again or not entry.key else store.lookup(entry.key)
        if entry.key and known is None:
            waiting[entry.key] = submission
        else:
            settled.append(entry.state if known is None else known.state)
    cached = len(settled) - sum(not entry.key for entry in entries)
    tracker = Tracker(len(entries), settled, cached, listener)
    if waiting and setting.run is caged:
        get_ready(slug)
    _Coordinator(setting, store, pool, tracker).run(waiting.items())
    return store.rows(slug)


def _entries(submissions: Iterable[Submission], setting: Setting) -> list[Entry]:
    version = versions(setting.assignment, setting.secret, setting.limits)
    entries = []
    for one in submissions:
        sha256 = hashlib.sha256(one.data).hexdigest() if one.data else ""
        key = version.key(one.student, sha256) if one.state == "graded" else ""
        entries.append(Entry(one.student, one.name, one.file, sha256, key, one.state, one.reason, one.notes))
    return entries


@dataclass(frozen=True)
class _Job:
    """進行中の一つの提出。

    Attributes:
        attempt: 記録の番号。
        program: 動かすセル。
        seeds: 隠した入力の種。
        notes: 照合の知らせ。
        outcome: 隠した入力の檻から出たもの。まだなら None。
    """

    attempt: int
    program: tuple[Step, ...]
    seeds: dict[str, int]
    notes: tuple[str, ...]
    outcome: Outcome | None = None


class _Coordinator:
    """仕事を送り、届いたものから判定し、記録する。"""

    def __init__(self, setting: Setting, store: Store, pool: Pool, tracker: Tracker) -> None:
        self._setting = setting
        self._store = store
        self._pool = pool
        self._tracker = tracker
        self._running: dict[Future[Outcome], _Job] = {}

    def run(self, waiting: Iterable[tuple[str, Submission]]) -> None:
        """全部の提出を進める。"""
        queue = deque(waiting)
        try:
            while queue or self._running:
                while queue and len(self._running) < 2 * self._pool.size:
                    self._start(*queue.popleft())
                done = wait(self._running, return_when=FIRST_COMPLETED).done if self._running else set()
                for future in done:
                    self._advance(self._running.pop(future), future)
        except BrokenExecutor as error:
            raise CourseError(
                "檻を見張るプロセスが落ちました。同じ命令をもう一度実行すると、続きから採点します。"
            ) from error
        finally:
            for future in self._running:
                future.cancel()

    def _start(self, key: str, submission: Submission) -> None:
        attempt = self._store.begin(key, submission.student)
        try:
            prepared = _prepare(submission, self._setting, attempt)
        except Exception as error:
            prepared = _broken(error)
        if isinstance(prepared, Result):
            self._finish(attempt, prepared)
        else:
            self._send(prepared, prepared.program, prepared.seeds)

    def _send(self, job: _Job, program: tuple[Step, ...], seeds: dict[str, int]) -> None:
        task = Task(self._setting.assignment.slug, program, seeds, self._setting.limits)
        self._running[self._pool.executor.submit(self._setting.run, task)] = job

    def _advance(self, job: _Job, future: Future[Outcome]) -> None:
        """檻が一つ終わった。返事の要る問題があれば、公開された種でもう一度だけ動かす。"""
        try:
            found = future.result()
            wanted = judging.to_explain(found, self._setting.assignment, job.seeds) if job.outcome is None else ()
            if wanted:
                program = judging.public_program(job.program, wanted)
                self._send(replace(job, outcome=found), program, judging.public_seeds(wanted))
                return
            result = self._judge(job, found)
        except BrokenExecutor:
            raise
        except Exception as error:
            self._finish(job.attempt, _broken(error))
            return
        used = [found] if job.outcome is None else [job.outcome, found]
        seconds, peak = sum(one.seconds for one in used), max(one.peak_mb for one in used)
        self._finish(job.attempt, result, seconds, peak)

    def _judge(self, job: _Job, found: Outcome) -> Result:
        outcome, public = (found, None) if job.outcome is None else (job.outcome, _public(job, found))
        result = judging.judge(outcome, self._setting.assignment, job.seeds, public)
        return replace(result, notes=tuple(dict.fromkeys([*job.notes, *result.notes])))

    def _finish(self, attempt: int, result: Result, seconds: float = 0.0, peak_mb: float = 0.0) -> None:
        self._store.finish(attempt, result, seconds, peak_mb)
        self._tracker.add(result.state)


def _public(job: _Job, found: Outcome) -> judging.Public:
    return judging.Public(found, {step.question: step.id for step in job.program if step.question is not None})


def _prepare(submission: Submission, setting: Setting, attempt: int) -> _Job | Result:
    """ノートブックを読み、照合する。採点に進めなければ、その結果を返す。"""
    try:
        document = parse_notebook(submission.data, submission.file)
        require_python(document, submission.file)
    except IntakeError as error:
        return judging.needs_human(str(error))
    matched = match(document, setting.assignment)
    if matched.human:
        return judging.needs_human(matched.human, matched.notes)
    seeds = seeds_for(setting.secret, submission.student, setting.assignment.question_ids)
    return _Job(attempt, matched.program, seeds, matched.notes)


def _broken(error: Exception) -> Result:
    """採点の側の故障。CourseError のほかは、値が混ざらないよう、例外の名前だけを残す。"""
    said = str(error) if isinstance(error, CourseError) else f"採点の途中で {type(error).__name__} が起きました。"
    return judging.infra_error(said)
