"""セルの名前（id）とタグを、元ファイルだけから決める。乱数を使わないので、何度作っても同じになる。

隣: 使うのは `assemble.py` と `nbgrader_export.py`。
"""

import hashlib
import re
from collections import Counter
from typing import Any

from tlkit.course.build.structure import Piece

CHECK_TAG = "nbval-check-output"
_FORBIDDEN_TAG = re.compile(r"nbval-.*|raises-exception", re.IGNORECASE)
_FORBIDDEN_TEXT = re.compile(r"NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT")


class CellIds:
    """1 冊分の id を順に配る。同じ中身のセルには -2、-3 をつける。"""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def give(self, base: str) -> str:
        """base そのもの、使用済みなら番号をつけた id を返す。"""
        self._used[base] += 1
        count = self._used[base]
        return base if count == 1 else f"{base}-{count}"


def base_id(piece: Piece, text: str) -> str:
    """役割と中身から id の元を決める。"""
    if piece.question is not None:
        return f"ex-{piece.question.id}-{piece.role}"
    return plain_id(piece.cell.kind, text)


def plain_id(kind: str, text: str) -> str:
    """ふつうのセルの id の元。種類と中身の sha256 の先頭 8 桁。"""
    return "c-" + hashlib.sha256((kind + text).encode()).hexdigest()[:8]


def cell_metadata(piece: Piece) -> dict[str, Any]:
    """セルのメタデータ。確認のセルだけに nbval の印をつける。

    Raises:
        CourseError: 作者が nbval の印や raises-exception を自分で書いたとき。
    """
    metadata = dict(piece.cell.metadata)
    tags = list(metadata.pop("tags", []))
    for tag in tags:
        if _FORBIDDEN_TAG.fullmatch(tag):
            raise piece.cell.error(f"タグ `{tag}` は書けません。検査の印は build が確認のセルだけにつけます。")
    if piece.cell.kind == "code" and (match := _FORBIDDEN_TEXT.search(piece.cell.text)):
        line = piece.cell.text[: match.start()].count("\n")
        raise piece.cell.error(f"`{match.group()}` は書けません。検査を飛ばすセルを置かないでください。", line)
    if piece.role == "check":
        tags.append(CHECK_TAG)
    return {**metadata, "tags": tags} if tags else metadata
