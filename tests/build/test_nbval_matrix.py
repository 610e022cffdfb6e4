"""確認のセルが本当に落ちること（nbval の行列）。

解答は自分の出力に対して緑。手つかずの演習は自分の ⏳ に対して緑。
手つかずの演習の中身に解答の出力を添えると、確認のセルだけが赤。
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from build_course import USE, code, exercise, load, make_course

from tlkit.course.build import build
from tlkit.course.build.notebook import to_text


@pytest.fixture(scope="module")
def course_notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """作り終えた、演習 1 問の教材。"""
    root = make_course(tmp_path_factory.mktemp("matrix") / "course", exercise(code(USE), code("print('おわり')")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_COURSE", str(root))
        patch.delenv("TLKIT_CHECK", raising=False)
        build([root / "solutions"])
    return root


def failed_cells(notebook: Path, root: Path) -> tuple[list[str], int]:
    """nbval で動かし、赤くなったセルの id と、動かしたセルの数を返す。"""
    report = notebook.with_suffix(".xml")
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-o",
        "addopts=",
        f"--junitxml={report}",
        f"--rootdir={notebook.parent}",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TLKIT_", "PYTEST_"))}
    environment |= {"TLKIT_COURSE": str(root), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", *options, str(notebook)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=notebook.parent, check=False)
    assert report.is_file(), process.stdout + process.stderr
    cases = list(ET.parse(report).getroot().iter("testcase"))
    ids = [cell.id for cell in load(notebook).cells if cell.cell_type == "code"]
    assert len(cases) == len(ids), process.stdout
    red = [name for case, name in zip(cases, ids, strict=True) if case.find("failure") is not None]
    assert all(case.find("skipped") is None and case.find("error") is None for case in cases)
    assert process.returncode == (1 if red else 0)
    return red, len(cases)


@pytest.mark.parametrize("folder", ["solutions", "exercises"])
def test_own_outputs_are_green(course_notebooks: Path, folder: str) -> None:
    red, count = failed_cells(course_notebooks / folder / "01_basics.ipynb", course_notebooks)
    assert (red, count) == ([], 5)


def test_stub_against_the_solution_outputs_is_red_in_exactly_the_check_cells(
    course_notebooks: Path, tmp_path: Path
) -> None:
    stub, solution = (load(course_notebooks / folder / "01_basics.ipynb") for folder in ("exercises", "solutions"))
    for mine, theirs in zip(stub.cells, solution.cells, strict=True):
        if mine.cell_type == "code":
            mine.outputs, mine.execution_count = theirs.outputs, theirs.execution_count
    path = tmp_path / "mixed.ipynb"
    path.write_text(to_text(stub), encoding="utf-8")
    red, _ = failed_cells(path, course_notebooks)
    assert red == ["ex-01-1-check"]
