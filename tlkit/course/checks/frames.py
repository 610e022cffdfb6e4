"""例外の追跡情報から、学習者自身のコードの行を見つける。

学習者のコードとは、標準ライブラリにも、入れたパッケージにも、tlkit にも属さないコードである
（ノートブックのセル、学習者の .py、検査に置いた答え）。
"""

import functools
import linecache
import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

TLKIT = Path(__file__).resolve().parents[2]
COURSE = TLKIT / "course"
MAX_MESSAGE = 300


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(os.path.realpath(folder) + os.sep for folder in folders)


@functools.cache
def is_science(filename: str) -> bool:
    """tlkit の科学の側（course 以外）のファイルか。"""
    path = os.path.realpath(filename)
    return path.startswith(str(TLKIT) + os.sep) and not path.startswith(str(COURSE) + os.sep)


@functools.cache
def is_course(filename: str) -> bool:
    """教材の仕掛け（tlkit/course）のファイルか。"""
    return os.path.realpath(filename).startswith(str(COURSE) + os.sep)


@functools.cache
def is_own(filename: str) -> bool:
    """学習者自身のコードのファイル名か。`<ipython-input-3>` のような名前も含む。"""
    if filename.startswith("<frozen"):
        return False
    if filename.startswith("<"):
        return True
    path = os.path.realpath(filename)
    return not (path.startswith(_libraries()) or is_science(filename) or is_course(filename))


def links(error: BaseException) -> Iterator[TracebackType]:
    """追跡情報を外側から順にたどる。"""
    link = error.__traceback__
    while link is not None:
        yield link
        link = link.tb_next


def own_links(error: BaseException) -> list[TracebackType]:
    """学習者自身のコードの部分だけ。"""
    return [link for link in links(error) if is_own(link.tb_frame.f_code.co_filename)]


def callers(frame: FrameType) -> Iterator[FrameType]:
    """呼び出し元を内側から順にたどる。"""
    caller = frame.f_back
    while caller is not None:
        yield caller
        caller = caller.f_back


def describe(error: BaseException) -> dict[str, Any]:
    """例外を素の値にする。型、文、学習者のコードの行番号とその行、関数の名前。"""
    record: dict[str, Any] = {"type": type(error).__name__[:60], "message": _message(error)}
    own = own_links(error)
    if not own and isinstance(error, SyntaxError):
        return record | {"line": error.lineno, "source": (error.text or "").strip()[:MAX_MESSAGE], "function": ""}
    if not own:
        return record | {"line": None, "source": "", "function": ""}
    code = own[-1].tb_frame.f_code
    source = linecache.getline(code.co_filename, own[-1].tb_lineno, own[-1].tb_frame.f_globals).strip()
    return record | {"line": own[-1].tb_lineno, "source": source[:MAX_MESSAGE], "function": code.co_name[:60]}


def _message(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
    except Exception:  # __str__ 自身が壊れた例外
        return ""
    head = f"{type(error).__name__}: "
    text = text.splitlines()[-1] if isinstance(error, SyntaxError) else text
    return text[text.find(head) + len(head) :][:MAX_MESSAGE] if head in text else ""
