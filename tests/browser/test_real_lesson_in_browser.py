"""学習者の 10 分間: 本物の教材を Lab で開き、全部のセルを動かし、演習を間違え、直して合格する。"""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab_browser import errors, notebook, open_lab, open_notebook, run_all_long, save, screenshot
from lab_session import LabSession, running_lab
from playwright.sync_api import Page

from tlkit.course.paths import course_root

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EXERCISE = "exercises/01_basics.ipynb"
SIGNATURE = 'def mmd2(x, y, sigma, estimator="biased"):\n'
NOT_SQUARED = SIGNATURE + (
    "    def k(a, b):\n"
    "        return torch.exp(-torch.cdist(a, b) / (2 * sigma**2))\n"
    "    return k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()"
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSession]:
    folder = tmp_path_factory.mktemp("learner")
    with running_lab(course_root(), folder / "home", work=folder / "work") as started:
        yield started


def saved(session: LabSession, path: str) -> nbformat.NotebookNode:
    return nbformat.read(session.work / path, as_version=4)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def solution() -> str:
    """解答例のノートブックの答えのセル。"""
    book = nbformat.read(course_root() / "solutions" / "01_basics.ipynb", as_version=4)
    (cell,) = [cell for cell in book.cells if cell.id == "ex-01-1-answer"]
    return str(cell.source)


def replace_answer(page: Page, new: str) -> None:
    """演習01-1の答えのセルを選び、中身を打ち直す。"""
    editor = notebook(page).locator(".jp-CodeCell .cm-content", has_text="def mmd2(")
    editor.scroll_into_view_if_needed()
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(new)


@pytest.mark.parametrize("path", ["chapters/00_start.ipynb", "chapters/01_basics.ipynb"])
def test_every_cell_of_a_chapter_runs(session: LabSession, path: str) -> None:
    with open_lab(session) as page:
        open_notebook(page, session, path)
        run_all_long(page, session, path)
        save(page)
        assert errors(page) == []
        for index, image in enumerate(notebook(page).locator(".jp-OutputArea-output img").all()):
            image.scroll_into_view_if_needed()
            assert image.evaluate("node => node.complete && node.naturalWidth > 100")
            assert any("\u3040" <= c <= "\u30ff" for c in image.get_attribute("alt") or "")
            screenshot(page, f"{Path(path).stem}-figure-{index}")
    code = [cell for cell in saved(session, path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {(o.output_type, o.get("name")) for cell in code for o in cell.outputs}
    assert kinds <= {("stream", "stdout"), ("display_data", None)}, "標準エラー（字形の警告など）か例外が出ています"


def test_exercise_from_untouched_to_a_diagnosis_to_passed(session: LabSession) -> None:
    def outcome() -> nbformat.NotebookNode:
        run_all_long(page, session, EXERCISE)
        save(page)
        (check,) = [cell for cell in saved(session, EXERCISE).cells if cell.id == "ex-01-1-check"]
        return check

    with open_lab(session) as page:
        open_notebook(page, session, EXERCISE)
        assert printed(outcome()) == "⏳ 01-1 未着手\n"
        screenshot(page, "exercise-untouched")

        replace_answer(page, NOT_SQUARED)
        (failure,) = outcome().outputs
        assert failure.ename == "CheckFailed"
        assert "二乗" in failure.evalue
        notebook(page).locator(".jp-CodeCell", has_text="check(").last.scroll_into_view_if_needed()
        screenshot(page, "exercise-diagnosis")

        replace_answer(page, solution())
        assert printed(outcome()) == "✅ 01-1 合格\n"
        screenshot(page, "exercise-passed")
    guarded = [cell for cell in saved(session, EXERCISE).cells if "ready(" in cell.source]
    assert [o.output_type for o in guarded[0].outputs] == ["display_data"], "合格後の実験の図が出ていません"
