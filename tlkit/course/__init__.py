"""教材の仕掛け。ノートブックが使うのは `check`、`ready`、`hint`、`quiz`、`doctor` だけである。

読み込みは使うときまで遅らせる（`tlkit` コマンドや build が、torch を待たずに始まるように）。
`quiz` と `doctor` は同じ名前のフォルダでもある。どちらの意味で取り出しても動くよう、モジュール自身を呼べるようにする。
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkit.course.checks.failure import CheckFailed
    from tlkit.course.checks.session import check, hint, ready
    from tlkit.course.doctor import doctor
    from tlkit.course.quiz.mark import quiz

__all__ = ["CheckFailed", "check", "doctor", "hint", "quiz", "ready"]

_SESSION = "tlkit.course.checks.session"
_HOMES = {"check": _SESSION, "ready": _SESSION, "hint": _SESSION, "CheckFailed": "tlkit.course.checks.failure"}
_CALLABLE = {"quiz": "tlkit.course.quiz.mark", "doctor": "tlkit.course.doctor"}


class _CallableModule(ModuleType):
    """呼ぶと、同じ名前の関数を呼ぶモジュール。"""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(_CALLABLE[name]), name)(*args, **kwargs)


class _Course(ModuleType):
    """`quiz` と `doctor` のフォルダが読み込まれたとき、それを呼べるモジュールに変える。"""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Course


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
