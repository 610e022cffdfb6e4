"""元ファイルの読み取り。"""

import sys
from pathlib import Path

import pytest
from build_course import code, draft, prose

from tlkit.course.build.source import read_source
from tlkit.course.errors import CourseError


def read(tmp_path: Path, text: str) -> list:
    path = tmp_path / "a.py"
    path.write_text(text, encoding="utf-8")
    return read_source(path, "chapters/a.py")


def test_cells_keep_the_line_of_their_first_row(tmp_path: Path) -> None:
    text = prose("# 題") + "\n" + code("x = 1\ny = 2") + "\n\n# %%\n\n\nz = 3\n"
    cells = read(tmp_path, text)
    lines = text.split("\n")
    assert [c.kind for c in cells] == ["markdown", "code", "code"]
    assert [lines[c.line - 1] for c in cells] == ["# # 題", "x = 1", "z = 3"]


def test_marker_inside_a_string_does_not_start_a_cell(tmp_path: Path) -> None:
    cells = read(tmp_path, code('text = """\n# %%\n"""\nprint(text)') + code("y = 2"))
    assert len(cells) == 2
    assert cells[0].text.endswith("print(text)")
    assert cells[1].line == 7


@pytest.mark.parametrize("line", ["%matplotlib inline", "!ls", "    %timeit x", "?print"])
def test_magic_and_shell_lines_are_refused_with_their_place(tmp_path: Path, line: str) -> None:
    with pytest.raises(CourseError, match=r"solutions/01_basics\.py:3: マジックやシェル"):
        draft(tmp_path, code(f"x = 1\n{line}"))


def test_commented_magic_stays_a_comment(tmp_path: Path) -> None:
    made = draft(tmp_path, code("# %matplotlib inline\nx = 1"), "chapter")
    assert made.notebook.cells[0].source == "# %matplotlib inline\nx = 1"


def test_percent_operator_at_line_start_is_not_magic(tmp_path: Path) -> None:
    made = draft(tmp_path, code("x = (7\n     % 3)"), "chapter")
    assert len(made.notebook.cells) == 1


def test_syntax_error_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"01_basics\.py:5: Python として読めません"):
        draft(tmp_path, code("x = 1") + "\n" + code("y = = 2"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "空のファイル"),
        ("# %%\nx = 'あ'".encode("shift_jis"), "UTF-8 として読めません"),
        (b"x = 1\n# %%\ny = 2\n", "最初のセルの印より前"),
        (b"# %% [raw]\n# x\n", "raw セル"),
    ],
)
def test_unreadable_sources_are_explained(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(content)
    with pytest.raises(CourseError, match=message):
        read_source(path, "chapters/a.py")


def test_missing_jupytext_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupytext", None)
    with pytest.raises(CourseError, match="jupytext が入っていません"):
        read(tmp_path, code("x = 1"))


def test_no_jupytext_metadata_remains(tmp_path: Path) -> None:
    text = prose("# 題") + "\n\n\n" + code("def f():\n    pass") + "\n\n\n" + '# %% 見出し tags=["keep"]\ny = 2\n'
    cells = draft(tmp_path, text, "chapter").notebook.cells
    assert [c.metadata for c in cells] == [{}, {}, {"tags": ["keep"]}]
