"""クイズのセルの検査。"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from markdown_it import MarkdownIt

from tlkit.course.errors import CourseError
from tlkit.course.quiz.render import quiz_cells, to_markdown
from tlkit.course.quiz.schema import QuizItem

Make = Callable[..., dict[str, Any]]


def html_of(markdown: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).render(markdown)


@pytest.mark.usefixtures("course")
def test_each_question_becomes_two_cells_with_fixed_ids() -> None:
    cells = quiz_cells("01_basics")
    assert [(cell.cell_type, cell.id) for cell in cells] == [
        ("markdown", "q01-01"),
        ("code", "q01-01-mark"),
        ("markdown", "q01-02"),
        ("code", "q01-02-mark"),
    ]
    assert cells[1].source == 'quiz("q01-01", ...)'
    nbformat.validate(nbformat.v4.new_notebook(cells=cells))


@pytest.mark.usefixtures("course")
def test_named_questions_come_in_the_named_order() -> None:
    assert [cell.id for cell in quiz_cells("01_basics", ["q01-02", "q01-01"])][::2] == ["q01-02", "q01-01"]
    assert quiz_cells("01_basics", ["q01-02"]) == quiz_cells("01_basics")[2:]
    assert quiz_cells("01_basics", []) == []


@pytest.mark.usefixtures("course")
def test_unknown_question_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CourseError, match=r"問題 q01-09 がありません。あるのは q01-01、q01-02 です"):
        quiz_cells("01_basics", ["q01-01", "q01-09"])


def test_badges_choices_and_reasons_all_appear(make_entry: Make) -> None:
    text = to_markdown(QuizItem(**make_entry(syllabus="深層学習の応用", section="平均と分散")))
    assert text.startswith("### 問 q01-01\n\n**出題対象** ｜ 計算 ｜ 難易度 ★★☆ ｜ シラバス 深層学習の応用\n\n")
    assert [line for line in text.splitlines() if re.match(r"- \([a-d]\) ", line)] == [
        *("- (a) $1.5$", "- (b) $2.5$", "- (c) $3$", "- (d) $5$"),
        "- (a) 誤り: 誤差の平均です。",
        "- (b) 正しい: 二乗の平均 $5/2$ です。",
        "- (c) 誤り: 誤差の和です。",
        "- (d) 誤り: 二乗の和です。",
    ]
    assert "[平均と分散](#平均と分散)" in text


def test_answer_is_only_inside_the_folded_part(make_entry: Make) -> None:
    before, inside = to_markdown(QuizItem(**make_entry())).split("<summary>答えと解説</summary>")
    assert "答え" not in before
    assert "二乗の平均" not in before
    assert "**答え (b)**" in inside


def test_markdown_and_math_survive_rendering(make_entry: Make) -> None:
    html = html_of(to_markdown(QuizItem(**make_entry(choices=["**甲**（K）", "$a_1 b_1$", "`x * y`", "丁"]))))
    assert "<strong>平均二乗誤差</strong>（MSE）" in html
    assert "<strong>甲</strong>（K）" in html
    assert "$a_1 b_1$" in html
    assert "<code>x * y</code>" in html
    assert "<strong>答え (b)</strong>" in html  # details の中も Markdown として読まれる
    assert html.count("<li>") == 8
    assert "**" not in html


def test_choice_of_several_lines_stays_one_item(make_entry: Make) -> None:
    code = "次のコード。\n```python\nx = 1\n```"
    html = html_of(to_markdown(QuizItem(**make_entry(choices=[code, "乙", "丙", "丁"]))))
    first = html.split("<li>")[1].split("</li>")[0]
    assert '<pre><code class="language-python">x = 1\n</code></pre>' in first
    assert html.count("<li>") == 8


def test_rendering_twice_gives_the_same_cells(course: Path) -> None:
    assert quiz_cells("01_basics") == quiz_cells("01_basics")
