"""JSON として読めた値が、nbformat 4 のノートブックの形をしているかを確かめる。

ファイルの読み方と文字コードは `intake.py` が受け持ちます。ここは値だけを見ます。
"""

import hashlib
from typing import Any

_CELL_TYPES = ("code", "markdown", "raw")
_OTHER_LANGUAGES = {
    "ir": "R",
    "julia": "Julia",
    "javascript": "JavaScript",
    "deno": "TypeScript",
    "xcpp": "C++",
    "bash": "bash",
}
_UPGRADE = (
    "JupyterLab で開き、そのまま（実行せずに）保存し直すと、新しい形式（nbformat 4）になります。それを使ってください。"
)


class ShapeError(ValueError):
    """ノートブックの形でない。`code` は理由の名前。"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def tidy(value: Any) -> dict[str, Any]:
    """形を確かめ、各セルの `source` を 1 つの文字列にし、無い `id` を補って返す（引数を書き換える）。"""
    document = _require_document(value)
    for number, cell in enumerate(document["cells"], start=1):
        _tidy_cell(cell, number)
    return document


def other_language(document: dict[str, Any]) -> str:
    """Python 以外の言語のノートブックなら、その言語の名前。Python か不明なら空文字列。"""
    spec = document["metadata"].get("kernelspec")
    info = document["metadata"].get("language_info")
    spec, info = (part if isinstance(part, dict) else {} for part in (spec, info))
    language = spec.get("language") or info.get("name")
    if language:
        return "" if str(language).lower() in ("python", "ipython") else str(language)
    kernel = str(spec.get("name", "")).split("-")[0].lower()
    return _OTHER_LANGUAGES.get(kernel, "")


def _require_document(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or "nbformat" not in value:
        shown = "{}" if value == {} else type(value).__name__
        raise ShapeError("not-notebook", f"ノートブックではありません（nbformat の欄がない JSON: {shown}）。")
    _require_version(value["nbformat"])
    if not isinstance(value.get("cells"), list):
        raise ShapeError("not-notebook", "ノートブックではありません（cells の並びがありません）。")
    if not isinstance(value.setdefault("metadata", {}), dict):
        raise ShapeError("not-notebook", "ノートブックの metadata が壊れています。")
    if type(value.setdefault("nbformat_minor", 5)) is not int:
        raise ShapeError("version", f"nbformat_minor が整数ではありません: {value['nbformat_minor']!r:.40}")
    value["nbformat_minor"] = max(5, value["nbformat_minor"])  # id を補うので、id を持てる版にする
    return value


def _require_version(major: Any) -> None:
    if type(major) is not int:
        raise ShapeError("version", f"nbformat の版が整数ではありません: {major!r:.40}")
    if major < 4:
        raise ShapeError("version", f"古い形式（nbformat {major}）です。{_UPGRADE}")
    if major > 4:
        raise ShapeError("version", f"知らない形式（nbformat {major}）です。この教材は nbformat 4 を読みます。")


def _tidy_cell(cell: Any, number: int) -> None:
    where = f"上から {number} 番目のセル"
    if not isinstance(cell, dict) or cell.get("cell_type") not in _CELL_TYPES:
        raise ShapeError("cell", f"{where}の種類が分かりません（code・markdown・raw のどれでもありません）。")
    cell["source"] = _joined(cell.get("source", ""), where)
    if not isinstance(cell.setdefault("metadata", {}), dict):
        raise ShapeError("cell", f"{where}の metadata が壊れています。")
    if not isinstance(cell.get("id"), str):
        cell["id"] = "made-" + hashlib.sha256(f"{number}:{cell['source']}".encode()).hexdigest()[:8]
    if cell["cell_type"] == "code":
        cell.setdefault("execution_count", None)
        _require_outputs(cell.setdefault("outputs", []), where)


def _joined(source: Any, where: str) -> str:
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise ShapeError("cell", f"{where}の中身（source）が文字列ではありません。")
    try:
        source.encode("utf-8")
    except UnicodeEncodeError:
        raise ShapeError("cell", f"{where}に、文字にならない符号（片割れのサロゲート）があります。") from None
    return source


def _require_outputs(outputs: Any, where: str) -> None:
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise ShapeError("cell", f"{where}の出力が壊れています。")
