"""元ファイルのセルに役割（文章・ふつうのコード・答え・確認）を与え、演習の形が正しいかを調べる。

演習 1 問 = 箱（`<!-- exercise: 01-1 -->`）→ 答えのセル（範囲つき、1 つ以上）→ 確認のセル（`check("01-1", 名前)`）。
隣: 範囲は `regions.py`、答えの使い方の検査は `guards.py`、ノートブックへの組み立ては `assemble.py`。
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tlkit.course.build.regions import Region, find_regions
from tlkit.course.build.source import SourceCell
from tlkit.course.build.stub import assigned_names
from tlkit.course.build.targets import Kind
from tlkit.course.checks.question import Question
from tlkit.course.errors import CourseError

Role = Literal["text", "code", "answer", "check"]
BOX = re.compile(r"^\s*<!--\s*exercise:\s*(.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Piece:
    """役割のついたセル。

    Attributes:
        cell: 元のセル。
        role: 役割。
        question: 答え・確認のセルなら、その問題。
        regions: 答えのセルなら、解答の範囲。
    """

    cell: SourceCell
    role: Role
    question: Question | None = None
    regions: tuple[Region, ...] = ()


def classify(cells: Sequence[SourceCell], kind: Kind) -> list[Piece]:
    """セルに役割を与える。

    Raises:
        CourseError: 演習の形が崩れているとき。章に解答の範囲があるとき。
    """
    regions = [tuple(find_regions(cell)) for cell in cells]
    if kind == "chapter":
        _refuse_regions(cells, regions)
    pieces: list[Piece] = []
    current: Question | None = None
    for cell, found in zip(cells, regions, strict=True):
        current = _box_question(cell) or current
        pieces.append(_piece(cell, found, current))
    _validate(pieces)
    return pieces


def questions_of(pieces: Sequence[Piece]) -> list[Question]:
    """確認のセルがある問題を、書かれた順に返す。"""
    return [piece.question for piece in pieces if piece.role == "check" and piece.question is not None]


def box_ids(cell: SourceCell) -> Iterator[tuple[int, str]]:
    """markdown セルの中の演習の箱の（行、問題の名前）。"""
    if cell.kind == "markdown":
        for number, line in enumerate(cell.text.split("\n")):
            if match := BOX.match(line):
                yield number, match.group(1)


def find_question(cell: SourceCell, offset: int, question_id: str) -> Question:
    """問題の定義を引く。

    Raises:
        CourseError: 定義のない名前のとき（元ファイルの行と、近い名前を言う）。
    """
    from tlkit.course.checks import registry

    try:
        return registry.question(question_id)
    except CourseError as error:
        raise cell.error(f"演習 {question_id!r} の定義を引けません。\n{error}", offset) from error


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """名前 names を呼んでいる節。"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def literal_id(cell: SourceCell, call: ast.Call) -> str:
    """呼び出しの第 1 引数に書かれた問題の名前。

    Raises:
        CourseError: 文字列でないとき。
    """
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    name = ast.unparse(call.func)
    raise cell.error(f'`{name}` の最初の引数は、`{name}("01-1")` のように文字列で書いてください。', call.lineno - 1)


def bound_names(tree: ast.AST) -> set[str]:
    """セルのいちばん外側で定義される名前（def・class・代入・import）。"""
    names: set[str] = set()
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            names |= set(assigned_names(node))
    return names


def _piece(cell: SourceCell, regions: tuple[Region, ...], current: Question | None) -> Piece:
    if cell.kind == "markdown":
        return Piece(cell, "text")
    if not cell.text.strip():
        raise cell.error("空のコードセルがあります。中身を書くか、セルを消してください。")
    tree = cell.tree()
    checks = list(calls(tree, "check"))
    if checks:
        return _check_piece(cell, tree, checks[0], regions)
    if not regions:
        return Piece(cell, "code")
    if current is None:
        raise cell.error("解答の範囲より前に `<!-- exercise: 01-1 -->` の行が要ります。", regions[0].begin)
    return Piece(cell, "answer", current, regions)


def _check_piece(cell: SourceCell, tree: ast.Module, call: ast.Call, regions: tuple[Region, ...]) -> Piece:
    alone = len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) and tree.body[0].value is call
    if not alone or regions:
        raise cell.error("確認のセルには `check(...)` の呼び出し 1 つだけを書いてください。", call.lineno - 1)
    question = find_question(cell, call.lineno - 1, literal_id(cell, call))
    given = [ast.unparse(node) for node in [*call.args[1:], *call.keywords]]
    if given != list(question.answers):
        wanted = ", ".join([f'"{question.id}"', *question.answers])
        raise cell.error(
            f"`check` に渡す名前 {given} が、演習 {question.id} の定義 {list(question.answers)} と違います。\n"
            f"`check({wanted})` と書いてください。",
            call.lineno - 1,
        )
    return Piece(cell, "check", question)


def _box_question(cell: SourceCell) -> Question | None:
    boxes = list(box_ids(cell))
    if len(boxes) > 1:
        raise cell.error("1 つの markdown セルに演習の箱が 2 つあります。セルを分けてください。", boxes[1][0])
    return find_question(cell, *boxes[0]) if boxes else None


def _refuse_regions(cells: Sequence[SourceCell], regions: Sequence[tuple[Region, ...]]) -> None:
    for cell, found in zip(cells, regions, strict=True):
        if found:
            raise cell.error("章には解答の範囲を書けません。演習は solutions/ に置いてください。", found[0].begin)
        for line, question_id in box_ids(cell):
            raise cell.error(f"章には演習の箱（{question_id}）を置けません。solutions/ に置いてください。", line)


def _validate(pieces: Sequence[Piece]) -> None:
    boxes: dict[str, int] = {}
    checked: dict[str, int] = {}
    answered: dict[str, list[Piece]] = {}
    for position, piece in enumerate(pieces):
        for line, question_id in box_ids(piece.cell):
            _once(boxes, question_id, position, piece.cell, line, "箱")
        if piece.role == "answer" and piece.question:
            _not_after_check(piece, checked)
            answered.setdefault(piece.question.id, []).append(piece)
        if piece.role == "check" and piece.question:
            _once(checked, piece.question.id, position, piece.cell, 0, "確認のセル")
            _answers_defined(piece, piece.question, answered.get(piece.question.id, []))
    for question_id, position in boxes.items():
        if question_id not in checked:
            raise pieces[position].cell.error(
                f'演習 {question_id} に確認のセルがありません。答えのセルの後に `check("{question_id}", ...)` を書いてください。'
            )


def _once(seen: dict[str, int], question_id: str, position: int, cell: SourceCell, line: int, what: str) -> None:
    if question_id in seen:
        raise cell.error(f"演習 {question_id} の{what}が 2 つあります。1 つにしてください。", line)
    seen[question_id] = position


def _not_after_check(piece: Piece, checked: dict[str, int]) -> None:
    if piece.question and piece.question.id in checked:
        raise piece.cell.error(
            f"演習 {piece.question.id} の確認のセルより後に、答えのセルがあります。確認のセルの前に移すか、新しい箱を置いてください。"
        )


def _answers_defined(piece: Piece, question: Question, answers: list[Piece]) -> None:
    if not answers:
        raise piece.cell.error(
            f"演習 {question.id} の確認のセルの前に、解答の範囲のあるセルがありません。\n"
            "箱・答えのセル・確認のセルの順に並べ、答えを `### BEGIN SOLUTION` と `### END SOLUTION` で囲んでください。"
        )
    defined = {name for answer in answers for name in bound_names(answer.cell.tree())}
    missing = [name for name in question.answers if name not in defined]
    if missing:
        raise piece.cell.error(
            f"演習 {question.id} の答え {missing} が、答えのセルで定義されていません。定義の名前をそろえてください。"
        )
