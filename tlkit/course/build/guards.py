"""答えを使うセルが `if ready("01-1"):` に守られているかを調べる。

守られていれば、手つかずの演習を最初から最後まで実行しても例外で止まらない。
隣: 役割の判定は `structure.py`。
"""

import ast
from collections.abc import Sequence

from tlkit.course.build.source import SourceCell
from tlkit.course.build.structure import Piece, bound_names, calls, find_question, literal_id, questions_of

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def verify_guards(pieces: Sequence[Piece]) -> None:
    """守られていない使い方、定義のない名前、確認より前の `ready` を探す。

    Raises:
        CourseError: 1 つでも見つかったとき（元ファイルの行を言う）。
    """
    owner = {name: question.id for question in questions_of(pieces) for name in question.answers}
    checked: set[str] = set()
    for piece in pieces:
        if piece.role == "text":
            continue
        tree = piece.cell.tree()
        _verify_ids(piece.cell, tree, checked)
        own = piece.question.id if piece.question else ""
        foreign = {name: question for name, question in owner.items() if question != own}
        _Guards(piece.cell, foreign).visit(tree)
        _refuse_rebinding(piece.cell, tree, foreign)
        if piece.role == "check":
            checked.add(own)


def _verify_ids(cell: SourceCell, tree: ast.Module, checked: set[str]) -> None:
    for call in calls(tree, "ready", "hint"):
        question_id = literal_id(cell, call)
        find_question(cell, call.lineno - 1, question_id)
        if ast.unparse(call.func) == "ready" and question_id not in checked:
            raise cell.error(
                f'`ready("{question_id}")` が、同じファイルの確認のセルより前にあります。ここではいつも False になります。\n'
                f'`check("{question_id}", ...)` のセルより後に移してください。',
                call.lineno - 1,
            )


def _refuse_rebinding(cell: SourceCell, tree: ast.Module, foreign: dict[str, str]) -> None:
    for name in sorted(bound_names(tree) & set(foreign)):
        raise cell.error(
            f"演習 {foreign[name]} の答えの名前 `{name}` を、答えのセルの外で定義し直しています。別の名前にしてください。"
        )


class _Guards(ast.NodeVisitor):
    """守りの外で答えの名前を読む節を見つけたら CourseError を投げる。"""

    def __init__(self, cell: SourceCell, owner: dict[str, str]) -> None:
        self.cell = cell
        self.owner = owner
        self.ready: frozenset[str] = frozenset()
        self.local: frozenset[str] = frozenset()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Store):
            self._require_guard(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._require_guard(node.target)  # `mmd2 += 1` は、書き込みの前に読む
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        outer = self.ready
        self.ready = outer | _ready_ids(node.test)
        for statement in node.body:
            self.visit(statement)
        self.ready = outer
        for statement in node.orelse:
            self.visit(statement)

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _Scope | _Comprehension):
            super().generic_visit(node)
            return
        outer = self.local
        if isinstance(node, _Scope):
            for default in [*node.args.defaults, *node.args.kw_defaults, *getattr(node, "decorator_list", [])]:
                if default is not None:
                    self.visit(default)
        self.local = outer | _local_names(node)
        super().generic_visit(node)
        self.local = outer

    def _require_guard(self, node: ast.Name) -> None:
        question = self.owner.get(node.id)
        if question is None or node.id in self.local or question in self.ready:
            return
        raise self.cell.error(
            f"演習 {question} の答え `{node.id}` を、守りなしで使っています。未完成のときにここで止まります。\n"
            f'`if ready("{question}"):` の中に入れてください。',
            node.lineno - 1,
        )


def _ready_ids(test: ast.expr) -> frozenset[str]:
    """条件が真のとき、合格していると分かる問題。`ready("a") and ready("b")` も読む。"""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return frozenset().union(*(_ready_ids(value) for value in test.values))
    if isinstance(test, ast.Call) and ast.unparse(test.func) == "ready" and len(test.args) == 1:
        first = test.args[0]
        return (
            frozenset([first.value])
            if isinstance(first, ast.Constant) and isinstance(first.value, str)
            else frozenset()
        )
    return frozenset()


def _local_names(node: ast.AST) -> frozenset[str]:
    """関数や内包表記の中だけで有効な名前（引数と、中での代入）。"""
    arguments = ast.walk(node.args) if isinstance(node, _Scope) else []
    names = {argument.arg for argument in arguments if isinstance(argument, ast.arg)}
    shared: set[str] = set()
    pending: list[ast.AST] = list(ast.iter_child_nodes(node))
    while pending:
        child = pending.pop()
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.add(child.id)
        if isinstance(child, ast.Global | ast.Nonlocal):
            shared |= set(child.names)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(child.name)
        elif not isinstance(child, ast.Lambda | _Comprehension):
            pending += ast.iter_child_nodes(child)
    return frozenset(names - shared)
