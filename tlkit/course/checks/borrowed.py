"""答えの中で tlkit 自身の関数が呼ばれたかを見張る。

「自分で実装する」演習で tlkit の関数を渡したり呼んだりすると、別名や partial や lambda で包んでも、
動くコードのファイルは tlkit の中にある。だから名前ではなく、呼ばれたコードの置き場所を見る。
ノートブックでは profiler で、採点では、檻の写しに付けた印（`entrance.py`）で気づく。名前の決め方は同じである。
"""

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from tlkit.course.checks import entrance, stub
from tlkit.course.checks.frames import TLKIT, callers, is_course, is_own, is_science
from tlkit.course.errors import CourseError

_MOST = 10


@contextmanager
def watch(borrow_ok: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """この間に呼ばれた tlkit の関数の名前（"tlkit.losses.mmd.mmd2" の形）を list に集める。"""
    allowed = tuple(_resolve(name) for name in borrow_ok)
    found: list[str] = []

    def note(frame: FrameType) -> None:
        name = _full_name(frame)
        if name not in found and len(found) < _MOST and not _is_allowed(name, allowed) and _is_entry(frame):
            found.append(name)

    with entrance.listening(note) if entrance.MARKED else _profiled(note):
        yield found


@contextmanager
def _profiled(note: entrance.Listener) -> Iterator[None]:
    """印のない tlkit を見張る。もとからあった profiler は、終わったときに元へ戻す。"""

    def profiler(frame: FrameType, event: str, _arg: Any) -> None:
        if event == "call" and is_science(frame.f_code.co_filename):
            note(frame)

    before, before_threads = sys.getprofile(), threading.getprofile()
    threading.setprofile(profiler)
    sys.setprofile(profiler)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(before_threads)


def handed_in(answer: Any, borrow_ok: tuple[str, ...] = ()) -> str | None:
    """答えが tlkit の関数やクラスそのもの（partial やメソッドを含む）なら、その名前。"""
    code = stub.code_of(answer)
    if isinstance(answer, type):
        name = f"{answer.__module__}.{answer.__qualname__}"
        lent = name.startswith("tlkit.") and not name.startswith("tlkit.course.")
    else:
        lent = code is not None and is_science(code.co_filename)
        name = f"{_module_of(code.co_filename)}.{code.co_qualname}" if code is not None and lent else ""
    return name if lent and not _is_allowed(name, tuple(map(_resolve, borrow_ok))) else None


def _module_of(filename: str) -> str:
    parts = Path(os.path.realpath(filename)).relative_to(TLKIT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _full_name(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', 'tlkit')}.{frame.f_code.co_qualname}"


def _is_entry(frame: FrameType) -> bool:
    """学習者か教材の側から tlkit に入った最初の呼び出しか。読み込みの最中に動くコードは数えない。"""
    for caller in callers(frame):
        filename = caller.f_code.co_filename
        if is_science(filename) or filename.startswith("<frozen importlib"):
            return False
        if is_own(filename) or is_course(filename):
            return True
    return True


def _is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)


def _resolve(name: str) -> str:
    """公開名（losses.mmd2 や data）を、コードが実際に置かれた名前に直す。"""
    head, _, tail = f"tlkit.{name.removeprefix('tlkit.')}".rpartition(".")
    try:
        target = getattr(importlib.import_module(head), tail, None) or importlib.import_module(f"{head}.{tail}")
    except ImportError as error:
        raise CourseError(f"borrow_ok の {name} が tlkit に見つかりません。名前を確かめてください。") from error
    return target.__name__ if isinstance(target, ModuleType) else f"{target.__module__}.{target.__qualname__}"
