"""教材のファイルから、日本語の文章を元の位置つきで取り出す。

- `*.md`: そのまま。  - `chapters/*.py` と `solutions/*.py`: マークダウンのセル（本文）と、コードの注釈・文字列（短い文）。
- `chapters/quiz/*.yaml`: 設問・選択肢・理由。  - そのほかの `*.py`、Makefile、設定: docstring・注釈・文字列。
tests/ は調べない（わざと誤った文を置くため）。
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import yaml

from prose.document import JAPANESE, Document, Kind, Line
from prose.python_text import light_lines

_CELL = re.compile(r"^# %%(?P<rest>.*)$")
_REASONS = {"why", "reason", "reasons", "explanation", "note", "解説", "理由"}
_COMMENTED = {"Makefile", ".ci/run", "environment.yml", ".gitignore"}


def read_all(root: Path, names: list[str] | None = None) -> list[Document]:
    """root の下の教材を読み、検査する文章の一覧を返す。names があれば、そのファイルだけを読む。"""
    return [d for name in (names or list(listed(root))) for d in read(root, PurePosixPath(name)) if d.lines]


def listed(root: Path) -> Iterator[str]:
    """git が知っているか、無視されていないファイルの名前（消えたものは除く）。"""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, check=True)
    names = sorted(set(done.stdout.decode("utf-8").split("\0")) - {""})
    return (name for name in names if (root / name).is_file())


def read(root: Path, name: PurePosixPath) -> list[Document]:
    """1 つのファイルを、その種類に合わせて読む。"""
    if name.parts[0] in {"tests", "work"} or name.suffix == ".ipynb":
        return []
    if name.suffix == ".md":
        return [_markdown(root, name)]
    if name.suffix == ".py":
        return _python(root, name)
    if name.suffix in {".yaml", ".yml"} and "quiz" in name.parts:
        return [_quiz(root, name)]
    return [_comments(root, name)] if str(name) in _COMMENTED else []


def _lines(root: Path, name: PurePosixPath) -> list[str]:
    return (root / name).read_text(encoding="utf-8").splitlines()


def _markdown(root: Path, name: PurePosixPath) -> Document:
    lines = [Line(text, i, 0, Kind.PROSE) for i, text in enumerate(_lines(root, name), 1)]
    return Document(Path(name), markdown=True, lines=lines)


def _python(root: Path, name: PurePosixPath) -> list[Document]:
    lines = _lines(root, name)
    cells = _markdown_cells(Path(name), lines) if name.parts[0] in {"chapters", "solutions"} else None
    prose_rows = {line.number for line in cells.lines} if cells else set()
    light = Document(Path(name), markdown=False)
    light.lines = [line for line in light_lines("\n".join(lines) + "\n") if line.number not in prose_rows]
    return [light] if cells is None else [cells, light]


def _markdown_cells(name: Path, lines: list[str]) -> Document:
    """percent 形式のマークダウンのセルを取り出す。各行の「# 」が外れ、列がその分ずれる。"""
    document, inside = Document(name, markdown=True), False
    for number, text in enumerate(lines, 1):
        if cell := _CELL.match(text):
            inside = "[markdown]" in cell["rest"]
            document.gap()
        elif inside and text.startswith("#"):
            width = 2 if text.startswith("# ") else 1
            document.lines.append(Line(text[width:], number, width, Kind.PROSE))
    return document


def _quiz(root: Path, name: PurePosixPath) -> Document:
    """設問の YAML から、日本語の値を 1 つずつ段落として取り出す。"""
    lines, document = _lines(root, name), Document(Path(name), markdown=True)
    for node, key in _scalars(yaml.compose("\n".join(lines) + "\n", Loader=yaml.SafeLoader), ""):
        kind = Kind.PROSE if key in _REASONS else Kind.QUESTION
        taken = [line for line in _scalar_lines(node, lines, kind) if line.text or document.lines]
        if any(JAPANESE.search(line.text) for line in taken):
            document.gap()
            document.lines += taken
    return document


def _scalars(node: yaml.Node | None, key: str) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """値の節を、いちばん近い（名前が選択肢の記号でない）見出しと組で返す。"""
    if isinstance(node, yaml.ScalarNode):
        yield node, key
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child, key)
    elif isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            yield from _scalars(child, key if len(name.value) == 1 else name.value)


def _scalar_lines(node: yaml.ScalarNode, lines: list[str], kind: Kind) -> list[Line]:
    start, end = node.start_mark, node.end_mark
    if node.style in {"|", ">"}:
        rows = range(start.line + 1, end.line if end.column == 0 else end.line + 1)
        return [_stripped(lines[row], row, kind) for row in rows]
    quote = 1 if node.style else 0
    taken = []
    for row in range(start.line, end.line + 1):
        first = start.column + quote if row == start.line else len(lines[row]) - len(lines[row].lstrip())
        last = end.column - quote if row == end.line else len(lines[row])
        taken.append(Line(lines[row][first:last], row + 1, first, kind))
    return taken


def _stripped(text: str, row: int, kind: Kind) -> Line:
    width = len(text) - len(text.lstrip())
    return Line(text[width:], row + 1, width, kind)


def _comments(root: Path, name: PurePosixPath) -> Document:
    """Makefile などの、日本語を含む行を「短い文」として取り出す。"""
    rows = enumerate(_lines(root, name), 1)
    lines = [Line(text, i, 0, Kind.LIGHT) for i, text in rows if JAPANESE.search(text)]
    return Document(Path(name), markdown=False, lines=lines)
