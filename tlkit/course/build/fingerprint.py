"""ノートブックの出力が、いまのコードから出たものかを示す刻印（sha256）。

実行し直さずに「古い出力」を見つけるために使う。浮動小数の出力は機械によって変わるので、比べない。
- cells: コードのセルの id と中身
- modules: セルが読み込む tlkit のモジュール（奥まで）と、問題・クイズの定義
- assets: それらが名前を挙げている同梱データ（tlkit/assets）と実験結果（experiments/results）
- lock: requirements.lock
- outputs: 書いたときの出力そのもの（手で書き換えたら分かる）

隣: import をたどるのは `modules.py`、比べるのは `drift.py`。
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tlkit.course.build.modules import PACKAGE, module_files, parse_file
from tlkit.course.build.targets import Target

PARTS = {
    "cells": "コードのセル",
    "modules": "セルが読み込む tlkit のモジュール、または問題・クイズの定義",
    "assets": "同梱データ（tlkit/assets）、または実験結果（experiments/results）",
    "lock": "requirements.lock",
}


def input_fingerprint(notebook: Any, target: Target) -> dict[str, str]:
    """出力を決めるものの刻印。"""
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = [cell.source for cell in codes]
    modules = module_files(sources, _check_modules(notebook))
    definitions = [path for path in [_quiz_file(sources, target)] if path is not None]
    texts = _literals([ast.parse(source) for source in sources] + [parse_file(file) for file in modules])
    return {
        "cells": _digest(json.dumps([[cell.id, cell.source] for cell in codes], ensure_ascii=False).encode()),
        "modules": _digest_files([*modules, *definitions], target.root, text=True),
        "assets": _digest_files(_used_assets(texts, target.root), target.root, text=False),
        "lock": _digest_files(_existing(target.root / "requirements.lock"), target.root, text=True),
    }


def output_fingerprint(notebook: Any) -> str:
    """出力の刻印。"""
    outputs = [
        [cell.get("execution_count"), cell.get("outputs")] for cell in notebook.cells if cell.cell_type == "code"
    ]
    return _digest(json.dumps(outputs, ensure_ascii=False, sort_keys=True).encode())


def _check_modules(notebook: Any) -> list[str]:
    ids = notebook.metadata.get("tlkit", {}).get("questions", [])
    return sorted({f"tlkit.course.checks.c{question[:2]}" for question in ids})


def _quiz_file(sources: Iterable[str], target: Target) -> Path | None:
    path = target.root / "chapters" / "quiz" / f"{target.slug}.yaml"
    return path if path.is_file() and any("quiz(" in source for source in sources) else None


def _literals(trees: Iterable[ast.AST]) -> set[str]:
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200
    }


def _used_assets(texts: set[str], root: Path) -> list[Path]:
    """文字列が名前を挙げている同梱ファイル。拡張子なしの名前や、フォルダの名前でもよい（広めに数える）。"""
    words = {part for text in texts for part in (text, text.removeprefix("/"), text.removesuffix("/"))}
    found: list[Path] = []
    for folder in (PACKAGE / "assets", root / "experiments" / "results"):
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            relative = file.relative_to(folder)
            names = {file.name, file.stem, relative.as_posix(), *(parent.as_posix() for parent in relative.parents)}
            names |= {f"{folder.name}/{relative.as_posix()}", *relative.parent.parts} - {"."}
            if (names - {"."}) & words:
                found.append(file)
    return found


def _existing(path: Path) -> list[Path]:
    return [path] if path.is_file() else []


def _digest_files(files: Iterable[Path], root: Path, *, text: bool) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        if text:
            content = content.replace(b"\r\n", b"\n")  # 改行を変えて取り出す Windows でも同じ刻印にする
        digest.update(_name(file, root).encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _name(file: Path, root: Path) -> str:
    base = PACKAGE.parent if file.is_relative_to(PACKAGE) else root
    return file.relative_to(base).as_posix()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
