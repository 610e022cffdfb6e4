"""実行したノートブックの出力を調べる。機械ごとに変わるもの、失敗の跡、確認の印の不足を見つける。

見つけたものは黙って消さずに、場所つきの日本語で返す。
隣: 実行は `execute.py`、作り直さずに調べるのは `drift.py`。
"""

import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkit.course.build.assemble import Draft
from tlkit.course.build.targets import Kind

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
_WIDGET = "application/vnd.jupyter.widget"
_BINARY = ("image/png", "image/jpeg", "application/pdf")
_EXCERPT = 300
STATE = {"solution": "✅", "exercise": "⏳"}


def output_problems(draft: Draft, notebook: Any, extra_paths: tuple[Path, ...] = ()) -> list[str]:
    """出力の問題を返す。extra_paths は実行に使った一時フォルダ。"""
    paths = machine_paths(extra_paths)
    problems: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        found = [text for output in cell.outputs for text in _output_problems(output, paths)]
        if cell.id in draft.check_ids:
            found += check_problems(cell, draft.check_ids[cell.id], draft.target.kind)
        problems += [f"{draft.where(cell.id)}: {text}" for text in found]
    return problems


def join_streams(outputs: list[Any]) -> list[Any]:
    """隣り合う同じ流れの出力をつなぐ。切れ目は実行のたびに変わるが、図との前後は変えない。"""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == "stream" == last.output_type and last.name == output.name:
            last.text = "".join(last.text) + "".join(output.text)
        else:
            joined.append(output)
    return joined


def count_problems(notebook: Any) -> list[str]:
    """実行していないセルと、1 から順に並ばない実行番号を返す。"""
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.get("execution_count") for cell in codes]
    missing = [cell.get("id", "?") for cell, count in zip(codes, counts, strict=True) if count is None]
    if missing:
        return [f"実行していないセルがあります（{'、'.join(missing)}）"]
    if counts != list(range(1, len(codes) + 1)):
        return [f"実行番号が 1 から順に並んでいません（{counts}）"]
    return []


def check_problems(cell: Any, question_id: str, kind: Kind) -> list[str]:
    """確認のセルの出力が、解答なら ✅、演習なら ⏳ の 1 行だけであることを確かめる。"""
    mark = STATE.get(kind, "")
    texts = ["".join(output.get("text", "")) for output in cell.outputs if output.get("name") == "stdout"]
    lines = "".join(texts).splitlines()
    if len(cell.outputs) == 1 and len(lines) == 1 and lines[0].startswith(f"{mark} {question_id} "):
        return []
    shown = "".join(texts).strip()[:_EXCERPT] or "（標準出力なし）"
    return [f"確認のセルの出力は `{mark} {question_id}` で始まる 1 行だけでなければなりません。いまの出力: {shown}"]


def machine_paths(extra: tuple[Path, ...] = ()) -> list[str]:
    """出力に現れてはいけない、この機械のフォルダ。"""
    known = [Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(sys.prefix), *extra]
    known += [Path(path) for path in sysconfig.get_paths().values()]
    both = {str(form) for path in known for form in (path, path.resolve())}
    return sorted((path for path in both if len(Path(path).parts) > 1), key=len, reverse=True)


def _output_problems(output: Any, paths: list[str]) -> Iterator[str]:
    if output.output_type == "error":
        yield f"例外で止まりました（{output.get('ename', '')}: {output.get('evalue', '')}）"
        return
    if output.output_type == "stream" and output.get("name") == "stderr":
        yield f"標準エラーへの出力があります。警告の原因を直してください: {_cut(''.join(output.text))}"
        return
    data = output.get("data", {})
    if any(str(kind).startswith(_WIDGET) for kind in data):
        yield "ウィジェットの出力があります。保存しても再表示できないので、図か文字で表してください"
    for text in _texts(output):
        yield from _text_problems(text, paths)


def _text_problems(text: str, paths: list[str]) -> Iterator[str]:
    if match := _ADDRESS.search(text):
        yield f"実行のたびに変わるオブジェクトの番地が出力にあります。表示する値を選んでください: {_around(text, match)}"
    for path in paths:
        forms = "|".join(re.escape(form) for form in {path, path.replace("\\", "\\\\"), path.replace("\\", "/")})
        if match := re.search(rf"(?<![\w./\\-])(?:{forms})(?![\w.-])", text):
            yield f"この機械のフォルダの名前が出力にあります。パスを表示しないでください: {_around(text, match)}"
            return


def _texts(output: Any) -> Iterator[str]:
    if output.output_type == "stream":
        yield "".join(output.text)
    for kind, value in output.get("data", {}).items():
        if kind not in _BINARY:
            yield value if isinstance(value, str) else "".join(value) if isinstance(value, list) else str(value)
    yield str(dict(output.get("metadata", {})))


def _around(text: str, match: re.Match[str]) -> str:
    return _cut(text[max(0, match.start() - 60) : match.end() + 60])


def _cut(text: str) -> str:
    stripped = text.strip()
    return stripped if len(stripped) <= _EXCERPT else stripped[:_EXCERPT] + "…"
