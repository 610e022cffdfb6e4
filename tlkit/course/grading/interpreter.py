"""檻に見せる Python: 実行ファイルと、それが要るフォルダ（仮想環境と、その土台の Python）。"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.errors import CourseError

_MOST_LINKS = 40


@dataclass(frozen=True)
class Python:
    """檻の中で使う Python。

    Attributes:
        executable: 実行ファイル。
        folders: 読むだけで見せるフォルダ（仮想環境と、その土台の Python）。
    """

    executable: str
    folders: tuple[str, ...]


def this_python() -> Python:
    """いま動いている Python と、その仮想環境。"""
    # 「..」を含む名前で始めた Python では、ここの名前にも「..」が残る
    folders = [os.path.normpath(path) for path in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)]
    return Python(os.path.normpath(sys.executable), _outermost([*folders, *map(os.path.realpath, folders)]))


def python_mounts(python: Python) -> Iterable[tuple[str, str]]:
    """Python の置き場所の（もと, 檻の中）。"""
    for folder in python.folders:
        _check_folder(folder)
        yield folder, folder
    for link in _links(python.executable):
        if not _inside(link, ("/usr", *python.folders)):
            yield link, link


def _check_folder(folder: str) -> None:
    if folder in ("/", "/home", str(Path.home())):
        raise CourseError(
            f"Python が {folder} に直に入っているため、ほかのファイルを見せずに動かすことができません。"
            "専用のフォルダに仮想環境を作って（`make lab` が作る .venv など）、そこから採点してください。"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CourseError(
            f"Python のフォルダ {folder} を、いまの利用者では読めません。"
            "この利用者が読める場所に Python と仮想環境を置いて、採点をやり直してください。"
        )


def _links(executable: str) -> Iterable[str]:
    """実行ファイルから、リンクをたどった途中の名前。"""
    path = Path(executable)
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield str(path)


def _outermost(folders: Iterable[str]) -> tuple[str, ...]:
    """ほかのフォルダの中にあるものと、/usr の下のものを除く。"""
    kept: list[str] = []
    for folder in sorted(set(folders), key=len):
        if not _inside(folder, ("/usr", *kept)):
            kept.append(folder)
    return tuple(kept)


def _inside(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
