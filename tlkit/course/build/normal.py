"""文と式を、書き方の違いによらない形にそろえる（漏れの検査のため）。

- そのままの形: `ast.unparse`。空白・かっこ・引用符・コメントの違いが消える。
- 名前を替えた形: さらに、組み込み以外の名前を出てきた順に v0, v1, … と付け替える。変数名を替えた漏れも同じ形になる。

隣: 比べるのは `leaks.py`。
"""

import ast
import builtins
import copy
from collections.abc import Iterator

_BUILTINS = frozenset(dir(builtins))
_WEIGHTED = (
    ast.Attribute,
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.IfExp,
    ast.JoinedStr,
    ast.Lambda,
    ast.Subscript,
    ast.UnaryOp,
    ast.comprehension,
)

_EMPTY = (
    ast.AsyncFunctionDef,
    ast.Break,
    ast.ClassDef,
    ast.Continue,
    ast.FunctionDef,
    ast.Global,
    ast.Import,
    ast.ImportFrom,
    ast.Nonlocal,
    ast.Pass,
    ast.Try,
)
_HEADLINE_WEIGHT = 5  # 中身の代わりの `...` も 1 と数える


def plain(node: ast.AST) -> str:
    """そのままの形。"""
    return ast.unparse(ast.fix_missing_locations(node))


def renamed(node: ast.AST) -> str:
    """名前を替えた形。"""
    return plain(_Renamer().visit(copy.deepcopy(node)))


def weight(node: ast.AST) -> int:
    """情報の量。演算・呼び出し・属性・添字・定数の数。"""
    return sum(isinstance(child, _WEIGHTED) for child in ast.walk(node))


def simple_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """入れ子の中まで、すべての文を返す。for や def は中身を `...` にした見出しだけの形で返す。"""
    for statement in body:
        yield headline(statement)
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from simple_statements([child])
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                yield from simple_statements(child.body)


def headline(statement: ast.stmt) -> ast.stmt:
    """中身を持つ文なら、中身を `...` に替えた写しを返す。"""
    if not hasattr(statement, "body"):
        return statement
    short = copy.deepcopy(statement)
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        block = getattr(short, name, None)
        if isinstance(block, list) and block:
            setattr(short, name, [ast.Expr(ast.Constant(...))] if isinstance(block[0], ast.stmt) else block)
    _drop_else(short)
    return short


def is_trivial(statement: ast.stmt) -> bool:
    """だれが書いても同じになり、漏れとは呼べない文か。

    - pass・break・continue・import・global、関数やクラスの見出し、try
    - 説明文、`...`、名前や定数だけを返す・代入する・足す・投げる文
    - 名前のメソッドを引数なしで呼ぶだけの文（`optimizer.step()` など）
    - 短い見出し（`for i in range(5):`、`with torch.no_grad():` など）
    """
    if isinstance(statement, _EMPTY):
        return True
    if hasattr(statement, "body"):
        return weight(statement) < _HEADLINE_WEIGHT
    if isinstance(statement, ast.Raise):
        return statement.exc is None or _is_atom(statement.exc)
    if isinstance(statement, ast.Expr) and _is_bare_call(statement.value):
        return True
    value = getattr(statement, "value", statement)
    return value is None or (isinstance(value, ast.expr) and _is_atom(value))


def _is_bare_call(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or node.args or node.keywords:
        return False
    return isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)


def _is_atom(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List):
        return all(_is_atom(element) for element in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _is_atom(node.operand)
    return isinstance(node, ast.Name | ast.Constant)


def _drop_else(statement: ast.stmt) -> None:
    for name in ("orelse", "finalbody"):
        if hasattr(statement, name):
            setattr(statement, name, [])


class _Renamer(ast.NodeTransformer):
    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def _new(self, name: str) -> str:
        return name if name in _BUILTINS else self._names.setdefault(name, f"v{len(self._names)}")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._new(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self._new(node.arg), None)
