"""演習のノートブックが読み込むモジュールの名前を、動かさずに調べる。温めた Python（`zygote.py`）に読み込ませておく。"""

import ast
from collections.abc import Iterator

from tlkit.course import syntax
from tlkit.course.grading.assignment import Assignment

_NEVER = frozenset({"tlkit.course", "__future__"})  # 檻の中では、静かなものに替わる（`inside/quiet.py`）
_ALWAYS = ("numpy", "torch", "matplotlib.pyplot")


def modules(assignment: Assignment) -> tuple[str, ...]:
    """檻で動くセルに出てくるモジュール。`from a import b` の b は、モジュールのこともあるので `a.b` も入れる。"""
    found = dict.fromkeys(_ALWAYS)
    for cell in assignment.cells:
        if cell.role in ("setup", "answer"):
            found.update(dict.fromkeys(_imported(cell.source)))
    return tuple(name for name in found if not any(name == one or name.startswith(f"{one}.") for one in _NEVER))


def _imported(source: str) -> Iterator[str]:
    try:
        tree = syntax.parse(source)
    except SyntaxError:  # マジックのあるセル。学習者のセルとして動くときに読み込まれる
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
