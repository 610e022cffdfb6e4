"""解答の範囲（`### BEGIN SOLUTION` 〜 `### END SOLUTION`）を構文として読み、雛形に置き換える。

印は tokenize のコメントとして探すので、文字列の中の同じ並びは印ではない。
隣: 雛形の既定の形は `stub.py`、漏れの検査は `leaks.py`。
"""

import ast
import io
import re
import textwrap
import tokenize
from dataclasses import dataclass

from tlkit.course.build.source import SourceCell
from tlkit.course.build.stub import default_stub

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_LIKE_MARK = re.compile(r"#+\s*(BEGIN|END)\s+SOLUTION\b", re.IGNORECASE)
_NOTE = re.compile(r"### (STUB|ALLOW)(?: (.*))?$")


@dataclass(frozen=True)
class Region:
    """解答の範囲 1 つ。行はセルの中の 0 起点の番号。

    Attributes:
        begin: 始まりの印の行。
        end: 終わりの印の行。
        indent: 中の文の字下げ。
        stub: 置き換える雛形（字下げなし）。
        allow: 演習の側に現れてよいと作者が書いた文。
        statements: 中の文。
    """

    begin: int
    end: int
    indent: str
    stub: str
    allow: tuple[str, ...]
    statements: tuple[ast.stmt, ...]


def find_regions(cell: SourceCell) -> list[Region]:
    """セルの中の範囲を、書かれた順に返す。

    Raises:
        CourseError: 印が組にならない、入れ子、場所が悪い、中が空、雛形が決められないとき。
    """
    if cell.kind != "code":
        _refuse_marks_in_markdown(cell)
        return []
    comments = _comments(cell)
    pairs = _pairs(cell, comments)
    _refuse_stray_notes(cell, comments, pairs)
    return [_region(cell, begin, end, comments) for begin, end in pairs]


def solution_text(cell: SourceCell, regions: list[Region]) -> str:
    """解答ノートブックに載せる中身（印と作者の覚え書きの行を除く）。"""
    drop = _note_lines(cell, regions) | {line for r in regions for line in (r.begin, r.end)}
    return _without(cell, drop)


def marked_text(cell: SourceCell, regions: list[Region]) -> str:
    """nbgrader に渡す中身（印は残し、作者の覚え書きの行だけ除く）。"""
    return _without(cell, _note_lines(cell, regions))


def stub_text(cell: SourceCell, regions: list[Region]) -> str:
    """演習ノートブックに載せる中身（範囲を雛形に置き換える）。

    Raises:
        CourseError: 置き換えた結果が Python として読めないとき。
    """
    lines = cell.text.split("\n")
    for region in reversed(regions):
        lines[region.begin : region.end + 1] = textwrap.indent(region.stub, region.indent).split("\n")
    text = "\n".join(lines)
    try:
        compile(text, cell.file, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise cell.error(
            f"範囲を雛形に置き換えると Python として読めません（{error.msg}）。\n"
            "印の字下げを中の文に合わせるか、`### STUB` で雛形を書いてください。",
            regions[0].begin,
        ) from error
    return text


def _comments(cell: SourceCell) -> dict[int, tuple[str, bool]]:
    """行 → (コメント, その行がコメントだけか)。"""
    found: dict[int, tuple[str, bool]] = {}
    cell.tree()
    for token in tokenize.generate_tokens(io.StringIO(cell.text + "\n").readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0] - 1] = (token.string.rstrip(), alone)
    return found


def _pairs(cell: SourceCell, comments: dict[int, tuple[str, bool]]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    opened: int | None = None
    for line, (text, alone) in sorted(comments.items()):
        if not _LIKE_MARK.match(text):
            continue
        if text not in (BEGIN, END) or not alone:
            raise cell.error(
                f"印 `{text}` の書き方が違います。1 行に `{BEGIN}` か `{END}` だけを書いてください。", line
            )
        if text == BEGIN:
            if opened is not None:
                raise cell.error(f"`{BEGIN}` が入れ子です。前の範囲を `{END}` で閉じてください。", line)
            opened = line
        elif opened is None:
            raise cell.error(f"`{END}` に対応する `{BEGIN}` が、このセルにありません。", line)
        else:
            pairs.append((opened, line))
            opened = None
    if opened is not None:
        raise cell.error(f"`{BEGIN}` が閉じていません。同じセルの中に `{END}` を書いてください。", opened)
    return pairs


def _region(cell: SourceCell, begin: int, end: int, comments: dict[int, tuple[str, bool]]) -> Region:
    body = cell.text.split("\n")[begin + 1 : end]
    notes = {n: match for n in range(begin + 1, end) if (match := _note_at(n, comments))}
    statements, parent = _enclosed(cell, begin, end)
    first = body[statements[0].lineno - 1 - (begin + 1)]
    indent = first[: len(first) - len(first.lstrip())]
    stub = "\n".join(match.group(2) or "" for match in notes.values() if match.group(1) == "STUB")
    if not any(match.group(1) == "STUB" for match in notes.values()):
        stub = default_stub(cell, begin, statements, parent)
    allow = tuple((match.group(2) or "").strip() for match in notes.values() if match.group(1) == "ALLOW")
    return Region(begin, end, indent, stub, allow, tuple(statements))


def _enclosed(cell: SourceCell, begin: int, end: int) -> tuple[list[ast.stmt], list[ast.AST]]:
    """範囲の中の文と、それを囲む節（外から内へ）。文の途中にかかる印は誤り。"""
    body: list[ast.stmt] = cell.tree().body
    parents: list[ast.AST] = []
    while True:
        spans = [(*_span(statement), statement) for statement in body]
        inside = [s for first, last, s in spans if begin < first and last < end]
        around = next((s for first, last, s in spans if first < begin < last + 1), None)
        if any(begin < first < end <= last for first, last, _ in spans) or (inside and around is not None):
            raise cell.error("範囲の印が文の途中にかかっています。印を文と文の間に置いてください。", begin)
        if inside:
            _refuse_uncovered(cell, begin, end, inside)
            return inside, parents
        block = _child_block(around, begin) if around is not None else None
        if around is None or block is None:
            raise cell.error("範囲の中に文がありません。解答を書くか、印を消してください。", begin)
        parents.append(around)
        body = block


def _span(statement: ast.stmt) -> tuple[int, int]:
    """文の最初と最後の行（0 起点、デコレータを含む）。"""
    decorators = [node.lineno for node in getattr(statement, "decorator_list", [])]
    return min([statement.lineno, *decorators]) - 1, (statement.end_lineno or statement.lineno) - 1


def _refuse_uncovered(cell: SourceCell, begin: int, end: int, inside: list[ast.stmt]) -> None:
    """`else:` のような、文に属さない行が範囲に入っていれば誤り。"""
    covered = {n for statement in inside for n in range(_span(statement)[0], _span(statement)[1] + 1)}
    for number, line in enumerate(cell.text.split("\n")[begin + 1 : end], begin + 1):
        if number not in covered and line.strip() and not line.lstrip().startswith("#"):
            raise cell.error(
                f"範囲の印が文の途中にかかっています（`{line.strip()}`）。印の位置を直してください。", number
            )


def _child_block(node: ast.AST, line: int) -> list[ast.stmt] | None:
    """印の行を含む側のブロック（if の本体と else のような、いくつかのうちの 1 つ）。"""
    blocks: list[list[ast.stmt]] = [
        value
        for _, value in ast.iter_fields(node)
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt)
    ]
    handlers = [*getattr(node, "handlers", []), *getattr(node, "cases", [])]
    blocks += [handler.body for handler in handlers]
    touching = [block for block in blocks if _span(block[-1])[1] > line]
    return min(touching, key=lambda block: _span(block[-1])[1], default=None)


def _note_at(line: int, comments: dict[int, tuple[str, bool]]) -> re.Match[str] | None:
    text, alone = comments.get(line, ("", False))
    return _NOTE.match(text) if alone else None


def _note_lines(cell: SourceCell, regions: list[Region]) -> set[int]:
    comments = _comments(cell) if regions else {}
    return {n for r in regions for n in range(r.begin, r.end) if _note_at(n, comments)}


def _without(cell: SourceCell, drop: set[int]) -> str:
    return "\n".join(line for n, line in enumerate(cell.text.split("\n")) if n not in drop)


def _refuse_marks_in_markdown(cell: SourceCell) -> None:
    for number, line in enumerate(cell.text.split("\n")):
        if line.strip() in (BEGIN, END):
            raise cell.error("解答の印が markdown セルにあります。印はコードセルの中だけに書けます。", number)


def _refuse_stray_notes(cell: SourceCell, comments: dict[int, tuple[str, bool]], pairs: list[tuple[int, int]]) -> None:
    for line in comments:
        note = _note_at(line, comments)
        if note and not any(begin < line < end for begin, end in pairs):
            raise cell.error(f"`### {note.group(1)}` が解答の範囲の外にあります。範囲の中へ移してください。", line)
