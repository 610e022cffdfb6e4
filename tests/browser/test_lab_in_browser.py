"""本物のブラウザで見る JupyterLab: 日本語のメニュー、すべて実行、外への通信が無いこと。"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import nbformat
import pytest
from lab_browser import errors, menu_titles, open_lab, open_notebook, prompts, run_all, save, screenshot
from lab_session import LabSession, make_course, running_lab

pytestmark = pytest.mark.browser
CELLS = [
    "import sys\nanswer = 6 * 7",
    "import matplotlib.pyplot as plt\nfrom tlkit.plot import use_style\nuse_style()\nplt.plot([1, 2, 3])\nplt.title('転移学習の損失')\nplt.show()",
    "print('答え', answer)",
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSession]:
    folder = tmp_path_factory.mktemp("browser")
    with running_lab(make_course(folder), folder / "home") as started:
        write(
            started,
            "small.ipynb",
            nbformat.v4.new_markdown_cell("# 小さな例 $x^2$"),
            *map(nbformat.v4.new_code_cell, CELLS),
        )
        yield started


def write(session: LabSession, name: str, *cells: nbformat.NotebookNode) -> None:
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}  # 無いと、開いたときに尋ねられる
    book = nbformat.v4.new_notebook(cells=list(cells), metadata={"kernelspec": spec})
    nbformat.write(book, session.work / name)


def test_menus_are_japanese_and_nothing_pops_up(session: LabSession) -> None:
    with open_lab(session) as page:
        titles = menu_titles(page)
        assert titles[:5] == ["ファイル", "編集", "表示", "実行", "カーネル"]
        page.wait_for_timeout(3000)  # お知らせの窓は、開いてから少し遅れて出る
        assert page.locator(".Toastify__toast").count() == 0
        assert page.locator(".jp-Dialog").count() == 0
        screenshot(page, "lab-open")


def test_run_all_by_the_menu(session: LabSession) -> None:
    outside: list[str] = []
    with open_lab(session) as page:
        page.on("request", lambda request: outside.append(request.url) if not _inside(request.url) else None)
        open_notebook(page, session, "small.ipynb")
        run_all(page, len(CELLS))
        assert prompts(page) == ["[1]:", "[2]:", "[3]:"]
        assert errors(page) == []
        assert page.locator(".jp-OutputArea-output", has_text="答え 42").count() == 1
        assert page.locator(".jp-OutputArea-output img").count() == 1
        screenshot(page, "lab-run-all")
        save(page)
    assert outside == []
    assert not any("Traceback" in line for line in session.lines)
    saved = nbformat.read(session.work / "small.ipynb", as_version=4)
    assert [cell.execution_count for cell in saved.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert sorted(path.name for path in session.work.glob("small*")) == ["small.ipynb"]  # .py が勝手に作られない


def test_an_error_is_seen_as_an_error(session: LabSession) -> None:
    """errors() が働くことの裏付け。"""
    write(session, "broken.ipynb", nbformat.v4.new_code_cell("1 / 0"))
    with open_lab(session) as page:
        open_notebook(page, session, "broken.ipynb")
        run_all(page, 1)
        assert any("ZeroDivisionError" in text for text in errors(page))


def _inside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1"


def test_helper_tells_inside_from_outside() -> None:
    assert _inside("ws://127.0.0.1:8888/api/kernels")
    assert _inside("blob:abc")
    assert not _inside("https://example.org/feed.xml")
