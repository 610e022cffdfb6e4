import shlex
import sys

import pytest

from tlkit.course import cli
from tlkit.course.cli_errors import run_safely
from tlkit.course.errors import CourseError
from tlkit.course.grading import assignment
from tlkit.course.grading.gather import gather
from tlkit.course.grading.matching import match
from tlkit.course.grading.roster import read_roster
from tlkit.course.grading.sample import PEOPLE, SLUG, make_sample_class, next_commands
from tlkit.course.intake import parse_notebook, read_notebook
from tlkit.course.paths import course_root


@pytest.fixture(scope="module")
def release():
    return assignment.load(SLUG)


@pytest.fixture(scope="module")
def rows(tmp_path_factory, release):
    submissions, roster = make_sample_class(tmp_path_factory.mktemp("class"))
    return {row.student: row for row in gather(submissions, read_roster(roster), release)}


def _matched(row, release):
    return match(parse_notebook(row.data, row.file), release)


def _answers(matched):
    return {step.id: step.source for step in matched.program if step.question}


def test_everyone_of_the_roster_has_the_intended_state(rows):
    states = {student: row.state for student, row in rows.items()}
    human = dict.fromkeys(("s006", "s007", "s011", "s012"), "needs_human")
    graded = dict.fromkeys(("s001", "s002", "s003", "s004", "s005", "s008", "s009", "s010"), "graded")
    assert states == graded | human | {"s013": "missing"}
    assert [row.name for row in sorted(rows.values(), key=lambda row: row.student)] == [name for name, _ in PEOPLE]


def test_the_right_ones_hold_the_solution(rows, release):
    solution = read_notebook(course_root() / "solutions" / f"{SLUG}.ipynb").document
    sources = {cell["id"]: cell["source"] for cell in solution["cells"] if "-answer" in cell["id"]}
    for student in ("s001", "s002", "s010"):
        assert _answers(_matched(rows[student], release)) == sources
    assert "attempt_2" in rows["s010"].file


def test_the_others_are_partly_or_not_answered(rows, release):
    untouched = {student: _matched(rows[student], release).untouched for student in ("s003", "s004", "s005", "s009")}
    everything = release.question_ids
    assert untouched == {"s003": everything[4:], "s004": (), "s005": everything, "s009": everything[1:]}


def test_the_hostile_ones_are_matched_as_ordinary_code(rows, release):
    assert "os._exit" in _answers(_matched(rows["s008"], release))["ex-01-3-answer"]
    assert "assert_allclose" in _answers(_matched(rows["s009"], release))["ex-01-1-answer"]


def test_the_class_is_always_the_same_and_never_overwritten(tmp_path):
    for name in ("one", "two"):
        make_sample_class(tmp_path / name)
    found = [
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if path.is_file()
        }
        for name in ("one", "two")
    ]
    assert found[0] == found[1] and len(found[0]) == 16


@pytest.mark.parametrize("name", ["README.md", "submissions/s001.ipynb", ".hidden"])
def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path, name):
    path = tmp_path / "full" / name
    path.parent.mkdir(parents=True)
    path.write_text("だいじなもの", encoding="utf-8")
    with pytest.raises(CourseError, match="空のフォルダではありません"):
        make_sample_class(tmp_path / "full")
    assert [one.read_text("utf-8") for one in (tmp_path / "full").rglob("*") if one.is_file()] == ["だいじなもの"]


def test_a_file_is_refused_and_an_empty_folder_is_used(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(CourseError, match="空のフォルダではありません"):
        make_sample_class(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert make_sample_class(tmp_path / "empty")[1].is_file()


def test_the_explanation_lists_everyone_of_the_roster(tmp_path):
    _, roster = make_sample_class(tmp_path / "class")
    text = (tmp_path / "class" / "README.md").read_text("utf-8")
    for student in read_roster(roster):
        assert f"| {student.id} | {student.name} | " in text


def test_the_command_says_what_to_type_next_and_the_words_are_commands(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "試す 学級"
    monkeypatch.setattr(sys, "argv", ["tlkit", "grade", "sample", str(folder)])
    assert run_safely(cli.app) == 0
    out = capsys.readouterr().out
    assert len(list((folder / "submissions").iterdir())) == 13
    for command in next_commands(folder):
        assert f"  {command}\n" in out
    enter, *rest = (shlex.split(command) for command in next_commands(folder))
    assert enter == ["cd", str(folder)]
    assert [words[:3] for words in rest] == [
        ["tlkit", "grade", word] for word in ("submissions", "status", "report", "override")
    ]


def test_the_command_refuses_a_full_folder_without_a_traceback(tmp_path, monkeypatch, capsys):
    (tmp_path / "x").write_text("x", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["tlkit", "grade", "sample", str(tmp_path)])
    assert run_safely(cli.app) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "空のフォルダ" in shown.err and "Traceback" not in shown.err
