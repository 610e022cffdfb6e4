"""nbgrader の元ノートブック（DIR/source/<slug>/<slug>.ipynb）を書く。

答えのセルは印つきの解答、確認のセルは自動採点の検査になる。`nbgrader generate_assignment <slug>` が DIR でそのまま動く。
雛形は nbgrader が作る。1 種類しか選べないので、作者の `### STUB` は使われず、どの範囲も NotImplementedError になる。
隣: ふつうの組み立ては `assemble.py`。
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from tlkit.course.build.assemble import fill_boxes, notebook_metadata, read_pieces
from tlkit.course.build.ids import CellIds, base_id, cell_metadata
from tlkit.course.build.notebook import new_cell, new_notebook
from tlkit.course.build.regions import BEGIN, END, marked_text
from tlkit.course.build.structure import Piece
from tlkit.course.build.stub import NOT_IMPLEMENTED
from tlkit.course.build.targets import Target
from tlkit.course.build.writer import write_atomic, write_notebook
from tlkit.course.errors import CourseError

_STRICT = 'import os\n\nos.environ["TLKIT_CHECK"] = "strict"  # 未着手のままでも検査を通らないようにする'
_CONFIG = f"""# tlkit build --nbgrader が書いた設定です。このフォルダで `nbgrader generate_assignment <名前>` を実行してください。
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "tlkit"
c.ClearSolutions.begin_solution_delimeter = "{BEGIN}"
c.ClearSolutions.end_solution_delimeter = "{END}"
c.ClearSolutions.code_stub = {{"python": {NOT_IMPLEMENTED!r}}}
c.Execute.timeout = 600
"""


def export(targets: Sequence[Target], folder: Path) -> list[Path]:
    """解答の元ファイルごとに、nbgrader の元ノートブックを書き、そのパスを返す。

    Raises:
        CourseError: 解答の元ファイルが 1 つもないとき、書けないとき。
    """
    solutions = [target for target in targets if target.kind == "solution"]
    if not solutions:
        raise CourseError("nbgrader に書き出せる演習がありません。solutions/ の .py を指定してください。")
    notebooks = [(target, _notebook(target)) for target in solutions]
    written: list[Path] = []
    for target, notebook in notebooks:
        path = folder / "source" / target.slug / f"{target.slug}.ipynb"
        write_notebook(path, notebook)
        written.append(path)
    write_atomic(folder / "nbgrader_config.py", _CONFIG)
    return written


def _notebook(target: Target) -> NotebookNode:
    pieces = read_pieces(target)
    give = CellIds().give
    strict = new_cell("code", _STRICT, give("nbgrader-strict"), {"nbgrader": _grading("nbgrader-strict", "code")})
    cells = [strict, *(_cell(piece, give) for piece in pieces if piece.cell.text.strip())]
    return new_notebook(cells, notebook_metadata(target, pieces))


def _cell(piece: Piece, give: Any) -> NotebookNode:
    metadata = cell_metadata(piece)
    text = marked_text(piece.cell, list(piece.regions)) if piece.regions else fill_boxes(piece, piece.cell.text)
    if piece.regions:
        _refuse_marks_in_strings(piece, text)
    cell_id = give(base_id(piece, text))
    if piece.cell.kind == "code":
        metadata["nbgrader"] = _grading(cell_id, "code", piece)
    return new_cell(piece.cell.kind, text, cell_id, metadata)


def _grading(cell_id: str, cell_type: str, piece: Piece | None = None) -> dict[str, Any]:
    role = piece.role if piece else "code"
    metadata: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": cell_id,
        "grade": role == "check",
        "solution": role == "answer",
        "locked": role != "answer",
        "task": False,
        "cell_type": cell_type,
    }
    if role == "check" and piece and piece.question:
        metadata["points"] = piece.question.points
    return metadata


def _refuse_marks_in_strings(piece: Piece, text: str) -> None:
    """nbgrader は行の文字で印を探す。文字列の中に印と同じ並びがあると、そこで切られてしまう。"""
    for mark in (BEGIN, END):
        if text.count(mark) != len(piece.regions):
            raise piece.cell.error(
                f"文字列やコメントの中に `{mark}` があるので、nbgrader に書き出せません。別の書き方にしてください。"
            )
