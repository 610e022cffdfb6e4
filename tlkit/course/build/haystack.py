"""演習ノートブックの中の、人が読める文字列をすべて集め、文や式として照合できる形にする。

コードはそのまま、コメント・説明文・markdown・出力・メタデータは、コードらしい切れ端ごとに読んでみる。
隣: 照合するのは `leaks.py`、形をそろえるのは `normal.py`。
"""

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tlkit.course.build import normal

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)^[ \t]*\1", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`+([^`\n]+)`+")
_PREFIX = re.compile(r"^\s*(?:(?:>>>|\.\.\.|[>#*+-]|\d+\.|In \[\d*\]:)\s?)*")
_MIN_EXPRESSION = 4  # 部分式として覚えておく、いちばん小さい情報の量（照合の下限は leaks.py）
_MAX_JOIN = 40


@dataclass
class Text:
    """1 か所の文字列から読めた文と式。"""

    plain: set[str] = field(default_factory=set)
    renamed: set[str | None] = field(default_factory=set)
    values: set[str | None] = field(default_factory=set)
    values_renamed: set[str | None] = field(default_factory=set)
    compact: str = ""


def texts_of(notebook: Any) -> Iterator[tuple[str, list[Text]]]:
    """（場所の名前、その場所の文字列）を順に返す。"""
    for cell in notebook.cells:
        place = f"セル {cell.id} "
        yield place, [read_code(cell.source) if cell.cell_type == "code" else read_prose(cell.source)]
        yield place + "の出力", [read_prose(text) for text in _strings(cell.get("outputs", []))]
        yield (
            place + "のメタデータ",
            [read_prose(text) for text in _strings([cell.metadata, cell.get("attachments", {})])],
        )
    yield "メタデータ", [read_prose(text) for text in _strings(notebook.metadata)]


def read_code(source: str) -> Text:
    """コードセル。文と式に加えて、コメントと文字列の中も読む。"""
    text = Text(compact=_compact(source))
    _add(text, parse_statements(source))
    for inner in _comments_and_strings(source):
        _merge(text, read_prose(inner))
    return text


def read_prose(source: str) -> Text:
    """文章。囲みの中、`...` の中、1 行ずつ（かっこが閉じるまでつなぐ）を、コードとして読んでみる。"""
    text = Text(compact=_compact(source))
    for snippet in dict.fromkeys(_snippets(source)):
        _add(text, parse_statements(snippet))
    return text


def parse_statements(source: str) -> list[ast.stmt]:
    """コードとして読めれば、すべての文を返す。読めなければ空。"""
    try:
        return list(normal.simple_statements(ast.parse(textwrap.dedent(source).strip()).body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _add(text: Text, statements: list[ast.stmt]) -> None:
    for statement in statements:
        text.plain.add(normal.plain(statement))
        text.renamed.add(normal.renamed(statement))
        for node in ast.walk(statement):
            if _is_value(node) and normal.weight(node) >= _MIN_EXPRESSION:
                text.values.add(normal.plain(node))
                text.values_renamed.add(normal.renamed(node))


def _is_value(node: ast.AST) -> bool:
    """それだけで式として読める節か（f 文字列の差し込みや、スライスの一部は違う）。"""
    return isinstance(node, ast.expr) and not isinstance(node, ast.FormattedValue | ast.Starred | ast.Slice)


def _merge(text: Text, other: Text) -> None:
    text.plain |= other.plain
    text.renamed |= other.renamed
    text.values |= other.values
    text.values_renamed |= other.values_renamed
    text.compact += "\0" + other.compact


def _snippets(source: str) -> Iterator[str]:
    yield source
    yield from (match.group(2) for match in _FENCE.finditer(source))
    yield from (match.group(1) for match in _INLINE.finditer(source))
    lines = source.split("\n")
    for number, line in enumerate(lines):
        if line.strip():
            yield from _joined(lines, number)


def _joined(lines: list[str], number: int) -> Iterator[str]:
    """number 行目から、かっこが閉じるまでの行をつないだもの。行頭の `>` や `#` を取ったものと、取らないもの。"""
    for strip in (lambda line: line.strip(), lambda line: _PREFIX.sub("", line).strip()):
        joined = ""
        for line in lines[number : number + _MAX_JOIN]:
            joined += strip(line) + "\n"
            if all(joined.count(a) <= joined.count(b) for a, b in ("()", "[]", "{}")):
                break
        code = joined.strip()
        yield code
        if code.endswith(":"):
            yield f"{code}\n    ..."  # 見出しだけの行（for や if）も文として読む


def _comments_and_strings(source: str) -> Iterator[str]:
    comments: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
            if token.type == tokenize.COMMENT:
                comments.append(token.string.lstrip("#").removeprefix(" "))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    except (tokenize.TokenError, SyntaxError):
        pass
    yield "\n".join(comments)


def _strings(node: Any) -> Iterator[str]:
    """入れ子の値の中の文字列。画像の中身（base64）は読まない。"""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            if not str(key).startswith(("image/png", "image/jpeg", "application/pdf")):
                yield from _strings("".join(value) if _is_lines(value) else value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)


def _is_lines(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)
