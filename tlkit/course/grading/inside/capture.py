"""学習者の印字を、決まった量だけ残す。あふれた分は捨てる。"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

_SHOWN = 1000  # 一つのセルで外へ知らせる文字数


class _Kept(io.RawIOBase):
    """先頭だけを残す書き込み先。"""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self.kept = bytearray()
        self.written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.kept += view[: max(0, self._room - len(self.kept))]
        self.written += len(view)
        return len(view)


class Capture:
    """一つの提出の印字。全体で残す量に上限がある。"""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._written = 0
        self.text = ""
        self.cut = False

    @contextmanager
    def cell(self) -> Iterator[None]:
        """この間の印字を text に残す。全体の上限を超えたら cut が True になる。"""
        kept = _Kept(4 * _SHOWN)
        stream = io.TextIOWrapper(kept, "utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]
        try:
            with redirect_stdout(stream), redirect_stderr(stream):
                yield
        finally:
            self._written += kept.written
            self.cut = self._written > self._limit
            self.text = kept.kept.decode("utf-8", "replace")[:_SHOWN]
