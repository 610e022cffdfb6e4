"""「まだ手を付けていない答え」を見分ける。

未着手とは、値が `...` か None のまま、関数が自分で NotImplementedError を投げる、`...` を返す、本体が何もしない、
または本体に残った `...` を計算に使って失敗した、のどれかである。`return` を忘れた関数は未着手ではない。
"""

import dis
import functools
import inspect
import re
import sys
from types import CodeType
from typing import Any

from tlkit.course.checks.frames import is_own, links, own_links

_IDLE = {"RESUME", "NOP", "POP_TOP", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS", "MAKE_CELL", "CACHE"}
_IDLE |= {"STORE_FAST", "STORE_FAST_STORE_FAST", "UNPACK_SEQUENCE", "EXTENDED_ARG"}
_ELLIPSIS = re.compile(r"\bellipsis\b", re.IGNORECASE)


def is_placeholder(value: Any) -> bool:
    """値が、ひな形のままの `...` か None か。"""
    return value is Ellipsis or value is None


def is_empty_class(value: Any) -> bool:
    """中身のあるメソッドを一つも持たない、学習者のクラスか。"""
    if not inspect.isclass(value) or not _is_own_module(value.__module__):
        return False
    items = [item for name, item in vars(value).items() if not name.startswith("__") or callable(item)]
    return all(is_placeholder(item) or ((code := code_of(item)) is not None and does_nothing(code)) for item in items)


def does_nothing(code: CodeType) -> bool:
    """本体が `pass`、`...`、説明文、`name = ...` だけか。"""
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return all(_is_idle(step, arguments) for step in dis.get_instructions(code))


def is_stub_error(error: BaseException) -> bool:
    """未着手のために起きた例外か。"""
    if isinstance(error, NotImplementedError):
        return _raised_by_learner(error)
    kinds = (TypeError, AttributeError, RuntimeError, ValueError)
    return isinstance(error, kinds) and bool(own_links(error)) and bool(_ELLIPSIS.search(str(error)))


def code_of(answer: Any) -> CodeType | None:
    """呼んだときに動くコード。partial、メソッド、staticmethod、nn.Module、呼べるオブジェクトもほどく。"""
    for _ in range(32):  # 自分自身を包むものがあっても終わるように
        if isinstance(answer, functools.partial):
            answer = answer.func
        elif hasattr(answer, "__func__"):
            answer = answer.__func__
        elif isinstance(answer, property):
            answer = answer.fget
        else:
            break
    if isinstance(answer, type):
        return None
    code = getattr(answer, "__code__", None)
    if code is None and not inspect.isroutine(answer):
        kind = type(answer)
        method = getattr(kind, "forward", None) or vars(kind).get("__call__")
        code = getattr(method, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _is_idle(step: dis.Instruction, arguments: tuple[str, ...]) -> bool:
    if step.opname in ("LOAD_CONST", "RETURN_CONST"):
        return _is_blank(step.argval)
    if step.opname.startswith("LOAD_FAST"):  # 引数をそのまま返すのは、立派な中身である
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        return not set(names) & set(arguments)
    return step.opname in _IDLE


def _is_own_module(name: str) -> bool:
    """学習者のコードのモジュールか（ノートブックの __main__ や、学習者の .py）。"""
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return True
    filename = getattr(module, "__file__", None)
    return filename is not None and is_own(filename)


def _is_blank(constant: Any) -> bool:
    return is_placeholder(constant) or (isinstance(constant, tuple) and all(map(is_placeholder, constant)))


def _raised_by_learner(error: NotImplementedError) -> bool:
    """最後のフレームが学習者のコードで、その命令が raise 文か（torch の C++ から来たものと区別する）。"""
    chain = list(links(error))
    last = chain[-1] if chain else None
    if last is None or not is_own(last.tb_frame.f_code.co_filename):
        return False
    code = last.tb_frame.f_code.co_code
    return last.tb_lasti < len(code) and dis.opname[code[last.tb_lasti]] == "RAISE_VARARGS"
