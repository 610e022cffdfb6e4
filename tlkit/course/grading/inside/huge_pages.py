"""記憶を大きなページ（2 MB）にまとめる。fork は、ページの数だけの写しを作るので、まとめると速くなる。

温めた Python（`zygote.py`）が、写しを作り始める前に一度だけ呼ぶ。できない機械では何も起きない（遅いだけで、結果は同じ）。
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SIZE = 2 * 1024 * 1024
_MADV_COLLAPSE = 25  # Linux 6.1 以降


def collapse() -> None:
    """ファイルに写っていない記憶を、大きなページにまとめる。"""
    with suppress(OSError, AttributeError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, end in list(_anonymous()):
            madvise(start, end - start, _MADV_COLLAPSE)


def _anonymous() -> Iterator[tuple[int, int]]:
    """書ける無名の区画の、大きなページの境にそろえた始まりと終わり。"""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        place, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights == "rw-p" and name in ([], ["[heap]"]):
            low, high = (int(part, 16) for part in place.split("-"))
            start, end = -(-low // _SIZE) * _SIZE, high // _SIZE * _SIZE
            if start < end:
                yield start, end
