"""採点の間だけ使う一時フォルダ。強制終了した採点が残したものは、次に作るときに片づける。使うのは `tasks.py` である。"""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_PREFIX = "tlkit-grade-"
_OLD_SECONDS = 3600.0  # 番号だけでは、別のコンテナで動いている採点と区別できない。新しいものには触れない


def make() -> Path:
    """一時フォルダを作る。プロセスが終わると消える。"""
    for folder in list(_abandoned(Path(tempfile.gettempdir()))):
        shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _abandoned(place: Path) -> Iterator[Path]:
    """作ったプロセスがもういない、自分の古いフォルダ。"""
    for folder in place.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            seen = folder.lstat()
            mine = not hasattr(os, "getuid") or seen.st_uid == os.getuid()
            old = time.time() - seen.st_mtime > _OLD_SECONDS
            ended = owner.isdecimal() and not psutil.pid_exists(int(owner))
            if mine and old and ended and folder.is_dir() and not folder.is_symlink():
                yield folder
