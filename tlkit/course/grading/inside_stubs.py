"""檻の中に置く、中身のないモジュールの文面を作る。

判定のモジュールは、名前だけが残る。正解のあるモジュールは、どの名前を使っても「採点の間は使えません」と言う。
どのモジュールをこれに替えるかは `inside_tree.py` が決める。
"""

import ast
from collections.abc import Iterable, Iterator

_JUDGE = '"""判定は檻の外で行う。ここには名前だけがある。"""\n'
_REFERENCE = '''"""演習で自分で書く内容なので、採点の間は中身を除いてある。"""

from typing import Any, NoReturn


def _message(name: str) -> str:
    return f"{__name__} の {name} は、採点の間は使えません。この演習では、その中身を自分で書いてください。"


def _refuse(name: str) -> NoReturn:
    raise RuntimeError(_message(name))


class _Unusable(type):
    def __getattr__(cls, name: str) -> NoReturn:
        raise AttributeError(_message(f"{cls.__name__}.{name}"))
'''
_FUNCTION = """

def {name}(*_arguments: Any, **_options: Any) -> NoReturn:
    _refuse("{name}")
"""
_CLASS = """

class {name}(metaclass=_Unusable):
    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        _refuse("{name}")
"""


def judge_stub(tree: ast.Module, names: Iterable[str]) -> str:
    """判定のモジュールの代わり。

    Args:
        tree: もとのモジュール。
        names: 檻の中に残るモジュールが取り出す名前。入力を作るのに使う定数（数や文字列）だけは値を残し、ほかは None。
    """
    constants = dict(_constants(tree))
    return _JUDGE + "".join(f"{name} = {constants.get(name)!r}\n" for name in sorted(set(names)))


def reference_stub(tree: ast.Module) -> str:
    """正解のあるモジュールの代わり。もとのモジュールが最上位で作る名前を、すべて持つ。

    定数や型の別名はクラスに替える。ほかのモジュールが、型の注釈（`Freeze | None` など）に使えるように。
    """
    kinds: dict[str, str] = {}
    for node in tree.body:
        template = _FUNCTION if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else _CLASS
        kinds.update({name: template for name in _bound(node) if not name.startswith("__")})
    return _REFERENCE + "".join(template.format(name=name) for name, template in kinds.items())


def _bound(node: ast.stmt) -> Iterator[str]:
    """文が作る名前（import は除く）。"""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))


def _constants(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            yield from ((name, value) for name in _bound(node))
