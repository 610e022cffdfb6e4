"""ノートブックの、ただ 1 つの書き方。鍵の順・字下げ・改行を固定し、途中で止まっても半端なファイルを残さない。

隣: 中身を作るのは `assemble.py` と `execute.py`。
"""

import errno
import os
import threading
from pathlib import Path
from typing import Any

from tlkit.course.build.notebook import to_text
from tlkit.course.errors import CourseError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_notebook(path: Path, notebook: Any) -> None:
    """ノートブックを、古いものと新しいもののどちらかしか見えないように書く。"""
    write_atomic(path, to_text(notebook))


def write_atomic(path: Path, text: str) -> None:
    """同じフォルダの一時ファイルに書いてから、名前を付け替える。

    Raises:
        CourseError: 書けないとき（ディスクの空きがない、権限がない）。元のファイルは残る。
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_replace(temporary, path, text)
    except OSError as error:
        raise explain(path, error) from error


def _write_and_replace(temporary: Path, path: Path, text: str) -> None:
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def explain(path: Path, error: OSError) -> CourseError:
    """書き込みの失敗を、次にすることの分かる日本語にする。"""
    if error.errno in _FULL:
        return CourseError(
            f"ディスクの空きが足りず、{path} に書けませんでした。元のノートブックはそのまま残っています。\n"
            "空きを作ってから、もう一度実行してください。"
        )
    return CourseError(
        f"{path} に書けませんでした（{error.strerror}）。元のノートブックはそのまま残っています。\n"
        "フォルダの権限と、ファイルが別のプログラムで開かれていないかを確かめてください。"
    )
