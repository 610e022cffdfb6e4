"""セルの中身を、実行せずに調べる道具。採点の照合（`parts.py`、`providers.py`）が使う。

同じ中身は一度しか構文解析しない。他人のコードなので、大きさの上限は呼ぶ側（`parts.py`）が先に確かめる。
"""

import ast
import functools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from tlkit.course.cells import check_calls, defined_names, parse

_COURSE_CALLS = ("check", "hint", "quiz", "doctor")
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass(frozen=True)
class Facts:
    """一つのセルについて分かること。

    Attributes:
        parses: これだけで動かせる Python か（全体の字下げは、IPython と同じく外して読む）。
        indented: 字下げから始まるか。
        names: 関数の外で定義・代入・import される名前。
        reads: よそから読む名前（このセルの中で作られるものを除く）。
        checks: `check("01-1", …)` と呼んでいる問題。
        guarded: いちばん外側に `if ready(…):` があるか。
        runnable: いちばん外側の `check(…)` などの呼び出しと `if ready(…):` を空行にした中身。
    """

    parses: bool
    indented: bool
    names: frozenset[str]
    reads: frozenset[str]
    checks: frozenset[str]
    guarded: bool
    runnable: str


@functools.lru_cache(maxsize=512)
def facts(source: str) -> Facts:
    """セルの中身を調べる。"""
    indented = source.lstrip("\n")[:1] in (" ", "\t")
    tree = parse(textwrap.dedent(source) if indented else source)
    if tree is not None and _returns_outside(tree):
        tree = None  # 関数の途中で分割された、後ろ半分
    checks = frozenset(check_calls(source))
    if tree is None:
        names = frozenset(defined_names(source))
        return Facts(False, indented, names, frozenset(), checks, guarded=False, runnable=source)
    guarded = any(_is_guard(node) for node in tree.body)
    runnable = _without_course_calls(source, tree)
    return Facts(True, indented, frozenset(_bound(tree)), _reads(tree), checks, guarded, runnable)


def _returns_outside(tree: ast.Module) -> bool:
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending += ast.iter_child_nodes(node)
    return False


def _without_course_calls(source: str, tree: ast.Module) -> str:
    """確認・ヒント・合格後のセルの部分を空行にする。行番号は変わらない。"""
    lines = source.split("\n")
    kept: set[int] = set()
    gone: set[int] = set()
    for node in tree.body:
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        (gone if _is_guard(node) or _is_course_call(node) else kept).update(span)
    if gone & kept:  # `x = 1; check(...)` のように同じ行にあるもの
        return source
    return "\n".join("" if number in gone else line for number, line in enumerate(lines, start=1))


def _is_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(leaf, ast.Call) and getattr(leaf.func, "id", "") == "ready" for leaf in ast.walk(node.test)
    )


def _is_course_call(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") in _COURSE_CALLS
    )


def _bound(tree: ast.Module) -> Iterator[str]:
    """関数とクラスの中には入らず、if や try の中には入る。"""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _introduced(node)
        else:
            yield from _stored(node)
            pending += [child for field in _BODIES for child in _listed(getattr(node, field, []))]


def _stored(node: ast.AST) -> Iterator[str]:
    targets = [*_listed(getattr(node, "targets", [])), getattr(node, "target", None)]
    targets += [item.optional_vars for item in _listed(getattr(node, "items", [])) if isinstance(item, ast.withitem)]
    if isinstance(node, ast.Delete):
        return
    for target in targets:
        if isinstance(target, ast.AST):
            yield from _ids(target, ast.Store)


def _reads(tree: ast.Module) -> frozenset[str]:
    made = {name for leaf in ast.walk(tree) for name in _introduced(leaf)} | set(_ids(tree, ast.Store))
    return frozenset(_ids(tree, ast.Load)) - made


def _introduced(node: ast.AST) -> Iterator[str]:
    """代入のほかの書き方で、この文が作る名前。関数の中でだけ使う補助の関数や import も含む。"""
    if isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
    elif isinstance(node, ast.MatchMapping):
        yield node.rest or ""
    elif isinstance(node, _NAMED):
        yield node.name or ""


def _ids(tree: ast.AST, context: type[ast.expr_context]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            yield node.id


def _listed(value: object) -> list[ast.AST]:
    return [item for item in value if isinstance(item, ast.AST)] if isinstance(value, list) else []
