"""Python の文を構文木にし、構文木を翻訳する。採点のようにスレッドを使う所は、必ずここを通す。

Python 3.11 の `ast` は、深さの数をスレッドの間で共有する。二つのスレッドが同時に使うと、正しい文でも
SystemError（AST constructor recursion depth mismatch）になることがある。だから、一度に一つだけ動かす。
"""

import ast
import threading
from types import CodeType

_ONE_AT_A_TIME = threading.Lock()


def parse(source: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """構文木。

    Args:
        source: Python の文。
        filename: 誤りの知らせに出る名前。

    Raises:
        SyntaxError: 構文が壊れているとき。
    """
    with _ONE_AT_A_TIME:
        return ast.parse(source, filename)


def translate(tree: ast.Module, filename: str) -> CodeType:
    """構文木を翻訳したもの。呼んだファイルの `from __future__` は引き継がない。

    Args:
        tree: 構文木。
        filename: 追跡情報に出る名前。
    """
    with _ONE_AT_A_TIME:
        return compile(tree, filename, "exec", dont_inherit=True)
