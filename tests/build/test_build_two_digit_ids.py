"""番号が二桁の演習（03-10）を、build と reset が、頭の同じ演習（03-1）と取り違えないこと。"""

from pathlib import Path
from typing import Any

import pytest
from build_course import code, draft, prose
from nbformat.v4 import new_code_cell, new_output

from tlkit.course.build.assemble import Draft
from tlkit.course.build.outputs import check_problems
from tlkit.course.checks.registry import question
from tlkit.course.errors import CourseError
from tlkit.course.work.restore import restore_exercise

ORDER = ("03-1", "03-9", "03-10")


def section(question_id: str, *after: str) -> str:
    """演習 1 問。答えは、どれも同じ形の関数とする。"""
    names = question(question_id).answers
    body = "\n\n".join(
        f"def {name}(*given):\n    ### BEGIN SOLUTION\n    return given[0]\n    ### END SOLUTION" for name in names
    )
    call = f'check("{question_id}", {", ".join(names)})'
    return "\n".join([prose(f"## 演習\n\n<!-- exercise: {question_id} -->"), code(body), code(call), *after])


def source(*after: str) -> str:
    return "\n".join([code("from tlkit.course import check, ready"), *map(section, ORDER), *after])


def made(tmp_path: Path) -> Draft:
    return draft(tmp_path, source())


def test_cell_ids_and_order(tmp_path: Path) -> None:
    notebook = made(tmp_path).notebook
    ids = [cell.id for cell in notebook.cells if cell.id.startswith("ex-")]
    assert ids == [f"ex-{name}-{role}" for name in ORDER for role in ("answer", "check")]
    assert notebook.metadata.tlkit["questions"] == list(ORDER)
    assert made(tmp_path).check_ids == {f"ex-{name}-check": name for name in ORDER}


@pytest.mark.parametrize(("printed", "asked"), [("03-10", "03-1"), ("03-1", "03-10")])
def test_the_output_of_the_other_question_is_not_accepted(printed: str, asked: str) -> None:
    def cell(name: str) -> Any:
        return new_code_cell(outputs=[new_output("stream", name="stdout", text=f"✅ {name} 合格\n")])

    assert check_problems(cell(asked), asked, "solution") == []
    assert check_problems(cell(printed), asked, "solution") != []


def test_ready_of_the_first_does_not_guard_the_tenth(tmp_path: Path) -> None:
    name = question("03-10").answers[0]
    with pytest.raises(CourseError, match="演習 03-10 の答え"):
        draft(tmp_path, source(code(f'if ready("03-1"):\n    print({name})')))
    draft(tmp_path, source(code(f'if ready("03-10"):\n    print({name})')))


@pytest.mark.parametrize("wanted", ORDER)
def test_reset_touches_only_the_question_named(tmp_path: Path, wanted: str) -> None:
    pristine, mine = made(tmp_path).notebook, made(tmp_path).notebook
    edited = [cell for cell in mine["cells"] if cell["id"].endswith("-answer")]
    for cell in edited:
        cell["source"] += "\n# 書き足した行"
    restore_exercise(mine, pristine, wanted)
    kept = {cell["id"]: "書き足した" in cell["source"] for cell in mine["cells"] if cell["id"].endswith("-answer")}
    assert kept == {f"ex-{name}-answer": name != wanted for name in ORDER}
