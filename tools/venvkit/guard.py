"""二つの `make` が同じ `.venv` を同時に書き換えないための、順番待ち。"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from venvkit.messages import BootstrapError, say


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """自分の番になるまで待つ。プロセスが死ねば OS が鍵を外すので、古い鍵は残らない。"""
    path = root / ".cache" / "bootstrap.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise BootstrapError(
            f"教材のフォルダに書き込めません: {error}\n書き込める場所に教材を置いてください。"
        ) from error
    with handle:
        if not _try_lock(handle, wait=False):
            say("別の make が仮想環境を用意しています。終わるのを待ちます（Ctrl-C でやめられます）。")
            _try_lock(handle, wait=True)
        yield


def _try_lock(handle: IO[str], *, wait: bool) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
