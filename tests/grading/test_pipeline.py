import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from grading_kit import (
    ADD,
    ASSIGNMENT,
    DOUBLE,
    HANG,
    PUBLIC_ONLY,
    SECRET,
    TRIPLE,
    inline,
    make_class,
    mixed_class,
    setting,
)

from tlkit.course.errors import CourseError
from tlkit.course.grading import pipeline
from tlkit.course.grading.executors import Pool, threads
from tlkit.course.grading.model import Limits, Outcome
from tlkit.course.grading.pipeline import grade
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.store import Store

SLUG = ASSIGNMENT.slug
SOURCES = {
    "s1": (DOUBLE, ADD),
    "s2": (TRIPLE, ADD),
    "s3": None,
    "s4": b"{broken",
    "s5": (DOUBLE, f"HANG = True\n{ADD}"),
    "s6": (DOUBLE, ADD),
}


def exported(rows):
    """行の全部を、順番もそのままに文字列にする。"""
    return json.dumps([[row.entry.student, row.pending, result_to_json(row.result)] for row in rows])


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "grades.sqlite") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "submissions"


class Counted:
    """呼ばれた数を数える runner。"""

    def __init__(self, run=inline):
        self.run, self.tasks, self.lock = run, [], threading.Lock()

    def __call__(self, task):
        with self.lock:
            self.tasks.append(task)
        return self.run(task)


def graded(folder, roster, store, chosen=None, jobs=2, **options):
    with threads(jobs) as pool:
        return grade(folder, roster, chosen or setting(), store, pool, **options)


def test_every_student_of_the_roster_has_a_row(folder, store):
    rows = graded(folder, make_class(folder, SOURCES), store)
    assert [(row.entry.student, row.result.state, row.result.total) for row in rows] == [
        ("s1", "graded", 10),
        ("s2", "graded", 5),
        ("s3", "missing", None),
        ("s4", "needs_human", None),
        ("s5", "limit", None),
        ("s6", "graded", 10),
    ]
    assert rows[4].result.points == {"01-1": 5, "01-2": None}
    assert store.problems() == []


def test_the_submissions_are_only_read(folder, store):
    roster = make_class(folder, SOURCES)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    graded(folder, roster, store)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_serial_and_parallel_give_the_same_bytes(folder, tmp_path):
    roster = make_class(folder, mixed_class(25))
    texts = set()
    for jobs in (1, 2, 8):
        with Store(tmp_path / f"{jobs}.sqlite") as store:
            texts.add(exported(graded(folder, roster, store, jobs=jobs)))
    assert len(texts) == 1
    assert {row["total"] for row in map(json.loads, (one[2] for one in json.loads(texts.pop())))} == {10, 5, None}


def test_ten_regrades_give_the_same_bytes(folder, store):
    roster = make_class(folder, mixed_class(10))
    first = exported(graded(folder, roster, store))
    for _ in range(10):
        assert exported(graded(folder, roster, store, again=True)) == first
    assert store._database.all("SELECT count(*) FROM endings")[0][0] == 110


def test_what_was_graded_is_not_run_again(folder, store):
    roster = make_class(folder, SOURCES)
    first = exported(graded(folder, roster, store))
    counted = Counted()
    assert exported(graded(folder, roster, store, setting(counted))) == first
    assert counted.tasks == []


def test_only_a_changed_submission_is_run_again(folder, store):
    roster = make_class(folder, SOURCES)
    graded(folder, roster, store)
    make_class(folder, {"s2": (DOUBLE, ADD)})
    counted = Counted()
    rows = graded(folder, roster, store, setting(counted))
    assert len(counted.tasks) == 1
    assert rows[1].result.total == 10


def test_the_same_bytes_of_two_students_meet_different_inputs(folder, store):
    counted = Counted()
    graded(folder, make_class(folder, {"s1": (DOUBLE, ADD), "s2": (DOUBLE, ADD)}), store, setting(counted))
    assert len({task.seeds["01-1"] for task in counted.tasks}) == 2


def test_a_new_secret_or_limit_or_release_grades_again(folder, store):
    roster = make_class(folder, {"s1": (DOUBLE, ADD)})
    graded(folder, roster, store)
    changes = [
        {"secret": b"t" * 32},
        {"limits": Limits(cell_seconds=1)},
        {"assignment": replace(ASSIGNMENT, version="2")},
    ]
    for change in changes:
        counted = Counted()
        graded(folder, roster, store, setting(counted, **change))
        assert len(counted.tasks) == 1, change


def test_the_secret_and_the_judge_stay_out_of_the_task(folder, store):
    counted = Counted()
    graded(folder, make_class(folder, SOURCES), store, setting(counted))
    assert all(set(vars(task)) == {"slug", "program", "seeds", "limits"} for task in counted.tasks)
    assert not any(SECRET.decode() in repr(task) for task in counted.tasks)


def test_the_public_run_is_apart_and_only_for_failed_answers(folder, store):
    counted = Counted()
    graded(folder, make_class(folder, {"s1": (DOUBLE, ADD), "s2": (TRIPLE, ADD)}), store, setting(counted))
    public = [task for task in counted.tasks if 20241 in task.seeds.values()]
    assert [dict(task.seeds) for task in public] == [{"01-1": 20241}]
    assert len(counted.tasks) == 3


def test_a_fault_of_the_cage_is_told_and_tried_again(folder, store):
    def broken(task):
        raise CourseError("檻を始められません。")

    roster = make_class(folder, {"s1": (DOUBLE, ADD), "s2": b"[]"})
    rows = graded(folder, roster, store, setting(broken))
    assert [(row.result.state, row.result.total) for row in rows] == [("infra_error", None), ("needs_human", None)]
    assert rows[0].result.reason == "檻を始められません。"
    assert graded(folder, roster, store)[0].result.total == 10


def test_a_bug_of_the_grader_stops_nobody_else_and_tells_no_values(folder, store):
    def buggy(task):
        if "3 * x" in repr(task.program):
            raise ValueError("CANARY")
        return inline(task)

    rows = graded(folder, make_class(folder, SOURCES), store, setting(buggy))
    assert [row.result.state for row in rows][:2] == ["graded", "infra_error"]
    assert rows[1].result.reason == "採点の途中で ValueError が起きました。"
    assert rows[5].result.total == 10


def test_overrides_survive_a_regrade(folder, store):
    roster = make_class(folder, SOURCES)
    graded(folder, roster, store)
    store.override(ASSIGNMENT, "s5", "01-2", 5, "手元では止まらない")
    row = graded(folder, roster, store, again=True)[4]
    assert (row.result.total, row.final(ASSIGNMENT.question_ids).total) == (None, 10)


def test_progress_counts_everyone_and_ends_at_zero_seconds(folder, store):
    roster = make_class(folder, SOURCES)
    seen = []
    graded(folder, roster, store, listener=seen.append)
    assert [one.done for one in seen] == [2, 3, 4, 5, 6]  # 未提出と壊れたファイルは、初めから決まっている
    assert all(one.total == 6 and sum(one.states.values()) == one.done for one in seen)
    assert seen[0].seconds_left is None
    assert all(one.seconds_left >= 0 for one in seen[1:])
    assert (seen[-1].seconds_left, seen[-1].cached) == (0, 0)
    again = []
    graded(folder, roster, store, listener=again.append)
    assert [(one.done, one.cached, one.seconds_left) for one in again] == [(6, 4, 0)]


def test_only_a_few_submissions_are_started_ahead(folder, store):
    started = []

    def watching(task):
        started.append(store_attempts())
        return inline(task)

    def store_attempts():
        with Store(folder.parent / "grades.sqlite") as other:
            return other.status(SLUG).interrupted

    kinds = [(DOUBLE, ADD), (TRIPLE, ADD), (PUBLIC_ONLY, ADD), ("1 / 0", ADD)]  # 止まるものは、最後の番まで終わらない
    graded(folder, make_class(folder, {f"s{n:02}": kinds[n % 4] for n in range(20)}), store, setting(watching), jobs=2)
    assert max(started) <= 4


def test_stopping_by_hand_leaves_a_store_to_go_on_from(folder, store):
    roster = make_class(folder, mixed_class(12))

    def stop(progress):
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graded(folder, roster, store, listener=stop)
    assert store.status(SLUG).pending == 7
    counted = Counted()
    rows = graded(folder, roster, store, setting(counted))
    assert not any(row.pending for row in rows)


def test_a_dead_executor_is_told(folder, store):
    with ThreadPoolExecutor(1) as executor:
        pool = Pool(executor, 1)

        def dead(task):
            from concurrent.futures import BrokenExecutor

            raise BrokenExecutor

        with pytest.raises(CourseError, match="続きから"):
            grade(folder, make_class(folder, {"s1": (DOUBLE, ADD)}), setting(dead), store, pool)
    assert store.status(SLUG).pending == 1


def test_the_tree_of_the_cage_is_made_before_any_thread_starts(folder, store, monkeypatch):
    """写しは、呼んだスレッドで、仕事より先に作る。仕事が、作り終わるのを待つことはない。"""
    seen = []

    def run(task):
        seen.append("cage")
        return inline(task)

    monkeypatch.setattr(pipeline, "caged", run)
    monkeypatch.setattr(pipeline, "get_ready", lambda slug, _: seen.append((slug, threading.current_thread())))
    graded(folder, make_class(folder, SOURCES), store, setting(run))
    assert seen[0] == (ASSIGNMENT.slug, threading.current_thread())
    assert set(seen[1:]) == {"cage"}


class Stuck:
    """01-1 が 3 倍の提出で、初めの turns 回は時間切れになる runner。動いている数も数える。"""

    def __init__(self, turns, kind="wall"):
        self.turns, self.kind, self.lock = turns, kind, threading.Lock()
        self.now, self.beside, self.before, self.calls, self.others = 0, [], [], 0, 0

    def __call__(self, task):
        with self.lock:
            self.now += 1
        try:
            if "3 * x" not in repr(task.program):
                time.sleep(0.05)  # 動かし直しが早すぎれば、まだ終わっていないものが残る
                with self.lock:
                    self.others += 1
                return inline(task)
            self.calls += 1
            self.beside.append(self.now)
            self.before.append(self.others)
            if self.calls > self.turns:
                return inline(task)
            if self.kind == "timeout":
                return replace(inline(task), claims={}, reasons=dict.fromkeys(task.seeds, "timeout"))
            return Outcome({}, dict.fromkeys(task.seeds, "not-reached"), "wall", "セルの時間が上限を超えました。")
        finally:
            with self.lock:
                self.now -= 1


@pytest.mark.parametrize("kind", ["wall", "timeout"])
def test_a_submission_stopped_by_time_gets_a_second_turn_alone_and_last(folder, store, kind):
    sources = {f"s{number:02}": (DOUBLE, ADD) for number in range(12)} | {"s00": (TRIPLE, ADD)}
    run, done = Stuck(1, kind), []
    rows = graded(folder, make_class(folder, sources), store, setting(run), listener=done.append, jobs=4)
    assert (rows[0].result.state, rows[0].result.points) == ("graded", {"01-1": 0, "01-2": 5})
    assert run.calls == 3  # 時間切れ、動かし直し、公開された種
    assert (run.beside[1:], run.before[1:]) == ([1, 1], [11, 11])
    assert "graded" in done[-1].states and done[-1].done == 12


def test_a_second_stop_by_time_is_recorded_once(folder, store):
    run = Stuck(9)
    rows = graded(folder, make_class(folder, {"s1": (TRIPLE, ADD), "s2": (DOUBLE, ADD)}), store, setting(run))
    assert [row.result.state for row in rows] == ["limit", "graded"]
    assert (rows[0].result.total, rows[0].result.points) == (None, {"01-1": None, "01-2": None})
    assert run.calls == 2
    assert store._database.all("SELECT count(*) FROM endings")[0][0] == 2


def test_other_limits_have_no_second_turn(folder, store):
    calls = []

    def crashing(task):
        calls.append(task)
        return Outcome({}, dict.fromkeys(task.seeds, "not-reached"), "crash", "途中で終了しました。")

    rows = graded(folder, make_class(folder, {"s1": (DOUBLE, ADD)}), store, setting(crashing))
    assert (rows[0].result.state, len(calls)) == ("limit", 1)


def test_one_student_can_be_run_again_without_the_class(folder, store):
    roster = make_class(folder, SOURCES)
    first = graded(folder, roster, store)
    assert first[4].result.state == "limit"
    counted = Counted(lambda task: inline(replace(task, program=tuple(_without_hang(task.program)))))
    rows = graded(folder, roster, store, setting(counted), again=["s5"])
    assert len(counted.tasks) == 1
    assert (rows[4].result.state, rows[4].result.total) == ("graded", 10)
    assert exported([*rows[:4], *rows[5:]]) == exported([*first[:4], *first[5:]])


def _without_hang(program):
    return (replace(step, source=step.source.replace(HANG, "")) for step in program)


def test_a_new_version_does_not_touch_who_was_not_chosen(folder, store):
    roster = make_class(folder, SOURCES)
    first = graded(folder, roster, store)
    changed = setting(assignment=replace(ASSIGNMENT, version="2"))
    counted = Counted()
    rows = graded(folder, roster, store, replace(changed, run=counted), again=["s2"])
    assert exported(rows) == exported(first)
    assert {row.entry.student for row, old in zip(rows, first, strict=True) if row.entry != old.entry} == {"s2"}
    assert all("3 * x" in repr(task.program) for task in counted.tasks)
    graded(folder, roster, store, replace(changed, run=counted))
    assert len({row.entry.key for row in store.rows(SLUG)} & {row.entry.key for row in rows} - {""}) == 1


def test_who_was_not_chosen_and_has_no_result_stays_pending(folder, store):
    rows = graded(folder, make_class(folder, SOURCES), store, again={"s1", "s4"})
    assert [(row.entry.student, row.pending) for row in rows if row.entry.state == "graded"] == [
        ("s1", False),
        ("s2", True),
        ("s5", True),
        ("s6", True),
    ]


def test_a_student_who_is_not_in_the_roster_cannot_be_chosen(folder, store):
    with pytest.raises(CourseError, match="nobody"):
        graded(folder, make_class(folder, SOURCES), store, again=["s1", "nobody"])
    assert store.slugs() == []
