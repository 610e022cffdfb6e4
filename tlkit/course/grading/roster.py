"""名簿（CSV）を読む。見出しは 学籍番号 と 氏名。文字コードは UTF-8（BOM があってもよい）か cp932。

誤りは行番号とともに知らせる。提出との突き合わせは `gather.py`。
"""

import csv
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading.shown import shown
from tlkit.course.intake import read_bytes

MAX_BYTES = 5 * 1024 * 1024
MAX_LENGTH = 64
_ID, _NAME = "学籍番号", "氏名"
_EXAMPLE = f"1 行目に「{_ID},{_NAME}」と書き、2 行目から「s001,山田花子」のように一人 1 行で書いてください。"


@dataclass(frozen=True)
class Student:
    """名簿の一人。どちらも NFC。"""

    id: str
    name: str = ""


def read_roster(path: Path) -> tuple[Student, ...]:
    """名簿を、書かれた順に読む。

    Raises:
        CourseError: 読めないとき。見出し、空の学籍番号、重なりなどの誤りは、行番号を言う。
    """
    text = _decoded(read_bytes(path, MAX_BYTES, follow_symlinks=True), path)
    rows = _rows(text, path)
    columns = _columns(next(rows, (1, [])), path)
    students: list[Student] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        student = _student(row, columns, _at(path, line))
        key = folded(student.id)
        if key in seen:
            raise CourseError(f"{_at(path, line)}: 学籍番号 {shown(student.id)} が {seen[key]} 行目と重なっています。")
        seen[key] = line
        students.append(student)
    if not students:
        raise CourseError(f"名簿 {path} に学生が一人もいません。{_EXAMPLE}")
    return tuple(students)


def folded(text: str) -> str:
    """全角と半角、大文字と小文字を区別しない形。"""
    return unicodedata.normalize("NFKC", text).casefold()


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CourseError(f"名簿 {path} の文字コードが UTF-16 です。「CSV UTF-8」の形式で保存し直してください。")
    for codec in ("utf-8-sig", "cp932"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    raise CourseError(f"名簿 {path} の文字コードが分かりません。「CSV UTF-8」の形式で保存し直してください。")


def _rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """空行を除いた、行番号と欄。"""
    head = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in head and "," not in head else ",")
    try:
        for row in reader:
            cells = [unicodedata.normalize("NFC", cell).strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise CourseError(f"{_at(path, reader.line_num)}: CSV として読めません（{error}）。") from None


def _columns(head: tuple[int, list[str]], path: Path) -> tuple[int, int | None]:
    line, cells = head
    if cells.count(_ID) != 1 or cells.count(_NAME) > 1:
        listed = "、".join(shown(cell, 20) for cell in cells[:6]) or "空のファイル"
        raise CourseError(f"{_at(path, line)}: 見出しに「{_ID}」の欄が一つ必要です（今の見出し: {listed}）。{_EXAMPLE}")
    return cells.index(_ID), cells.index(_NAME) if _NAME in cells else None


def _student(row: list[str], columns: tuple[int, int | None], where: str) -> Student:
    number, name = (row[column] if column is not None and column < len(row) else "" for column in columns)
    if not number:
        raise CourseError(
            f"{where}: 学籍番号が空です（氏名 {shown(name) or 'も空'}）。学籍番号を書くか、行を消してください。"
        )
    if len(number) > MAX_LENGTH or shown(number) != number or set(number) & set('/\\"<>|:*?'):
        raise CourseError(
            f"{where}: 学籍番号 {shown(number)} に、使えない文字があるか、{MAX_LENGTH} 文字を超えています。"
        )
    return Student(number, name)


def _at(path: Path, line: int) -> str:
    return f"名簿 {path} の {line} 行目"
