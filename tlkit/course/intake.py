"""手元のノートブックを読む入口。壊れたファイルや別物を、ここで日本語の理由とともに断る。

nbformat は `[]` や深い入れ子で内部の例外を出すので、その前に自分で形を確かめます。
返すのは素の dict です。形の検査は `intake_shape.py`、使う側は `work/` と `checks/notebook.py` と採点です。
"""

import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkit.course.errors import CourseError
from tlkit.course.intake_shape import ShapeError, other_language, tidy

MAX_BYTES = 50 * 1024 * 1024
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_OTHER_FILES = {
    b"PK\x03\x04": "zip（Word・Excel などもこの形です）",
    b"%PDF": "PDF",
    b"\x1f\x8b": "gzip",
    b"\x89PNG": "PNG 画像",
}
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff", b"{\x00", b"\x00{")
_UTF8_BOM = b"\xef\xbb\xbf"
_SAVE_AS_UTF8 = "JupyterLab で開いて保存し直すか、文字コードを UTF-8（BOM なし）にして保存してください。"
_HARD_LINK = "ほかの名前と中身を共有するファイル（ハードリンク）です。コピーに置き換えてください。"
_OPEN_ERRORS = {
    errno.ENOENT: ("missing", "ファイルがありません。名前とフォルダを確かめてください。"),
    errno.ENOTDIR: ("missing", "途中のフォルダがありません。名前とフォルダを確かめてください。"),
    errno.ELOOP: (
        "symlink",
        "シンボリックリンクのため開けません（輪になっているか、リンクが許されない場所です）。本物のファイルを指定してください。",
    ),
    errno.EACCES: ("permission", "読む権限がありません。ファイルの権限を確かめてください。"),
    errno.EPERM: ("permission", "読む権限がありません。ファイルの権限を確かめてください。"),
    errno.ENAMETOOLONG: ("missing", "名前が長すぎて開けません。"),
}


class IntakeError(CourseError):
    """ノートブックとして読めない。`code` は理由の名前、`reason` はファイル名を含まない理由の文。"""

    def __init__(self, code: str, name: str, reason: str) -> None:
        super().__init__(f"{name} を読めません: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Intake:
    """読めたノートブック。

    Attributes:
        path: 読んだファイル。
        data: ファイルの中身そのもの。
        document: 形を確かめた素の dict。各セルの `source` は 1 つの文字列、`id` は必ずある。
    """

    path: Path
    data: bytes
    document: dict[str, Any]

    @property
    def sha256(self) -> str:
        """ファイルの中身の SHA-256（16 進）。"""
        return hashlib.sha256(self.data).hexdigest()


def read_notebook(path: Path, *, max_bytes: int = MAX_BYTES, follow_symlinks: bool = True) -> Intake:
    """ファイルを読み、形を確かめたノートブックを返す。

    Args:
        path: 読むファイル。
        max_bytes: これより大きいファイルは、読み込む前に断る [バイト]。
        follow_symlinks: False なら、シンボリックリンクとハードリンクも断る（提出物を読むとき）。

    Raises:
        IntakeError: ノートブックとして読めないとき。理由と直し方を日本語で言う。
    """
    data = read_bytes(path, max_bytes, follow_symlinks)
    return Intake(path, data, parse_notebook(data, str(path)))


def parse_notebook(data: bytes, name: str) -> dict[str, Any]:
    """バイト列を、形を確かめたノートブックの dict にする。`name` は誤りの表示に使う。"""
    text = _decode(data, name)
    try:
        return tidy(_loads(text, name))
    except RecursionError:
        raise IntakeError("nesting", name, "入れ子が深すぎます。ノートブックの形ではありません。") from None
    except ShapeError as error:
        raise IntakeError(error.code, name, str(error)) from None


def require_python(document: dict[str, Any], name: str) -> None:
    """Python のノートブックでなければ IntakeError を送出する。"""
    language = other_language(document)
    if language:
        raise IntakeError("language", name, f"{language} のノートブックです。この教材は Python だけを確認できます。")


def read_bytes(path: Path, max_bytes: int, follow_symlinks: bool) -> bytes:
    """ふつうのファイルの中身を、大きさを確かめてから読む。引数と例外は `read_notebook` と同じ。"""
    try:
        if path.is_dir():
            raise IntakeError("directory", str(path), "フォルダです。.ipynb ファイルを指定してください。")
        flags = _OPEN_FLAGS | (0 if follow_symlinks else getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(os.open(path, flags), "rb") as stream:
            _require_regular(os.fstat(stream.fileno()), path, max_bytes)
            if not follow_symlinks and os.fstat(stream.fileno()).st_nlink > 1:
                raise IntakeError("hardlink", str(path), _HARD_LINK)
            data = stream.read(max_bytes + 1)
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # ValueError は名前の中の NUL、RuntimeError は古い pathlib の輪
        code, reason = _OPEN_ERRORS.get(
            getattr(error, "errno", None) or 0, ("unreadable", f"開けませんでした（{error}）。")
        )
        raise IntakeError(code, str(path), reason) from None
    return data


def _require_regular(info: os.stat_result, path: Path, max_bytes: int) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise IntakeError("special", str(path), "ふつうのファイルではありません。.ipynb ファイルを指定してください。")
    if info.st_size > max_bytes:
        size, limit = info.st_size / 1024**2, max_bytes / 1024**2
        reason = (
            f"大きすぎます（{size:.0f} MB、上限は {limit:.0f} MB）。"
            "JupyterLab で「すべての出力をクリア」してから保存し直してください。"
        )
        raise IntakeError("too-large", str(path), reason)


def _decode(data: bytes, name: str) -> str:
    if not data.strip():
        raise IntakeError(
            "empty", name, f"空のファイルです（{len(data)} バイト）。保存が途中で切れた可能性があります。"
        )
    for magic, kind in _OTHER_FILES.items():
        if data.startswith(magic):
            reason = f"ノートブックではなく {kind} です。名前だけが .ipynb になっていないか確かめてください。"
            raise IntakeError("binary", name, reason)
    if data.startswith(_UTF16_MARKS):
        raise IntakeError("encoding", name, f"文字コードが UTF-16 です。{_SAVE_AS_UTF8}")
    if data.startswith(_UTF8_BOM):
        raise IntakeError("encoding", name, f"先頭に BOM（目に見えない 3 バイトの印）があります。{_SAVE_AS_UTF8}")
    if b"\x00" in data:
        raise IntakeError("binary", name, "文字のファイルではありません（バイナリです）。")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong_encoding(data, name, error) from None


def _wrong_encoding(data: bytes, name: str, error: UnicodeDecodeError) -> IntakeError:
    if error.reason == "unexpected end of data":  # UTF-8 の文字の途中で終わっている
        reason = (
            f"ファイルが途中で切れています（{len(data)} バイト目で終わり）。元のファイルを、もう一度提出してください。"
        )
        return IntakeError("encoding", name, reason)
    position = error.start
    if data.lstrip()[:1] in (b"{", b"["):
        for codec, label in (("cp932", "Shift_JIS"), ("euc_jp", "EUC-JP")):
            try:
                data.decode(codec)
            except UnicodeDecodeError:
                continue
            return IntakeError("encoding", name, f"文字コードが UTF-8 でなく {label} のようです。{_SAVE_AS_UTF8}")
        return IntakeError("encoding", name, f"{position} バイト目が UTF-8 として読めません。{_SAVE_AS_UTF8}")
    return IntakeError(
        "binary", name, f"文字のファイルではありません（{position} バイト目が UTF-8 として読めません）。"
    )


def _loads(text: str, name: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_repeats)
    except json.JSONDecodeError as error:
        raise IntakeError("json", name, _json_reason(text, error)) from None
    except ShapeError:
        raise
    except ValueError:  # けた数の多すぎる整数
        raise IntakeError("json", name, "けた数の多すぎる整数があります。ノートブックの形ではありません。") from None


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """同じキーが二度ある JSON は、読む道具によって中身が変わるので断る。"""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            reason = f"同じキー {key!a:.40} が二度あります。JupyterLab で開いて保存し直してください。"
            raise ShapeError("duplicate-key", reason)
        found[key] = value
    return found


def _json_reason(text: str, error: json.JSONDecodeError) -> str:
    where = f"{error.lineno} 行 {error.colno} 列"
    if text.startswith("<<<<<<<") or "\n<<<<<<<" in text:
        return f"git の衝突の印（<<<<<<<）が残っています（{where}）。衝突を解決してから使ってください。"
    if not text.lstrip().startswith(("{", "[")):
        return f"ノートブック（JSON）ではありません（{where}）。.ipynb ファイルを指定してください。"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"途中で切れています（{where}で終わり）。控えがあれば戻し、なければ教材から写し直してください。"
    return f"JSON として壊れています（{where}）。控えがあれば戻してください。"
