"""解答例の時間: 一度だけ計り、記録に残し、上限に使う。"""

import json
import threading
from dataclasses import replace

import pytest
from grading_kit import ADD, DOUBLE, HANG, TRIPLE, inline, make_class, setting
from small_release import A1, submission, to_bytes

from tlkit.course.errors import CourseError
from tlkit.course.grading import calibration
from tlkit.course.grading.executors import threads
from tlkit.course.grading.model import Limits, Outcome
from tlkit.course.grading.pipeline import grade
from tlkit.course.grading.store import Store
from tlkit.course.paths import course_root

SOLUTION = to_bytes(submission(DOUBLE, f"# 模範\n{ADD}"))


class Timed:
    """解答例のセルに、決めた時間がかかったことにする runner。"""

    def __init__(self, seconds=30.04):
        self.seconds, self.tasks, self.lock = seconds, [], threading.Lock()

    def __call__(self, task):
        with self.lock:
            self.tasks.append(task)
        return replace(inline(task), cell_seconds={A1: self.seconds, "c-setup": 0.5}, probe_seconds={"01-1": 0.01})

    def solutions(self):
        return [task for task in self.tasks if "模範" in repr(task.program)]

    def others(self):
        return [task for task in self.tasks if "模範" not in repr(task.program)]


@pytest.fixture
def graded(tmp_path):
    def run(runner, solution=SOLUTION, sources=None, name="g", **options):
        chosen = setting(runner, solution=solution, **options.pop("changes", {}))
        roster = make_class(tmp_path / "in", sources or {"s1": (DOUBLE, ADD), "s2": (TRIPLE, ADD)})
        with Store(tmp_path / f"{name}.sqlite") as store, threads(2) as pool:
            return grade(tmp_path / "in", roster, chosen, store, pool, **options)

    return run


def test_the_solution_runs_first_and_alone_and_its_times_become_limits(graded):
    runner = Timed()
    rows = graded(runner)
    assert [row.result.total for row in rows] == [10, 5]
    assert runner.tasks[0] in runner.solutions() and len(runner.solutions()) == 1
    assert runner.tasks[0].limits.cell_seconds >= 600
    for task in runner.others():
        assert dict(task.limits.pace.cells) == {A1: 30.1, "c-setup": 0.5}
        assert task.limits.pace.probes == (("01-1", 0.1),)
        assert task.limits.cell_seconds == Limits().cell_seconds


def test_the_times_are_measured_once_and_the_grades_stay(graded):
    first = graded(Timed())
    slower = Timed(99.0)
    assert graded(slower) == first
    assert slower.tasks == []
    assert graded(slower, again=True) == first
    assert slower.solutions() == []
    assert {dict(task.limits.pace.cells)[A1] for task in slower.tasks} == {30.1}


def test_a_changed_solution_is_measured_again_and_grades_again(graded):
    graded(Timed())
    changed = to_bytes(submission(DOUBLE, f"# 模範その二\n{ADD}"))
    runner = Timed(50.0)
    graded(runner, changed)
    assert len(runner.solutions()) == 1
    assert dict(runner.others()[0].limits.pace.cells)[A1] == 50.0


def test_outputs_of_the_solution_do_not_matter(graded):
    graded(Timed())
    document = json.loads(SOLUTION)
    for number, cell in enumerate(document["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
    runner = Timed()
    graded(runner, to_bytes(document))
    assert runner.tasks == []


def test_without_a_solution_the_least_limits_are_used(graded):
    runner = Timed()
    graded(runner, b"")
    assert runner.solutions() == []
    assert all(task.limits == Limits() for task in runner.tasks)


def test_nothing_to_run_means_nothing_to_measure(graded):
    runner = Timed()
    graded(runner, sources={"s1": b"{broken", "s2": None})
    assert runner.tasks == []


@pytest.mark.parametrize(
    ("solution", "told"),
    [
        (to_bytes(submission(TRIPLE, ADD)), "満点になりません（合格しない問題: 01-1）"),
        (to_bytes(submission(DOUBLE, f"{HANG}\n{ADD}")), "満点になりません（セルの時間が上限"),
        (to_bytes(submission(DOUBLE, ADD)).replace(b'"slug": "01_basics"', b'"slug": "02_finetuning"'), "合いません"),
    ],
)
def test_a_solution_that_does_not_work_here_stops_the_grading(graded, solution, told):
    with pytest.raises(CourseError) as error:
        graded(inline, solution)
    assert told in str(error.value)
    assert "--no-solution" in str(error.value)


def test_a_fault_of_the_cage_while_measuring_is_told(graded):
    def broken(task):
        raise CourseError("檻を始められません。")

    with pytest.raises(CourseError, match="檻を始められません"):
        graded(broken)


def test_the_sentence_of_a_limit_has_both_numbers(graded):
    runner = Timed(30.0)

    def run(task):
        outcome = runner(task)
        if "模範" in repr(task.program):
            return replace(outcome, probe_seconds={"01-1": 30.0, "01-2": 0.1})
        reasons = dict.fromkeys(task.seeds, "timeout")
        return Outcome({}, reasons)

    (row, _) = graded(run)
    assert row.result.state == "limit"
    assert "上限の 150 秒（解答例の 30 秒の 5 倍）を超えました" in row.result.feedback["01-1"].message
    assert "上限の 30 秒（最低の上限" in row.result.feedback["01-2"].message


def test_the_solution_of_the_course_is_found():
    assert calibration.find("01_basics") == (course_root() / "solutions" / "01_basics.ipynb").read_bytes()
    assert calibration.find("no_such_exercise") == b""
