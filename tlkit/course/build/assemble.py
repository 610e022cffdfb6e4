"""元ファイルから、まだ実行していないノートブックを組み立てる。ここまでは乱数も時計も使わない。

隣: 実行は `execute.py`、刻印は `fingerprint.py`、書き込みは `writer.py`。
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from tlkit.course.build.box import exercise_box
from tlkit.course.build.guards import verify_guards
from tlkit.course.build.ids import CellIds, base_id, cell_metadata, plain_id
from tlkit.course.build.leaks import Secret, secrets_of
from tlkit.course.build.notebook import new_cell, new_notebook
from tlkit.course.build.quizcells import split_quiz
from tlkit.course.build.regions import solution_text, stub_text
from tlkit.course.build.source import read_source
from tlkit.course.build.structure import BOX, Piece, classify, find_question, questions_of
from tlkit.course.build.targets import Kind, Target
from tlkit.course.errors import CourseError

_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# 版の番号を入れない。入れると Python を上げただけで、全部のノートブックが変わる。
_LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}


@dataclass(frozen=True)
class Draft:
    """組み立てたノートブックと、検査に使う情報。

    Attributes:
        target: 作り先。
        notebook: 出力のないノートブック。
        pieces: 元ファイルのセルと役割。
        lines: セルの id → 元ファイルの行番号。
        secrets: 演習なら、現れてはいけない解答の文。
    """

    target: Target
    notebook: NotebookNode
    pieces: tuple[Piece, ...]
    lines: dict[str, int]
    secrets: tuple[Secret, ...]

    @property
    def check_ids(self) -> dict[str, str]:
        """確認のセルの id → 問題の名前。"""
        return {f"ex-{question.id}-check": question.id for question in questions_of(self.pieces)}

    def where(self, cell_id: str) -> str:
        """セルの場所（元ファイルの行とセルの id）。"""
        line = self.lines.get(cell_id)
        place = f"{self.target.source_name}:{line}" if line else self.target.source_name
        return f"{place}（{self.target.output_name} のセル {cell_id}）"


def assemble(target: Target) -> Draft:
    """作り先 1 つを組み立てる。

    Raises:
        CourseError: 元ファイルに誤りがあるとき（ファイル名と行番号を言う）。
    """
    pieces = read_pieces(target)
    cells, lines = _cells(pieces, target)
    ids = [cell.id for cell in cells]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise CourseError(
            f"{target.source_name}: セルの id {repeated} が重なっています。同じ問題を 2 度置かないでください。"
        )
    notebook = new_notebook(cells, notebook_metadata(target, pieces))
    secrets = tuple(secrets_of(pieces)) if target.kind == "exercise" else ()
    return Draft(target, notebook, tuple(pieces), lines, secrets)


def read_pieces(target: Target) -> list[Piece]:
    """元ファイルを読み、役割をつけ、守りを確かめる。"""
    pieces = classify(read_source(target.source, target.source_name), target.kind)
    verify_guards(pieces)
    return pieces


def piece_text(piece: Piece, kind: Kind) -> str:
    """コードセルの、ノートブックに載せる中身。"""
    if piece.role != "answer":
        return piece.cell.text
    make = stub_text if kind == "exercise" else solution_text
    return make(piece.cell, list(piece.regions))


def fill_boxes(piece: Piece, text: str) -> str:
    """演習の箱の行を、問題の定義から描いた箱に置き換える。"""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if match := BOX.match(line):
            lines[number] = exercise_box(find_question(piece.cell, number, match.group(1)))
    return "\n".join(lines)


def _cells(pieces: list[Piece], target: Target) -> tuple[list[NotebookNode], dict[str, int]]:
    give = CellIds().give
    cells: list[NotebookNode] = []
    lines: dict[str, int] = {}
    for piece in pieces:
        for cell in _render(piece, target, give):
            cells.append(cell)
            lines[cell.id] = piece.cell.line
    return cells, lines


def _render(piece: Piece, target: Target, give: Callable[[str], str]) -> list[NotebookNode]:
    metadata = cell_metadata(piece)
    if piece.role != "text":
        text = piece_text(piece, target.kind)
        return [new_cell("code", text, give(base_id(piece, text)), metadata)]
    rendered: list[NotebookNode] = []
    for part in split_quiz(piece.cell, target.kind, target.slug):
        if isinstance(part, list):
            rendered += part
        else:
            text = fill_boxes(piece, part)
            rendered.append(new_cell("markdown", text, give(plain_id("markdown", text)), dict(metadata)))
    return rendered


def notebook_metadata(target: Target, pieces: list[Piece]) -> dict[str, Any]:
    """ノートブックのメタデータ（jupytext のものは入れない）。"""
    stamp = {
        "source": target.source_name,
        "kind": target.kind,
        "slug": target.slug,
        "questions": [question.id for question in questions_of(pieces)],
    }
    return {"kernelspec": dict(_KERNELSPEC), "language_info": dict(_LANGUAGE), "tlkit": stamp}
