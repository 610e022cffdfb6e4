"""YAML の形の検査。どの誤りも、ファイル名と問題を添えた日本語になる。"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.quiz.schema import load_quiz, quiz_file

Write = Callable[[Any], Path]
Make = Callable[..., dict[str, Any]]


def test_valid_file_keeps_every_field(course: Path) -> None:
    first, second = load_quiz(quiz_file("01_basics"))
    assert (first.id, first.letter, first.computed_by) == ("q01-01", "b", "(1**2 + 2**2) / 2")
    assert (second.syllabus, second.section) == ("深層学習の応用", "平均と分散")
    assert first.choices[1] == "$2.5$"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "01-01"}, "id に '01-01' が書かれています。「q01-03」の形にしてください。"),
        ({"scope": "必須"}, "'出題対象', 'オプション' or '発展' のどれかに"),
        ({"skill": "記憶"}, "skill に '記憶' が書かれています"),
        ({"difficulty": 4}, "difficulty に 4 が書かれています。1〜3の整数に"),
        ({"difficulty": "2"}, "difficulty に '2' が書かれています。引用符のない整数に"),
        ({"answer": 4}, "answer に 4 が書かれています。0〜3"),
        ({"answer": True}, "answer に True が書かれています"),
        ({"choices": ["a", "b", "c"]}, "choices が 3 個あります。ちょうど 4 個に"),
        ({"why": ["a", "b", "c", "d", "e"]}, "why が 5 個あります。ちょうど 4 個に"),
        ({"choices": [1, "2", "3", "4"]}, "choices の 1 番目 に 1（int）が書かれています。引用符で囲んで"),
        ({"why": ["a", "", "c", "d"]}, "why の 2 番目 が空です"),
        ({"why": ["a", "  ", "c", "d"]}, "why の 2 番目 に '  ' が書かれています。空白だけでない文"),
        ({"stem": None}, "stem に None（NoneType）"),
        ({"choices": "a, b, c, d"}, "choices に 'a, b, c, d' が書かれています。4 つの文の並び"),
        ({"choices": ["a", "b", "b ", "d"]}, "choices に同じ選択肢が二つあります"),
        ({"section": "平均 と分散"}, "空白とかっこを含まない見出し"),
        ({"answre": 1}, "answre という項目はありません"),
    ],
)
def test_each_mistake_names_file_question_and_remedy(
    changes: Any, words: str, write_quiz: Write, make_entry: Make
) -> None:
    path = write_quiz([make_entry(**changes)])
    with pytest.raises(CourseError) as caught:
        load_quiz(path)
    assert str(caught.value).startswith(f"01_basics.yaml: 1 番目の問題（{make_entry(**changes)['id']}）: ")
    assert words in str(caught.value)


def test_missing_field_is_named(write_quiz: Write, make_entry: Make) -> None:
    broken = make_entry()
    del broken["why"]
    with pytest.raises(CourseError, match="why がありません。書き足して"):
        load_quiz(write_quiz([broken]))


def test_every_mistake_of_a_question_is_listed(write_quiz: Write, make_entry: Make) -> None:
    with pytest.raises(CourseError) as caught:
        load_quiz(write_quiz([make_entry(answer=9, difficulty=0)]))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "問題の並びではありません"),
        ("[]", "問題の並びではありません"),
        ("id: q01-01", "問題の並びではありません"),
        ("- q01-01", "1 番目の問題: 'q01-01' は項目の並びではありません"),
        ("- id: [", "YAML として読めません"),
        ("- id: q01-01\n  id: q01-02", "id が二度書かれています"),
    ],
)
def test_files_of_another_shape_are_refused(text: str, words: str, write_quiz: Write) -> None:
    with pytest.raises(CourseError, match=words):
        load_quiz(write_quiz(text))


def test_file_in_another_encoding_is_refused(write_quiz: Write) -> None:
    path = write_quiz("")
    path.write_bytes("- id: 日本語".encode("cp932"))
    with pytest.raises(CourseError, match=r"01_basics\.yaml: YAML として読めません"):
        load_quiz(path)


def test_missing_file_is_named(course: Path) -> None:
    with pytest.raises(CourseError, match=r"99_none\.yaml がありません"):
        load_quiz(quiz_file("99_none"))


def test_same_id_twice_is_refused(write_quiz: Write, make_entry: Make) -> None:
    with pytest.raises(CourseError, match="問題 q01-01 が二つ"):
        load_quiz(write_quiz([make_entry(), make_entry()]))


def test_id_of_another_chapter_is_refused(write_quiz: Write, make_entry: Make) -> None:
    with pytest.raises(CourseError, match="q02-01 の章の番号が、ファイル名の頭 01 と違います"):
        load_quiz(write_quiz([make_entry(id="q02-01")]))
