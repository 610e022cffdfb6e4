"""隠した入力の種: 教員だけが持つ秘密から、学生と問題ごとに決まる。

同じ秘密・学生・問題なら、いつ、どの機械で、どの順に採点しても同じ種になる。秘密を知らなければ、種は当てられない。
"""

import contextlib
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tlkit.course.errors import CourseError

SECRET_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def seed_for(secret: bytes, student: str, question: str) -> int:
    """学生と問題ごとの種（0 以上 2**32 未満）。"""
    digest = hashlib.sha256(b"tlkit seed\0")
    for part in (secret, student.encode("utf-8", "surrogatepass"), question.encode("utf-8")):
        digest.update(len(part).to_bytes(8, "big") + part)  # 長さを添え、区切りの違う組が同じ種にならないようにする
    words = np.frombuffer(digest.digest(), dtype=">u4").tolist()
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def seeds_for(secret: bytes, student: str, questions: Iterable[str]) -> dict[str, int]:
    """問題の id → 種。"""
    return {question: seed_for(secret, student, question) for question in questions}


def secret_id(secret: bytes) -> str:
    """秘密そのものを明かさずに、どの秘密で採点したかを表す名前。"""
    return hashlib.sha256(b"tlkit secret id\0" + secret).hexdigest()[:16]


def load_secret(path: Path) -> bytes:
    """秘密を読む。ファイルがなければ、持ち主だけが読める形で作る。

    Raises:
        CourseError: 読めないとき、ほかの人も読めるとき、中身が秘密の形でないとき。
    """
    with contextlib.suppress(FileExistsError):
        if not path.exists():
            _create(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(SECRET_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise CourseError(f"秘密のファイル {path} を読めません（{error.strerror}）。") from error
    if sys.platform != "win32" and mode & _OTHERS:
        raise CourseError(
            f"秘密のファイル {path} を、ほかの利用者も読めます。隠した入力が漏れるおそれがあります。\n"
            f"`chmod 600 {path}` を実行してください。すでに人目に触れたなら、消して作り直してください。"
        )
    if len(data) != SECRET_BYTES:
        raise CourseError(
            f"{path} は、採点の秘密ではありません（{SECRET_BYTES} バイトのファイルが必要です）。\n"
            "別の場所を指定してください。ファイルがなければ、新しく作ります。"
        )
    return data


def _create(path: Path) -> None:
    """書き終えてから名前を付ける。途中で止められても、半端な秘密は残らない。"""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # 同時に作られたなら、先にできたほうを使う
    except FileExistsError:
        raise
    except OSError as error:
        raise CourseError(
            f"秘密のファイル {path} を作れません（{error.strerror}）。別の場所を指定してください。"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
