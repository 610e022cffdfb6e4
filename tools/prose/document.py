"""検査にかける文章と、その元の位置。

取り出した行は、元のファイルの行と列を覚えている。指摘は必ず元の位置で伝える。
作るのは `sources.py`、読むのは `textlint.py` と `markdown_checks.py`。
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠々ー]")
_DISPLAY_MATH = re.compile(r"\$\$.*?\$\$", re.DOTALL)
_INLINE_MATH = re.compile(r"(?<![\\$])\$(?!\$)([^$`\n]+)\$(?!\$)")


class Kind(StrEnum):
    """文章の種類。どの規則を当てるかを決める。"""

    PROSE = "本文"  # すべての規則
    QUESTION = "設問と選択肢"  # 試験に合わせた「である」と、句点のない選択肢を許す
    LIGHT = "短い文"  # docstring・コメント・文字列: 用語と全角半角だけ


@dataclass(frozen=True)
class Line:
    """取り出した 1 行。

    Attributes:
        text: 検査する文字。
        number: 元のファイルの行（1 から）。
        column: text の先頭が、元の行の何文字目か（0 から）。
        kind: 文章の種類。
    """

    text: str
    number: int
    column: int
    kind: Kind


@dataclass
class Document:
    """1 つのファイルから取り出した、同じ形式の行の列。"""

    source: Path
    markdown: bool
    lines: list[Line] = field(default_factory=list)

    def gap(self) -> None:
        """段落を分ける空行を入れる。"""
        if self.lines:
            last = self.lines[-1]
            self.lines.append(Line("", last.number, last.column, last.kind))

    def text(self) -> str:
        """検査にかける文字列。位置を変えずに、別行立ての数式を空白に、文中の数式を `コード` の形にする。"""
        whole = "\n".join(line.text for line in self.lines) + "\n"
        if not self.markdown:
            return whole
        blanked = _DISPLAY_MATH.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), whole)
        return _INLINE_MATH.sub(r"`\1`", blanked)

    def origin(self, row: int) -> Line:
        """取り出した文字列の row 行目（1 から）の、元の位置。"""
        return self.lines[min(row, len(self.lines)) - 1]


@dataclass(frozen=True, order=True)
class Finding:
    """元の位置に戻した指摘。"""

    path: str
    line: int
    column: int
    message: str
    rule: str

    def __str__(self) -> str:
        """`ファイル:行:列: 指摘 [規則]`。"""
        return f"{self.path}:{self.line}:{self.column}: {self.message} [{self.rule}]"


def locate(document: Document, row: int, column: int, message: str, rule: str) -> Finding:
    """取り出した文字列の（行, 列）の指摘を、元のファイルの指摘にする。"""
    line = document.origin(row)
    return Finding(document.source.as_posix(), line.number, line.column + column, message, rule)
