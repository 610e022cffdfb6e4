"""`tlkit release`: 学生に配る一式に、解答も採点の部品も入らない。"""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tlkit.course import cli
from tlkit.course.cli_errors import run_safely
from tlkit.course.errors import CourseError
from tlkit.course.grading import assignment
from tlkit.course.grading.release import release
from tlkit.course.intake import read_notebook

ROOT = Path(__file__).resolve().parents[2]
SLUG = "01_basics"
NAME = f"exercises/{SLUG}.ipynb"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """本物の教材の、配るのに要る部分の写し。"""
    root = tmp_path / "course"
    for name in ("chapters/00_start.py", f"solutions/{SLUG}.py", NAME, "LICENSE", "LICENSE-text"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "experiments/results", root / "experiments/results")
    monkeypatch.setenv("TLKIT_COURSE", str(root))
    return root


def change(course, edit):
    path = course / NAME
    document = json.loads(path.read_text(encoding="utf-8"))
    edit({cell["id"]: cell for cell in document["cells"]}, document)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def test_folder_holds_exactly_what_a_student_needs(course, tmp_path):
    made = release(SLUG, tmp_path / "out")
    names = {path.relative_to(made.path).as_posix() for path in made.path.rglob("*") if path.is_file()}
    assert names == {
        f"{SLUG}.ipynb", "LICENSE", "LICENSE-text", "README.txt", "release.json", "experiments/results/01_data_amount.json",
    }  # fmt: skip
    assert names == set(made.files)
    assert made.notes == ()


def test_nothing_of_the_solution_the_judges_or_the_quiz_is_in_it(course, tmp_path):
    made = release(SLUG, tmp_path / "out")
    text = "\n".join((made.path / name).read_text(encoding="utf-8") for name in made.files)
    solution = (ROOT / f"solutions/{SLUG}.py").read_text(encoding="utf-8")
    for region in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", solution, re.S):
        lines = [line.strip() for line in region.splitlines() if len(line.strip()) > 30 and "#" not in line]
        assert not [line for line in lines if line in text]
    assert not re.search(r"BEGIN SOLUTION|def judge|<summary>答え|答え \([a-d]\)", text)
    assert not list(made.path.rglob("*.py"))


def test_the_notebook_is_the_release_that_grading_expects(course, tmp_path):
    made = release(SLUG, tmp_path / "out")
    copy = read_notebook(made.path / f"{SLUG}.ipynb").document
    manifest = json.loads((made.path / "release.json").read_text(encoding="utf-8"))
    target = assignment.load(SLUG)
    assert assignment.from_document(copy, SLUG).version == target.version == manifest["version"]
    assert manifest["questions"] == {question.id: question.points for question in target.questions}
    assert set(manifest["files"]) == set(made.files) - {"release.json"}


def test_zip_is_the_same_every_time_and_has_one_folder(course, tmp_path):
    one, two = (release(SLUG, tmp_path / name, as_zip=True).path for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {SLUG}
        assert archive.read(f"{SLUG}/{SLUG}.ipynb") == (course / NAME).read_bytes()


def test_again_into_the_same_folder_is_fine_but_not_beside_other_files(course, tmp_path):
    release(SLUG, tmp_path / "out")
    release(SLUG, tmp_path / "out")
    (tmp_path / "out" / SLUG / "answers.py").write_text("answer = 1", encoding="utf-8")
    with pytest.raises(CourseError, match=r"answers\.py"):
        release(SLUG, tmp_path / "out")


def fill(cells, document):
    cells["ex-01-2-answer"]["source"] = "def leep(source_probs, labels):\n    return 0.0"


def mark(cells, document):
    cells["ex-01-2-answer"]["source"] += "\n### BEGIN SOLUTION\n"


def whisper(cells, document):
    """解答の文を、説明のセルに紛れ込ませる。"""
    solution = (ROOT / f"solutions/{SLUG}.py").read_text(encoding="utf-8")
    region = max(re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", solution, re.S), key=len)
    document["cells"][0]["source"] += "\n\n```python\n" + region + "\n```"


def stale(cells, document):
    document["cells"][0]["source"] += "\n\n古い版の説明"


@pytest.mark.parametrize(
    ("edit", "told"),
    [(fill, "ex-01-2-answer"), (mark, "解答らしい"), (whisper, "解答の文"), (stale, "食い違う")],
)
def test_a_leak_or_a_stale_release_is_refused_and_nothing_is_written(course, tmp_path, edit, told):
    change(course, edit)
    with pytest.raises(CourseError, match=told):
        release(SLUG, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_solution_the_stub_is_still_checked(course, tmp_path):
    (course / "solutions" / f"{SLUG}.py").unlink()
    assert "省きました" in release(SLUG, tmp_path / "a").lines()[-1]
    change(course, fill)
    with pytest.raises(CourseError, match="解答らしい"):
        release(SLUG, tmp_path / "b")


def test_command_line(course, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tlkit", "release", "--assignment", SLUG, "--out", str(tmp_path / "o"), "--zip"])
    assert run_safely(cli.app) == 0
    assert f"{SLUG}.zip" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["tlkit", "release", "--assignment", "99_none", "--out", str(tmp_path / "o")])
    assert run_safely(cli.app) == 2
    assert "99_none" in capsys.readouterr().err
