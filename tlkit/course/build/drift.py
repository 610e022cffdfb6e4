"""置いてあるノートブックと、いまの元ファイルとのずれを見つける（実行はしない）。

`tlkit build --check` と、変わったものだけを作り直す判断の、両方がこれを使う。
隣: 下書きは `assemble.py`、刻印は `fingerprint.py`、出力の検査は `outputs.py`。
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkit.course.build.assemble import Draft
from tlkit.course.build.fingerprint import PARTS, input_fingerprint, output_fingerprint
from tlkit.course.build.leaks import find_leaks
from tlkit.course.build.notebook import from_text, to_text
from tlkit.course.build.outputs import count_problems, output_problems
from tlkit.course.build.targets import Target

_SKIP_TEXT = re.compile(r"NBVAL_SKIP|NBVAL_IGNORE_OUTPUT|NBVAL_RAISES_EXCEPTION|PYTEST_VALIDATE_IGNORE_OUTPUT")
_SKIP_TAGS = ("nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception", "skip-execution")


def find_drift(draft: Draft) -> list[str]:
    """作り先 1 つのずれを返す。なければ空。"""
    return [f"{draft.target.output_name}: {text}\n  直し方: {remedy(draft.target)}" for text in _drifts(draft)]


def remedy(target: Target) -> str:
    """ずれを直すコマンド。"""
    return f"`tlkit build {target.source_name}` を実行し、できた .ipynb をコミットしてください。"


def orphan_problem(path: Path, root: Path) -> str:
    """元ファイルのないノートブックの、ずれの文。"""
    name = path.relative_to(root).as_posix()
    folder = "solutions" if path.parent.name == "exercises" else path.parent.name
    return f"{name}: 元ファイル {folder}/{path.stem}.py がありません。\n  直し方: 元ファイルを置くか、{name} を消してください。"


def _drifts(draft: Draft) -> Iterator[str]:
    path = draft.target.output
    if not path.is_file():
        yield "ノートブックがありません。"
        return
    notebook, problem = _load(path)
    if notebook is None:
        yield problem
        return
    yield from _input_drifts(draft, notebook)
    yield from _skip_marks(notebook)
    yield from (f"{text}。" for text in count_problems(notebook))
    yield from _output_drifts(draft, notebook)
    if to_text(notebook) != path.read_text(encoding="utf-8"):
        yield "ファイルの書式が build の書き方と違います（手で保存した跡です）。"


def _load(path: Path) -> tuple[Any, str]:
    try:
        return from_text(path.read_text(encoding="utf-8")), ""
    except (ValueError, OSError) as error:
        return None, f"ノートブックとして読めません（{str(error).splitlines()[0][:160]}）。"


def _input_drifts(draft: Draft, notebook: Any) -> Iterator[str]:
    planned = draft.notebook
    old, new = [cell.get("id") for cell in notebook.cells], [cell.id for cell in planned.cells]
    if old != new:
        gone, added = sorted(set(map(str, old)) - set(new)), sorted(set(new) - set(map(str, old)))
        yield f"セルの並びが元ファイルと違います（消えるべきセル {gone}、足りないセル {added}）。"
    current = {cell.get("id"): cell for cell in notebook.cells}
    for cell in planned.cells:
        if cell.id in current and _inputs(current[cell.id]) != _inputs(cell):
            yield f"セル {cell.id} の中身・種類・タグのどれかが元ファイル（{draft.where(cell.id)}）と違います。"
    metadata = json.loads(json.dumps(notebook.metadata))
    metadata.get("tlkit", {}).pop("fingerprint", None)
    if metadata != json.loads(json.dumps(planned.metadata)) or notebook.nbformat_minor != planned.nbformat_minor:
        yield "ノートブックのメタデータが元ファイルから作ったものと違います。"


def _inputs(cell: Any) -> str:
    return json.dumps([cell.cell_type, "".join(cell.source), cell.metadata, cell.get("attachments")], sort_keys=True)


def _skip_marks(notebook: Any) -> Iterator[str]:
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if str(tag).lower() in _SKIP_TAGS]
        match = _SKIP_TEXT.search(cell.source) if cell.cell_type == "code" else None
        for mark in [*tags, *([match.group()] if match else [])]:
            yield f"セル {cell.get('id')} に、検査を飛ばす印 `{mark}` があります。"


def _output_drifts(draft: Draft, notebook: Any) -> Iterator[str]:
    stored = notebook.metadata.get("tlkit", {}).get("fingerprint", {})
    stored = stored if isinstance(stored, dict) else {}
    for part, value in input_fingerprint(draft.notebook, draft.target).items():
        if stored.get(part) != value:
            yield f"出力が古くなっています。前に実行した後で、{PARTS[part]}が変わりました。"
    if stored.get("outputs") != output_fingerprint(notebook):
        yield "出力が、実行したときのものと違います（手で書き換えた跡です）。"
    yield from output_problems(draft, notebook)
    yield from find_leaks(notebook, draft.secrets)
