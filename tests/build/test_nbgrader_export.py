"""nbgrader への書き出し。本物の nbgrader が受け取り、正しく採点すること。"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from build_course import ANSWER, USE, code, exercise, load, make_course

from tlkit.course.build import build
from tlkit.course.errors import CourseError

SLUG = "01_basics"


@pytest.fixture
def exported(course: Path, tmp_path: Path) -> Path:
    """書き出した nbgrader のフォルダ。"""
    make_course(course, exercise(code(USE)))
    folder = tmp_path / "nbgrader"
    report = build(None, nbgrader=folder)
    assert report.built == [folder / "source" / SLUG / f"{SLUG}.ipynb"]
    return folder


def test_metadata_follows_schema_3(exported: Path) -> None:
    from tlkit.course.checks import registry

    notebook = load(exported / "source" / SLUG / f"{SLUG}.ipynb")
    cells = {c.id: c for c in notebook.cells}
    assert notebook.cells[0].source.endswith("未着手のままでも検査を通らないようにする")
    assert 'os.environ["TLKIT_CHECK"] = "strict"' in notebook.cells[0].source
    answer, check = (cells[f"ex-01-1-{role}"].metadata.nbgrader for role in ("answer", "check"))
    common = {"schema_version": 3, "task": False, "cell_type": "code"}
    assert answer == common | {"grade": False, "solution": True, "locked": False, "grade_id": "ex-01-1-answer"}
    points = registry.question("01-1").points
    assert check == common | {
        "grade": True,
        "solution": False,
        "locked": True,
        "grade_id": "ex-01-1-check",
        "points": points,
    }
    others = [c for c in notebook.cells if c.cell_type == "code" and not c.id.startswith("ex-")]
    assert all(c.metadata.nbgrader.locked and not c.metadata.nbgrader.grade for c in others)
    assert cells["ex-01-1-answer"].source.count("SOLUTION") == 2


def test_nbgrader_validates_our_metadata(exported: Path) -> None:
    from nbgrader.nbgraderformat import MetadataValidator

    notebook = load(exported / "source" / SLUG / f"{SLUG}.ipynb")
    for cell in notebook.cells:
        MetadataValidator().validate_cell(cell)


def test_config_names_no_machine_path(exported: Path) -> None:
    text = (exported / "nbgrader_config.py").read_text(encoding="utf-8")
    compile(text, "nbgrader_config.py", "exec")
    assert str(exported) not in text
    assert str(Path.home()) not in text


def test_chapters_cannot_be_exported(course: Path, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="書き出せる演習がありません"):
        build([Path("chapters")], nbgrader=tmp_path / "ng")


def test_mark_like_string_is_refused(course: Path, tmp_path: Path) -> None:
    answer = ANSWER.replace("MMD² を返す。", "### END SOLUTION という文字")
    make_course(course, exercise(answer=answer))
    with pytest.raises(CourseError, match="nbgrader に書き出せません"):
        build(None, nbgrader=tmp_path / "ng")


def nbgrader(folder: Path, *arguments: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_nbgrader_gives_the_solution_full_points_and_the_stub_zero(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbgrader.api import Gradebook

    from tlkit.course.checks import registry

    # nbgrader は採点簿を作るとき、PATH の上の alembic を呼ぶ
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    nbgrader(exported, "generate_assignment", SLUG)
    release = exported / "release" / SLUG / f"{SLUG}.ipynb"
    assert "gram(" not in release.read_text(encoding="utf-8")
    source = exported / "source" / SLUG / f"{SLUG}.ipynb"
    for student, notebook in {"solved": source, "untouched": release}.items():
        target = exported / "submitted" / student / SLUG / f"{SLUG}.ipynb"
        target.parent.mkdir(parents=True)
        target.write_bytes(notebook.read_bytes())
    nbgrader(exported, "autograde", SLUG)
    points = registry.question("01-1").points
    with Gradebook(f"sqlite:///{exported / 'gradebook.db'}") as gradebook:
        scores = {s.student.id: (s.score, s.max_score) for s in gradebook.assignment_submissions(SLUG)}
    assert scores == {"solved": (points, points), "untouched": (0, points)}
