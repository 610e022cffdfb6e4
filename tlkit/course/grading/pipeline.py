"""採点の流れ: 集める → 照合する → 檻で動かす → 檻の外で判定する → 記録する。

檻の仕事だけを executor に送り、照合・判定・記録はここで一つずつ行う。だから、並べて進めても、途中で止めて再開しても、
どの executor を使っても、同じ記録ができる。もう採点した提出（鍵が同じもの）は動かさない。
送る順と動かし直しは `coordinator.py` と `jobs.py`、時間の上限は `calibration.py` が受け持つ。
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading import best, calibration, judging
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.coordinator import Coordinator, Desk
from tlkit.course.grading.executors import Pool
from tlkit.course.grading.gather import Policy, gather
from tlkit.course.grading.jobs import Job
from tlkit.course.grading.matching import match
from tlkit.course.grading.model import Limits, Result, Submission
from tlkit.course.grading.progress import Listener, Tracker
from tlkit.course.grading.roster import Student
from tlkit.course.grading.rows import Entry, Row
from tlkit.course.grading.seeds import seeds_for
from tlkit.course.grading.store import Store
from tlkit.course.grading.tasks import Runner, caged, fresh, get_ready
from tlkit.course.grading.versions import Versions, versions
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
        solution: 解答例のノートブック。時間の上限を決めるのに使う（`calibration.py`）。空なら、最低の上限を使う。
    """

    assignment: Assignment
    secret: bytes
    limits: Limits = field(default_factory=Limits)
    run: Runner = caged
    policy: Policy = "last"
    solution: bytes = b""


def grade(
    folder: Path,
    roster: Sequence[Student],
    setting: Setting,
    store: Store,
    pool: Pool,
    *,
    listener: Listener | None = None,
    again: bool | Collection[str] = False,
) -> list[Row]:
    """フォルダの提出を採点し、名簿の順の行を返す。

    Args:
        folder: 提出を置いたフォルダ。何も書き込まない。
        roster: 名簿。
        setting: 採点のしかた。
        store: 採点の記録。
        pool: 檻の仕事を送る先。
        listener: 進み具合を受け取る関数。
        again: True なら、もう採点した提出も動かし直す。学籍番号の集まりなら、その学生だけを動かし直し、ほかの学生には触れない。

    Raises:
        CourseError: フォルダや記録を使えないとき、いない学生を選んだとき。提出の中身のせいで出ることはない。
    """
    slug = setting.assignment.slug
    submissions = gather(folder, roster, setting.assignment, policy=setting.policy)
    students = None if isinstance(again, bool) else set(again)
    _require_known(students or (), submissions)
    version = versions(setting.assignment, setting.secret, setting.limits, calibration.version(setting.solution))
    kept = _others(students, store, slug)

    def enter(*, over: bool) -> None:
        counted = (kept.get(one.student) or _counted(one, version, setting, store, over=over) for one in submissions)
        store.enter(slug, list(counted))

    enter(over=False)
    waiting: dict[str, Submission] = {}
    settled = []
    cached = 0
    for one in best.flat(submissions):
        entry = kept.get(one.student) or _entry(one, version)
        known = store.lookup(entry.key) if entry.key else None
        wanted = known is None or again is True if students is None else one.student in students
        if entry.key and wanted:
            waiting[entry.key] = one
        else:
            settled.append(entry.state if known is None else known.state)
            cached += known is not None
    tracker = Tracker(len(waiting) + len(settled), settled, cached, listener)
    if waiting:
        _run(setting, store, pool, tracker, waiting)
        enter(over=True)
    return store.rows(slug)


def _others(students: set[str] | None, store: Store, slug: str) -> dict[str, Entry]:
    """選ばなかった学生の、前の欄。教材の版や提出が変わっていても、そのまま残す。"""
    if students is None:
        return {}
    return {row.entry.student: row.entry for row in store.rows(slug) if row.entry.student not in students}


def _run(setting: Setting, store: Store, pool: Pool, tracker: Tracker, waiting: dict[str, Submission]) -> None:
    if pool.here and setting.run in (caged, fresh):
        get_ready(setting.assignment.slug, setting.limits if setting.run is caged else None)
    sample = calibration.Sample(setting.assignment, setting.secret, setting.limits, setting.run, setting.solution)
    limits = calibration.limits(sample, store, pool)
    tracker.begin()
    desk = Desk(lambda one, attempt: _prepare(one, setting, attempt), setting.run, limits, store, pool, tracker)
    Coordinator(desk).run(waiting.items())


def _require_known(students: Collection[str], submissions: Sequence[Submission]) -> None:
    unknown = sorted(set(students) - {one.student for one in submissions})
    if unknown:
        raise CourseError(f"学生 {'、'.join(unknown)} は、名簿にいません。学籍番号を確かめてください。")


def _entry(one: Submission, version: Versions) -> Entry:
    sha256 = hashlib.sha256(one.data).hexdigest() if one.data else ""
    key = version.key(one.student, sha256) if one.state == "graded" else ""
    return Entry(one.student, one.name, one.file, sha256, key, one.state, one.reason, one.notes)


def _counted(one: Submission, version: Versions, setting: Setting, store: Store, *, over: bool) -> Entry:
    """名簿の欄。提出がいくつもあるときは、数える一つが決まるまで、まだ採点していないことにする。

    over は、全部を動かし終えたか。それでも決まらなければ、採点側の故障で結果のない提出の欄にする。
    """
    if not one.rivals:
        return _entry(one, version)
    entries = [_entry(rival, version) for rival in one.rivals]
    full = sum(question.points for question in setting.assignment.questions)
    settled = best.settle(one, entries, store.lookup, full)
    if settled is not None:
        return settled
    if over:
        return next(entry for entry in entries if entry.key and store.lookup(entry.key) is None)
    undecided = version.key(one.student, "+".join(entry.sha256 for entry in entries))
    return Entry(one.student, one.name, key=undecided, notes=one.notes)


def _prepare(submission: Submission, setting: Setting, attempt: int) -> Job | Result:
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
    return Job(attempt, setting.assignment, matched.program, seeds, matched.notes)
