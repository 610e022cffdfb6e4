"""解答の範囲の、既定の雛形を決める。

関数の中なら NotImplementedError、代入だけの範囲なら `名前 = ...`。それ以外は作者が `### STUB` で書く。
隣: 範囲の読み取りは `regions.py`。
"""

import ast
from collections.abc import Sequence

from tlkit.course.build.source import SourceCell

NOT_IMPLEMENTED = 'raise NotImplementedError("ここを実装してください")'


def default_stub(cell: SourceCell, line: int, statements: Sequence[ast.stmt], parents: Sequence[ast.AST]) -> str:
    """範囲の雛形を返す。parents は範囲を囲む節（外から内へ）。

    Raises:
        CourseError: 関数の中でも、代入だけの範囲でもないとき。
    """
    if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in parents):
        return NOT_IMPLEMENTED
    names: list[str] = []
    for statement in statements:
        found = assigned_names(statement)
        if not found or any(isinstance(node, ast.ClassDef) for node in parents):
            raise cell.error(
                "この範囲の雛形を決められません（関数の本体でも、名前への代入だけでもありません）。\n"
                "範囲の中に `### STUB 雛形の行` を書いてください。",
                line,
            )
        names += [name for name in found if name not in names]
    return "\n".join(f"{name} = ..." for name in names)


def assigned_names(statement: ast.stmt) -> list[str]:
    """名前への代入なら、その名前を順に返す。そうでなければ空。"""
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return []
    flat = [name for target in targets for name in _flatten(target)]
    return [name.id for name in flat if isinstance(name, ast.Name)] if _only_names(flat) else []


def _flatten(target: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        return [name for element in target.elts for name in _flatten(element)]
    return [target.value] if isinstance(target, ast.Starred) else [target]


def _only_names(targets: list[ast.expr]) -> bool:
    return all(isinstance(target, ast.Name) for target in targets)
