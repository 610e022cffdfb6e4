"""採点の検査。"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.quiz.mark import quiz

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("course")


def test_unanswered_is_one_line(capsys: Capture) -> None:
    quiz("q01-01", ...)
    quiz("q01-01")
    assert capsys.readouterr().out == "⏳ q01-01 未回答\n" * 2


def test_right_answer_gives_its_reason(capsys: Capture) -> None:
    quiz("q01-01", "b")
    assert capsys.readouterr().out == "✅ q01-01 正解\n二乗の平均 $5/2$ です。\n"


def test_wrong_answer_explains_only_the_chosen_choice(capsys: Capture) -> None:
    quiz("q01-01", "a")
    assert capsys.readouterr().out == "❌ q01-01 不正解\n誤差の平均です。\n"


@pytest.mark.parametrize("answer", ["B", " b ", "ｂ", "Ｂ", "(b)"])
def test_other_ways_to_write_the_letter_are_accepted(answer: str, capsys: Capture) -> None:
    quiz("q01-01", answer)
    assert capsys.readouterr().out.startswith("✅")


@pytest.mark.parametrize("answer", ["e", "", "ab", "い", 1, None, ["b"]])
def test_other_answers_are_explained(answer: Any, capsys: Capture) -> None:
    with pytest.raises(CourseError) as caught:
        quiz("q01-01", answer)
    assert repr(answer) in str(caught.value)
    assert '"a"、"b"、"c"、"d" のどれか' in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("quiz_id", "words"),
    [
        ("q01-09", "問題 q01-09 はありません。この章にあるのは q01-01、q01-02"),
        ("q07-01", "問題 q07-01 のファイルが .* にありません"),
        ("01-1", '"q01-03" の形'),
        (1, '"q01-03" の形'),
        ("q01-01/../x", '"q01-03" の形'),
    ],
)
def test_unknown_questions_are_refused(quiz_id: Any, words: str) -> None:
    with pytest.raises(CourseError, match=words):
        quiz(quiz_id, "a")


def test_missing_course_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLKIT_COURSE", str(tmp_path / "nowhere"))
    with pytest.raises(CourseError, match="教材のフォルダが見つかりません"):
        quiz("q01-01", "a")


def test_answers_are_recorded_inside_the_work_folder(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (course / "work").mkdir()
    monkeypatch.chdir(course / "work")
    quiz("q01-01", ...)
    assert not (course / "work" / "progress.json").exists()
    file = course / "work" / "progress.json"
    for answer, correct, attempts in (("a", False, 1), ("B", True, 2)):
        quiz("q01-01", answer)
        entry = json.loads(file.read_text(encoding="utf-8"))["quiz"]["q01-01"]
        assert (entry["choice"], entry["correct"], entry["attempts"]) == (answer.lower(), correct, attempts)


def test_marking_works_where_nothing_can_be_recorded(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (course / "work" / "progress.json").mkdir(parents=True)
    monkeypatch.chdir(course / "work")
    quiz("q01-01", "b")
    assert capsys.readouterr().out.startswith("✅")


def test_reason_is_shown_as_markdown_inside_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    import IPython
    import IPython.display

    shown: list[Any] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    monkeypatch.setattr(IPython.display, "display", shown.append)
    quiz("q01-01", "b")
    assert capsys.readouterr().out == "✅ q01-01 正解\n"
    assert [item.data for item in shown] == ["二乗の平均 $5/2$ です。"]


def test_marking_does_not_wait_for_torch() -> None:
    code = "import sys; from tlkit.course import quiz; quiz('q01-01', 'b'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode("utf-8").splitlines()[-1] == "False"


def test_public_name_is_callable_after_the_package_was_imported(capsys: Capture) -> None:
    import tlkit.course.quiz.render  # noqa: F401 部分モジュールが先に読み込まれた状態を作る
    from tlkit.course import quiz as public

    public("q01-01", ...)
    assert capsys.readouterr().out == "⏳ q01-01 未回答\n"


def test_every_question_can_be_marked(
    course: Path, write_quiz: Callable[[Any], Path], make_entry: Any, capsys: Capture
) -> None:
    write_quiz([make_entry(id=f"q01-0{n + 1}", answer=n) for n in range(4)])
    for right in range(4):
        for chosen, letter in enumerate("abcd"):
            quiz(f"q01-0{right + 1}", letter)
            assert capsys.readouterr().out.startswith("✅" if chosen == right else "❌")
