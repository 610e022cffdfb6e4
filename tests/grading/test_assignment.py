"""配布版の読み取り: 役割、版、断り方。"""

import ast

import pytest
from course_samples import code, text
from small_release import A1, A2, C1, C2, SLUG, release, release_document

from tlkit.course.errors import CourseError
from tlkit.course.grading.assignment import from_document, load
from tlkit.course.grading.snippets import facts
from tlkit.course.paths import course_root

RELEASED = sorted(path.stem for path in (course_root() / "exercises").glob("*.ipynb"))


def test_every_cell_gets_its_role():
    roles = {cell.id: (cell.role, cell.question) for cell in release().cells}
    assert roles == {
        "c-title": ("text", None),
        "c-setup": ("setup", None),
        "c-q1": ("text", None),
        A1: ("answer", "01-1"),
        C1: ("check", "01-1"),
        "c-follow": ("follow-up", None),
        "c-setup2": ("setup", None),
        "c-q2": ("text", None),
        A2: ("answer", "01-2"),
        C2: ("check", "01-2"),
    }
    assert release().question_ids == ("01-1", "01-2")


def test_version_depends_on_sources_only():
    changed, executed = release_document(), release_document()
    changed["cells"][0]["source"] += "（改訂）"
    executed["cells"][1]["execution_count"] = 7
    assert from_document(changed, SLUG).version != release().version
    assert from_document(executed, SLUG).version == release().version


@pytest.mark.parametrize("slug", RELEASED)
def test_released_exercises_load_and_setup_never_needs_a_cell_that_is_not_run(slug):
    assignment = load(slug)
    assert all(len(question.answers) == len({*question.answers}) for question in assignment.questions)
    assert {cell.question for cell in assignment.cells if cell.role == "check"} == {*assignment.question_ids}
    idle = {name for cell in assignment.cells if cell.role == "follow-up" for name in facts(cell.source).names}
    made = {name for cell in assignment.cells if cell.role == "setup" for name in facts(cell.source).names}
    for cell in assignment.cells:
        if cell.role in ("setup", "answer"):
            ast.parse(cell.source)
            assert not (facts(cell.source).reads & idle) - made, cell.id


def test_answers_spread_over_two_cells_have_two_homes():
    document = release_document()
    document["cells"].insert(4, code("sigma = ...", "ex-01-1-answer-2"))
    assignment = from_document(document, SLUG)
    question = assignment.questions[0]
    assert assignment.answer_cell(question, "sigma").id == "ex-01-1-answer-2"
    assert assignment.answer_cell(question, "mmd2").id == A1


def test_unknown_exercise_names_the_known_ones(tmp_path):
    with pytest.raises(CourseError, match=r"99_nothing.*\n.*01_basics"):
        load("99_nothing")
    with pytest.raises(CourseError, match="tlkit build"):
        load("01_basics", tmp_path)


@pytest.mark.parametrize("kind", ["chapter", "solution", None])
def test_only_exercises_can_be_released(kind):
    document = release_document()
    document["metadata"]["tlkit"]["kind"] = kind
    with pytest.raises(CourseError, match="配布版ではありません"):
        from_document(document, SLUG)


def test_question_without_an_answer_cell_is_refused():
    document = release_document()
    document["cells"] = [cell for cell in document["cells"] if cell["id"] != A2] + [text("", "c-z")]
    with pytest.raises(CourseError, match="01-2"):
        from_document(document, SLUG)
