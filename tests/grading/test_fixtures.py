"""壊れた提出の全部を採点し、一つずつ結果を確かめる。無害なコードだけなので、速さのため、檻なしで動かす。

檻で動かす悪意のある提出は `test_fixtures_caged.py`、54 種類の一覧は `fixtures/index.py` にある。
"""

import ast
import dataclasses
import html
from pathlib import Path

import pytest
from fixtures import ALL, HARMLESS, inline
from fixtures.base import FULL, SECOND_ONLY
from fixtures.batch import PATIENT, Class, check, check_batch
from fixtures.index import ELSEWHERE, INDEX

from tlkit.course.grading.report import as_csv, as_html, feedback_files

pytestmark = pytest.mark.linux


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return Class(tmp_path_factory.mktemp("harmless") / "class", HARMLESS, inline.run, PATIENT, 1)


@pytest.mark.parametrize("one", [pytest.param(one, id=one.student) for one in HARMLESS])
def test_a_broken_submission_gets_what_the_table_says(one, harmless):
    check(one, harmless.by_student[one.student])


def test_nothing_but_the_rows_themselves_changes(harmless):
    check_batch(harmless)


def test_grading_again_gives_the_same_rows(harmless):
    assert harmless.grade(again=True) == harmless.rows


@pytest.mark.parametrize(
    ("policy", "state", "points"),
    [("last", "graded", SECOND_ONLY), ("best", "graded", FULL), ("human", "needs_human", {})],
)
def test_a_worse_resubmission_is_counted_as_the_policy_says(policy, state, points, tmp_path):
    (one,) = (one for one in HARMLESS if one.number == 46)
    made = Class(tmp_path / "class", (one,), inline.run, PATIENT, policy=policy)
    check(dataclasses.replace(one, state=state, points=points, says=""), made.by_student[one.student])
    check_batch(made)


def test_html_pages_have_no_markup_of_students(harmless):
    page = as_html.to_html(harmless.report()).decode("utf-8")
    pages = [page, *(data.decode("utf-8") for _, data in feedback_files.feedback_files(harmless.report()))]
    assert len(pages) == len(harmless.rows) + 1
    assert "&lt;script&gt;alert(9)" in page and any("&lt;script&gt;alert(1)" in one for one in pages[1:])
    for raw in ("<script>alert", "<img src=x", 'href="javascript:', "\x1b"):
        assert not [one for one in pages if raw in one]
    assert "default-src 'none'" in html.unescape(page)


def test_csv_report_has_no_formula_of_students(harmless):
    text = as_csv.to_csv(harmless.report()).decode("utf-8-sig")
    assert "'=HYPERLINK" in text
    assert not [line for line in text.splitlines() if ",=HYPERLINK" in line or ',"=HYPERLINK' in line]


def test_all_54_kinds_are_covered():
    assert sorted([*INDEX, *ELSEWHERE]) == list(range(1, 55))
    found = [(one.number, one.name) for one in ALL]
    assert sorted(found) == sorted((number, name) for number, names in INDEX.items() for name in names)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("number", ELSEWHERE)
def test_kinds_that_are_not_submissions_have_a_test_of_their_own(number):
    file, name = ELSEWHERE[number]
    tree = ast.parse(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
