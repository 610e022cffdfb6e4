"""`from tlkit.course import check, ready, hint, quiz, doctor` の入口。"""

import subprocess
import sys

import pytest

import tlkit.course


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_course_does_not_import_torch() -> None:
    assert run("import sys, tlkit.course; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize(
    "before",
    ["", "import tlkit.course.quiz.mark", "from tlkit.course.quiz import mark", "import tlkit.course.doctor as d"],
)
def test_quiz_and_doctor_are_callable_whatever_was_imported_first(before: str) -> None:
    code = f"{before}\nfrom tlkit.course import quiz, doctor, check, ready, hint, CheckFailed\n"
    code += "from tlkit.course.quiz.mark import quiz as real\n"
    code += "import tlkit.course.quiz.mark as mark\n"
    code += "print(callable(quiz), callable(doctor), callable(check), mark.quiz is real)\n"
    assert run(code) == "True True True True"


def test_calling_quiz_reaches_the_function() -> None:
    code = (
        "from tlkit.course import quiz\ntry:\n    quiz('q99-99')\nexcept Exception as e:\n    print(type(e).__name__)"
    )
    assert run(code) == "CourseError"


def test_exports_are_exactly_these() -> None:
    assert set(tlkit.course.__all__) == {"CheckFailed", "check", "doctor", "hint", "quiz", "ready"}
    for name in tlkit.course.__all__:
        assert getattr(tlkit.course, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        tlkit.course.nothing  # noqa: B018
