"""問題の一覧と、定義の形。"""

import re

import pytest

from tlkit.course.checks.borrowed import _resolve
from tlkit.course.checks.registry import all_questions, question, questions
from tlkit.course.errors import CourseError


def test_lookup() -> None:
    assert question("01-1").answers == ("mmd2",)
    assert [item.id for item in questions("01_basics")][:1] == ["01-1"]
    assert questions("00_start") == []
    assert question("01-1") in all_questions()


@pytest.mark.parametrize("wrong_id", ["01-01", "1-1", "q01-1", "", None, 3])
def test_unknown_ids_name_what_exists(wrong_id: object) -> None:
    with pytest.raises(CourseError, match="01-1") as caught:
        question(wrong_id)  # type: ignore[arg-type]
    assert repr(wrong_id) in str(caught.value)


def test_near_names_come_first() -> None:
    with pytest.raises(CourseError, match='例: "01-1"'):
        question("01_1")


@pytest.mark.parametrize("item", all_questions(), ids=lambda item: item.id)
def test_definition(item) -> None:
    assert re.fullmatch(r"\d\d-[1-9]\d?", item.id)
    assert item in questions(f"{item.id[:2]}_any")
    assert item.points > 0
    assert item.difficulty in (1, 2, 3)
    assert 1 <= item.minutes <= 120
    assert len(item.hints) == 3
    assert all(hint.strip() == hint and len(hint) >= 10 for hint in item.hints)
    assert len(set(item.hints)) == 3
    assert item.answers
    assert len(set(item.answers)) == len(item.answers)
    assert all(name.isidentifier() for name in item.answers)
    assert item.title.strip()
    assert item.goal.endswith("できる")
    assert all(_resolve(name).startswith("tlkit.") for name in item.borrow_ok)


def test_ids_are_unique() -> None:
    ids = [item.id for item in all_questions()]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids, key=lambda name: (name[:2], int(name[3:])))
