"""py:percent の .py を読み、行番号つきのセルの列にする。

jupytext はセルの行番号を残さないので、セルの印（`# %%`）の行を tokenize で数えて組にする。
隣: 解答の範囲は `regions.py`、ノートブックへの組み立ては `assemble.py`。
"""

import ast
import io
import tokenize
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlkit.course.errors import CourseError

_FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
# jupytext が .py へ書き戻すためだけに使う鍵。ノートブックには残さない。
_JUPYTEXT_KEYS = {
    "lines_to_next_cell",
    "lines_to_end_of_cell_marker",
    "cell_marker",
    "cell_depth",
    "title",
    "region_name",
}


@dataclass(frozen=True)
class SourceCell:
    """元ファイルのセル 1 つ。

    Attributes:
        kind: "markdown" か "code"。
        text: セルの中身（末尾の改行なし）。
        file: エラーに出す、元ファイルの名前。
        line: 中身の 1 行目がある、元ファイルの行番号。
        metadata: セルのメタデータ（tags など）。
    """

    kind: str
    text: str
    file: str
    line: int
    metadata: dict[str, Any] = field(default_factory=dict)

    def error(self, message: str, offset: int = 0) -> CourseError:
        """このセルの offset 行目（0 起点）を指すエラーを作る。"""
        return CourseError(f"{self.file}:{self.line + offset}: {message}")

    def tree(self) -> ast.Module:
        """コードセルの構文木。

        Raises:
            CourseError: Python として読めないとき（マジックやシェルの行を含む）。
        """
        try:
            return ast.parse(self.text)
        except SyntaxError as error:
            raise self._syntax_error(error) from error

    def _syntax_error(self, error: SyntaxError) -> CourseError:
        offset = (error.lineno or 1) - 1
        lines = self.text.splitlines()
        for number, line in enumerate(lines):
            if line.lstrip().startswith(("%", "!", "?")) and not _parses("\n".join(lines[: number + 1])):
                return self.error(
                    f"マジックやシェルの行 `{line.strip()}` があります。元ファイルは素の Python でなければなりません。\n"
                    "同じことをする Python の関数に置き換えてください。",
                    number,
                )
        return self.error(f"Python として読めません（{error.msg}）。文法の誤りを直してください。", offset)


def read_source(path: Path, name: str) -> list[SourceCell]:
    """元ファイルを読む。name はエラーに出す名前。

    Raises:
        CourseError: jupytext がない、文字コードが違う、セルの印がない、などのとき。
    """
    text = _read_text(path, name)
    notebook = _jupytext_reads(text)
    starts = _marker_lines(text)
    first_code = next((i for i, line in enumerate(text.splitlines(), 1) if line.strip()), 1)
    if len(starts) != len(notebook.cells):
        raise CourseError(
            f"{name}:{first_code}: 最初のセルの印より前に中身があるか、印の書き方が崩れています"
            f"（印 {len(starts)} 個、セル {len(notebook.cells)} 個）。\n"
            "どのセルも、行頭の `# %%` か `# %% [markdown]` で始めてください。"
        )
    lines = text.splitlines()
    return [_cell(cell, name, start, lines) for cell, start in zip(notebook.cells, starts, strict=True)]


def _cell(cell: Any, name: str, start: int, lines: list[str]) -> SourceCell:
    if cell.cell_type not in ("code", "markdown"):
        raise CourseError(f"{name}:{start}: raw セルは使えません。markdown か code にしてください。")
    line = start + 1
    while line <= len(lines) and not lines[line - 1].strip():
        line += 1
    text = cell.source.strip("\n")
    metadata = {key: value for key, value in cell.metadata.items() if key not in _JUPYTEXT_KEYS}
    return SourceCell(cell.cell_type, text, name, line, metadata)


def _read_text(path: Path, name: str) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CourseError(
            f"{name}: UTF-8 として読めません（{error.start} バイト目）。UTF-8 で保存し直してください。"
        ) from error
    except OSError as error:
        raise CourseError(f"{name}: 読めません（{error.strerror}）。ファイルと権限を確かめてください。") from error
    if not text.strip():
        raise CourseError(f"{name}:1: 空のファイルです。`# %% [markdown]` で始まるセルを書いてください。")
    return text


def _jupytext_reads(text: str) -> Any:
    try:
        import jupytext
    except ImportError as error:
        raise CourseError(
            "jupytext が入っていません。ノートブックの build には開発用の部品が必要です。\n"
            '`pip install -c requirements.lock -e ".[dev]"` を実行してください。'
        ) from error
    return jupytext.reads(text, fmt=_FORMAT)


def _marker_lines(text: str) -> list[int]:
    """行頭の `# %%` の行番号。文字列の中にある同じ並びは数えない。"""
    inside = _string_lines(text)
    lines = text.splitlines()
    return [n for n, line in enumerate(lines, 1) if (line == "# %%" or line.startswith("# %% ")) and n not in inside]


def _string_lines(text: str) -> set[int]:
    """複数行の文字列の、2 行目以降の行番号。読めない所から先は無視する（後の構文検査が知らせる）。"""
    inside: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING or tokenize.tok_name[token.type].endswith("STRING_MIDDLE"):
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError):
        pass
    return inside


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True
