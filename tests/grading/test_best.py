"""提出がいくつもあるとき、全部を採点して、最も高いものを数える。"""

import pytest
from grading_kit import ADD, ASSIGNMENT, DOUBLE, TRIPLE, inline, setting
from small_release import submission, to_bytes

from tlkit.course.grading.executors import threads
from tlkit.course.grading.gather import MAX_RIVALS, gather
from tlkit.course.grading.model import Outcome
from tlkit.course.grading.pipeline import grade
from tlkit.course.grading.roster import Student
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.store import Store

NONE = (TRIPLE, "def leep(x, labels=None):\n    return x")
HALF, OTHER_HALF, FULL = (TRIPLE, ADD), (DOUBLE, NONE[1]), (DOUBLE, ADD)
STUCK = (DOUBLE, f"HANG = True\n{ADD}")
CLASS = (Student("s1"), Student("s2"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "s1").mkdir(parents=True)
    return tmp_path / "in"


def hand_in(folder, **answers):
    """名前 → 二問の答えか、bytes。"""
    for name, source in answers.items():
        data = source if isinstance(source, bytes) else to_bytes(submission(*source))
        (folder / "s1" / f"{name}.ipynb").write_bytes(data)


def graded(folder, run=inline, **options):
    with Store(folder.parent / "g.sqlite") as store, threads(2) as pool:
        rows = grade(folder, CLASS, setting(run, policy="best"), store, pool, **options)
        return rows, store._database.all("SELECT count(*) FROM grades")[0][0]


@pytest.mark.parametrize(
    ("answers", "file", "total"),
    [
        ({"a": HALF, "b": FULL, "c": NONE}, "s1/b.ipynb", 10),
        ({"a": FULL, "b": HALF}, "s1/a.ipynb", 10),
        ({"a": HALF, "b": OTHER_HALF}, "s1/b.ipynb", 5),
        ({"attempt_10": HALF, "attempt_9": OTHER_HALF}, "s1/attempt_10.ipynb", 5),  # 同じ点なら、後の提出
    ],
)
def test_the_best_total_counts_and_every_attempt_is_kept(folder, answers, file, total):
    hand_in(folder, **answers)
    (row, other), grades = graded(folder)
    assert (row.entry.file, row.result.state, row.result.total) == (file, "graded", total)
    assert grades == len(answers)
    assert f"{len(answers)} 個の提出を採点し、合計が最も高い {file} を数えます" in row.result.notes[0]
    assert all(f"s1/{name}.ipynb" in row.result.notes[0] for name in answers)
    assert other.result.state == "missing"


def test_one_submission_is_graded_as_ever(folder):
    hand_in(folder, a=HALF)
    (row, _), _ = graded(folder)
    assert (row.result.total, row.result.notes) == (5, ())


def test_the_same_bytes_count_once(folder):
    hand_in(folder, attempt_1=HALF, attempt_2=FULL, attempt_3=HALF)
    (row, _), grades = graded(folder)
    assert (row.entry.file, grades) == ("s1/attempt_2.ipynb", 2)
    assert "2 個の提出を採点し" in row.result.notes[-1] and "attempt_3.ipynb 5 点" in row.result.notes[-1]


@pytest.mark.parametrize(("bad", "said"), [(STUCK, "上限で停止"), (b"{broken", "要確認")])
def test_an_attempt_without_a_total_could_be_the_best_one(folder, bad, said):
    hand_in(folder, a=HALF, b=bad)
    (row, _), _ = graded(folder)
    assert (row.result.state, row.result.total, row.result.points) == ("needs_human", None, {})
    assert f"s1/b.ipynb {said}" in row.result.reason and "s1/a.ipynb 5 点" in row.result.reason


@pytest.mark.parametrize("bad", [STUCK, b"{broken"])
def test_nothing_can_be_better_than_everything(folder, bad):
    hand_in(folder, a=FULL, b=bad)
    (row, _), _ = graded(folder)
    assert (row.entry.file, row.result.total) == ("s1/a.ipynb", 10)


def test_a_fault_of_the_grader_is_told_and_is_tried_again(folder):
    def faulty(task):
        if "3 * x" in repr(task.program):
            raise OSError
        return inline(task)

    hand_in(folder, a=HALF, b=OTHER_HALF)
    (row, _), _ = graded(folder, faulty)
    assert (row.pending, row.result.state, row.result.total) == (False, "infra_error", None)
    (row, _), _ = graded(folder)
    assert (row.entry.file, row.result.total) == ("s1/b.ipynb", 5)


def test_the_row_is_open_until_every_attempt_has_a_result(folder):
    hand_in(folder, a=HALF, b=NONE, c=FULL)

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graded(folder, listener=stop)
    with Store(folder.parent / "g.sqlite") as store:
        assert store.rows(ASSIGNMENT.slug)[0].pending
    called = []
    (row, _), _ = graded(folder, lambda task: called.append(task) or inline(task))
    assert row.result.total == 10
    assert 0 < len(called) < 6


def test_grading_again_gives_the_same_bytes_and_runs_nothing(folder):
    hand_in(folder, a=HALF, b=FULL)
    (first, _), _ = graded(folder)
    (again, _), _ = graded(folder, lambda task: Outcome())
    assert result_to_json(first.result) == result_to_json(again.result)
    assert first.entry == again.entry


def test_one_student_is_run_again_with_all_attempts(folder):
    hand_in(folder, a=HALF, b=NONE)
    graded(folder)
    called = []
    (row, _), _ = graded(folder, lambda task: called.append(task) or inline(task), again=["s1"])
    assert row.result.total == 5
    assert len(called) == 4


def test_too_many_attempts_are_not_all_run(folder):
    many = {f"a{number}": (DOUBLE, f"{ADD}  # {number}") for number in range(MAX_RIVALS + 1)}
    hand_in(folder, **many)
    (row, _) = gather(folder, CLASS, ASSIGNMENT, policy="best")
    assert (row.state, row.rivals) == ("needs_human", ())
    assert "11 個" in row.reason
