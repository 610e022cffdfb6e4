"""nbformat を包む所。ノートブックを作る・読む・決まった形の文字列にする（型のない nbformat をここだけで使う）。

隣: ファイルに書くのは `writer.py`。
"""

import json
from typing import Any

import nbformat
from nbformat import NotebookNode

_NB: Any = nbformat


def new_notebook(cells: list[NotebookNode], metadata: dict[str, Any]) -> NotebookNode:
    """出力のないノートブックを作る。"""
    notebook: NotebookNode = _NB.v4.new_notebook(cells=cells, metadata=metadata)
    return notebook


def new_cell(kind: str, text: str, cell_id: str, metadata: dict[str, Any]) -> NotebookNode:
    """id の決まったセルを作る。"""
    make = _NB.v4.new_code_cell if kind == "code" else _NB.v4.new_markdown_cell
    cell: NotebookNode = make(source=text, id=cell_id, metadata=metadata)
    return cell


def to_text(notebook: Any) -> str:
    """決まった形の JSON にする（鍵は名前順、字下げ 1、末尾に改行）。"""
    return str(_NB.writes(notebook, version=4, sort_keys=True, indent=1, ensure_ascii=False)) + "\n"


def from_text(text: str) -> NotebookNode:
    """JSON からノートブックを読む。id の付け直しのような、黙った修正はしない。

    Raises:
        ValueError: JSON として、またはノートブックとして正しくないとき。
    """
    try:
        notebook = _NB.from_dict(json.loads(text))
        _NB.validate(notebook)
    except (AttributeError, KeyError, TypeError, RecursionError, nbformat.ValidationError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    rejoined: NotebookNode = _NB.v4.rwbase.rejoin_lines(notebook)
    return rejoined
