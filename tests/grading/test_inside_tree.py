"""檻に見せる写しに、判定も正解もなく、それでも章の答えを全部呼べること。"""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from in_prepared_tree import KINDS

from tlkit.course.checks import registry
from tlkit.course.checks.harness import decide, from_json
from tlkit.course.errors import CourseError
from tlkit.course.grading import assignment, inside_tree
from tlkit.course.grading.available import package
from tlkit.course.grading.inside_tree import prepare

SLUGS = ("01_basics", "02_finetuning")
SEED = 7
TESTS = Path(__file__).resolve().parents[1]
CHECKS = package() / "course" / "checks"
ONLY_JUDGES = (
    "c01/mmd2_properties",
    "c02/keep_best_weights",
    "c02/layerwise_rates",
    "c02/prepare_rates",
    "c02/prepare_scratch",
    "c02/warm_start_optimum",
)


@pytest.fixture(scope="module", params=SLUGS)
def slug(request):
    return request.param


@pytest.fixture(scope="module")
def release(slug):
    return assignment.load(slug)


@pytest.fixture(scope="module")
def tree(release, tmp_path_factory):
    return prepare(release, tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def report(slug, release, tree):
    """写しだけを使う別の Python で、配布版の初めのセルと、全部の答えを動かした結果。"""
    script = [sys.executable, "-P", str(Path(__file__).with_name("in_prepared_tree.py")), slug]
    first = next(cell.source for cell in release.cells if cell.role == "setup")
    done = subprocess.run(
        [*script, str(tree), str(TESTS / "checks")],
        input=json.dumps([first]),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def everything(tree):
    """写しの全部のファイルの中身（翻訳したものも含む）。"""
    return b"\n".join(path.read_bytes() for path in tree.rglob("*") if path.suffix in (".py", ".pyc"))


def judges():
    return [*CHECKS.glob("c*/*judge*.py"), *(CHECKS / f"{name}.py" for name in ONLY_JUDGES)]


def references(questions):
    names = {name for question in questions for name in question.reference}
    return [package().joinpath(*name.split(".")).with_suffix(".py") for name in sorted(names)]


def strings(path):
    nodes = ast.walk(ast.parse(path.read_bytes()))
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in found if len(text) >= 8}


def lines(path):
    found = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    return {line for line in found if len(line) >= 20 and not re.match(r"from |import |[\"')}\]]", line)}


def canaries(paths):
    """そのファイルにしかない文字列（説明文と文の部分）と、計算の行。"""
    rest = [path for path in package().rglob("*.py") if path not in paths]
    common = "\n".join(text for path in rest for text in (path.read_text(encoding="utf-8"), *strings(path)))
    return {path: {mark for mark in strings(path) | lines(path) if mark not in common} for path in paths}


def test_nothing_of_a_judge_is_left(tree):
    written = everything(tree)
    for path, marks in canaries(judges()).items():
        assert len(marks) >= 10, path
        assert [mark for mark in marks if mark.encode() in written] == []


def test_nothing_of_a_reference_is_left(release, tree):
    written = everything(tree)
    for path, marks in canaries(references(release.questions)).items():
        assert len(marks) >= 10, path
        assert [mark for mark in marks if mark.encode() in written] == []


def test_the_canaries_would_be_found():
    """写しを作らずに全部を置けば、どの目印も見つかる。"""
    whole = b"\n".join(path.read_bytes() for path in package().rglob("*.py"))
    for path, marks in canaries(judges()).items():
        assert all(mark.encode() in whole for mark in marks & lines(path)), path


def test_every_reference_is_a_module_of_the_science_side():
    paths = references(registry.all_questions())
    assert len(paths) >= 11 and all(path.is_file() and "course" not in path.parts for path in paths)


def test_only_what_the_cage_needs_of_the_course_is_there(slug, tree):
    course = tree / "tlkit" / "course"
    chapter = f"c{slug[:2]}"
    assert {path.name for path in course.iterdir()} - {"__pycache__"} == {
        "__init__.py",
        "errors.py",
        "checks",
        "grading",
    }
    assert {path.name for path in (course / "checks").iterdir() if path.is_dir()} == {chapter, "__pycache__"}
    assert {path.name for path in (course / "grading").iterdir()} == {"__init__.py", "__pycache__", "inside"}
    assert not list((course / "checks").glob("notebook*"))
    assert not [name for name in ONLY_JUDGES if (course / "checks" / f"{name}.py").exists()]


def test_every_module_and_the_first_cell_can_be_imported(report):
    assert {"tlkit.losses.mmd", "tlkit.finetune", "tlkit.models.transfer", "tlkit.plot"} <= set(report["modules"])
    assert report["elsewhere"] == []
    assert report["judges"] == []


def test_the_claims_made_in_it_are_judged_outside_as_they_should(slug, report):
    questions = {question.id: question for question in registry.questions(slug)}
    verdicts = {name: [] for name in questions}
    for name, text in report["claims"].items():
        question = questions[name.partition(":")[0]]
        verdict = decide(question, from_json(text), SEED)
        verdicts[question.id].append(verdict.code)
        assert verdict.code in KINDS, (name, verdict)
    assert all("passed" in codes for codes in verdicts.values()), verdicts
    assert {name for name, codes in verdicts.items() if "borrowed" in codes} >= {
        question.id for question in questions.values() if question.reference
    }


def test_a_reference_says_that_it_cannot_be_used(tree, slug):
    script = {
        "01_basics": "from tlkit import losses\ntry: losses.mmd2(1, 2)\nexcept RuntimeError as e: print(e)\n"
        "from tlkit.losses._rbf_sums import RBFDiscrepancy as R\ntry: R.apply(1)\nexcept AttributeError as e: print(e)",
        "02_finetuning": "from tlkit.finetune import *\ntry: GradualUnfreezing(1)\nexcept RuntimeError as e: print(e)\n"
        "try: set_freeze(1, 'all')\nexcept RuntimeError as e: print(e)",
    }[slug]
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert len(said) == 2 and all("採点の間は使えません" in line for line in said), said


def test_the_same_contents_are_made_once_and_shared(tmp_path, monkeypatch):
    one = assignment.load("01_basics")
    first = prepare(one, tmp_path)
    with monkeypatch.context() as patch:
        patch.delattr(inside_tree, "_write")
        assert prepare(one, tmp_path) == first
    fewer = dataclasses.replace(one, questions=one.questions[1:])
    assert prepare(fewer, tmp_path) != first  # 使えるようになるモジュールがある
    assert len(list(tmp_path.iterdir())) == 2


def test_several_at_once_end_with_one(tmp_path):
    one = assignment.load("01_basics")
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: prepare(one, tmp_path), range(4)))
    assert made == set(tmp_path.iterdir()) and len(made) == 1


@pytest.mark.linux
def test_other_users_can_read_it_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        tree = prepare(assignment.load("01_basics"), tmp_path)
    finally:
        os.umask(before)
    for path in (tree, *tree.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_an_interrupted_copy_is_not_used(tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise OSError("disk full")

    one = assignment.load("01_basics")
    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(OSError, match="disk full"):
        prepare(one, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name_of_a_reference_is_explained(tmp_path):
    one = assignment.load("01_basics")
    for name in ("losses.no_such", "losses"):
        wrong = dataclasses.replace(one.questions[0], reference=(name,))
        with pytest.raises(CourseError, match=f"{name} が"):
            prepare(dataclasses.replace(one, questions=(wrong,)), tmp_path)
