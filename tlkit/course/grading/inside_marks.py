"""檻に見せる写しを翻訳する。科学の側の関数には、入ったことを知らせる一行を初めに足す。

足すのは翻訳したもの（.pyc）だけで、.py の文も行番号も変わらない。知らせを受けるのは `checks/entrance.py` である。
Python の版が違って .pyc が使われないときは、印のない .py が読まれ、`checks/borrowed.py` は profiler で見張る。
"""

import ast
import importlib.util
import marshal

from tlkit.course import syntax
from tlkit.course.errors import CourseError

_ENTRANCE = "course/checks/entrance.py"
_COURSE = "course/"
_NAME = "__entered__"
_IMPORT = f"from tlkit.course.checks.entrance import entered as {_NAME}"
_UNMARKED, _MARKED = "MARKED = False", "MARKED = True"
_UNCHECKED_HASH = 1  # PEP 552。写しは書き換わらないので、.py と比べ直さない


def compiled(source: bytes, name: str, filename: str) -> bytes:
    """翻訳したファイル（.pyc）の中身。

    Args:
        source: もとの .py の中身。
        name: tlkit のフォルダからの相対の名前。
        filename: 追跡情報に出る名前。

    Raises:
        CourseError: `entrance.py` に、替えるべき行がないとき。
    """
    text = source.decode("utf-8")
    if name == _ENTRANCE:
        text = _declared(text)
    tree = syntax.parse(text, filename)
    if not name.startswith(_COURSE):
        tree = marked(tree)
    code = syntax.translate(tree, filename)
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little") + importlib.util.source_hash(source)
    return head + marshal.dumps(code)


def marked(tree: ast.Module) -> ast.Module:
    """どの関数の初めにも、知らせる一行を足したもの。行番号は変えない。"""
    changed: ast.Module = _Marker().visit(tree)
    if any(isinstance(node, ast.Name) and node.id == _NAME for node in ast.walk(changed)):
        place = _after_opening(changed)
        changed.body[place:place] = syntax.parse(_IMPORT).body
    return ast.fix_missing_locations(changed)


class _Marker(ast.NodeTransformer):
    """関数とラムダ式に印を付ける。クラスの中のものも、関数の中のものも、含む。"""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.generic_visit(node)
        pair = ast.Tuple([_call(node.body), node.body], ast.Load())
        node.body = ast.copy_location(ast.Subscript(pair, ast.Constant(1), ast.Load()), node.body)
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        first = ast.copy_location(ast.Expr(_call(node)), node)
        node.body.insert(1 if ast.get_docstring(node, clean=False) is not None else 0, first)
        return node


def _call(near: ast.AST) -> ast.Call:
    return ast.copy_location(ast.Call(ast.Name(_NAME, ast.Load()), [], []), near)


def _after_opening(tree: ast.Module) -> int:
    """説明の文と `from __future__ import` の後。"""
    place = 1 if ast.get_docstring(tree, clean=False) is not None else 0
    while place < len(tree.body) and _is_future(tree.body[place]):
        place += 1
    return place


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _declared(text: str) -> str:
    if text.count(_UNMARKED) != 1:
        raise CourseError(f"tlkit/{_ENTRANCE} に、`{_UNMARKED}` がちょうど一つありません。tlkit を入れ直してください。")
    return text.replace(_UNMARKED, _MARKED)
