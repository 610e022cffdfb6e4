"""安全な書き込み。途中で止まっても、元のファイルか新しいファイルのどちらかが必ず残る。

OS の誤り（空き容量・権限・読み取り専用）は、ここで日本語の CourseError に変えます。
"""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tlkit.course.errors import CourseError

RELOAD_HINT = (
    "JupyterLab で開いたままのときは、ファイルメニューの「ディスクから ノートブック を再読み込み」を選んでください。"
    "開いたまま保存すると、前の内容で上書きされます。"
)
_NOTHING_LOST = "元のファイルは、そのまま残っています。"
_REASONS = {
    errno.ENOSPC: "ディスクの空き容量が足りません。不要なファイルを消してから、もう一度実行してください。",
    errno.EDQUOT: "割り当てられたディスク容量を使い切りました。不要なファイルを消してから、もう一度実行してください。",
    errno.EROFS: "読み取り専用の場所です。書き込める場所に教材を置くか、環境変数 TLKIT_WORK で作業フォルダを変えてください。",
    errno.EACCES: "書き込む権限がありません。フォルダの権限を確かめ、ほかのアプリで開いていれば閉じてください。",
    errno.EPERM: "書き込む権限がありません。フォルダの権限を確かめてください。",
    errno.ENOTDIR: "フォルダのはずの場所にファイルがあります。名前を変えて、もう一度実行してください。",
    errno.EEXIST: "フォルダのはずの場所にファイルがあります。名前を変えて、もう一度実行してください。",
}


@contextmanager
def japanese_os_errors(path: Path) -> Iterator[None]:
    """中で起きた OSError を、直し方を添えた CourseError に変える。"""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}。")
        raise CourseError(f"{path} に書き込めませんでした: {reason}\n{_NOTHING_LOST}") from error


def atomic_write(path: Path, data: bytes) -> None:
    """同じフォルダの一時ファイルに書き、最後に名前を付け替える。"""
    with japanese_os_errors(path):
        replace_bytes(path, data)


def replace_bytes(path: Path, data: bytes) -> None:
    """`atomic_write` の中身。OSError をそのまま伝える。"""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tlkit-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _keep_mode(Path(temporary), path)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def notebook_bytes(document: dict[str, Any]) -> bytes:
    """JupyterLab と同じ書き方（字下げ 1、キーの順、行ごとの source）のバイト列にする。"""
    cells = [cell | {"source": cell["source"].splitlines(keepends=True)} for cell in document["cells"]]
    shaped = document | {"cells": cells}
    try:
        return (json.dumps(shaped, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # 出力に片割れのサロゲートがあるとき
        return (json.dumps(shaped, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _keep_mode(temporary: Path, path: Path) -> None:
    # mkstemp は 600 で作る。元のファイルの権限か、ふつうの新規ファイルの権限に合わせる。
    if path.exists():
        temporary.chmod(path.stat().st_mode & 0o777)
    elif os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
