"""「直し方」に書くコマンドを、今の環境に合わせて作る。

`pip` とだけ書くと別の Python の pip が動くことがある。だから、今動いている Python を絶対パスで書く。
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root


def quoted(*words: str) -> str:
    """語の並びを、その OS の端末にそのまま貼れる 1 行にする。"""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def python_command(*words: str) -> str:
    """今の Python で始まるコマンド。"""
    return quoted(sys.executable, *words)


def pip_install(*packages: str, force: bool = False) -> str:
    """版を requirements.lock に合わせて入れ直すコマンド。"""
    lock = lock_file()
    constraint = ["-c", str(lock)] if lock else []
    forced = ["--force-reinstall", "--no-deps"] if force else []
    return python_command("-m", "pip", "install", *forced, *constraint, *packages)


def pip_uninstall(*packages: str) -> str:
    """取り除くコマンド。"""
    return python_command("-m", "pip", "uninstall", "-y", *packages)


def lock_file() -> Path | None:
    """教材の requirements.lock。教材のフォルダが見つからなければ None。"""
    try:
        lock = course_root() / "requirements.lock"
    except CourseError:
        return None
    return lock if lock.is_file() else None
