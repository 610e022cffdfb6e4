"""ノートブックのセルの中身を調べる小さな道具（実行はしない）。

`work/` が「学習者が書き換えたか」「どのセルが答えか」を、`checks/notebook.py` が「確認セルはどれか」を知るのに使います。
"""

import ast
import hashlib
import json
import re
from typing import Any

from tlkit.course import syntax

_MAGIC_LINE = re.compile(r"^([^\S\n]*)[%!?].*$", re.MULTILINE)  # 空行だけの長いセルで遅くならない形
_DEFINITION = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)|^(\w+)\s*(?::[^=\n]+)?=(?!=)", re.MULTILINE)
_CHECK_CALL = re.compile(r"""^[^#\n]*\bcheck\s*\(\s*["']([^"']+)["']""", re.MULTILINE)


def sources_hash(document: dict[str, Any]) -> str:
    """セルの種類と中身だけの SHA-256。出力・実行番号・空のセル・改行の種類の違いは数えない。"""
    cells = [
        [cell["cell_type"], cell["source"].replace("\r\n", "\n"), cell.get("attachments", {})]
        for cell in document["cells"]
        if cell["source"].strip()
    ]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def defined_names(source: str) -> set[str]:
    """セルの最上位で定義・代入される名前。書きかけで構文が壊れていても、行頭の形から拾う。"""
    tree = parse(source)
    if tree is None:
        return {first or second for first, second in _DEFINITION.findall(source)}
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {leaf.id for target in _targets(node) for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    return names


def check_calls(source: str) -> set[str]:
    """セルの中で `check("01-1", …)` の形で呼ばれている問題の番号。"""
    tree = parse(source)
    if tree is None:
        return set(_CHECK_CALL.findall(source))
    return {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) or getattr(node.func, "attr", None)) == "check"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def is_fragment(source: str) -> bool:
    """字下げから始まる切れはしか（関数の途中でセルを分割すると、後ろ半分がこうなる）。"""
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and lines[0][0] in " \t" and parse(source) is None


def parse(source: str) -> ast.Module | None:
    """セルの構文木。魔法の命令（% や !）の行は pass に替えて読む。構文が壊れていれば None。"""
    for text in (source, _MAGIC_LINE.sub(r"\1pass", source)):  # 先にそのまま読む。行頭の % は剰余のこともある
        try:
            return syntax.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]
