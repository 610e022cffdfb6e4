"""報告を CSV にする。表計算ソフトでそのまま開ける（UTF-8、BOM つき、CRLF）。

点数の欄は、状態が「採点済み」の行だけに入る。ほかの行は空欄にし、理由を添える。0 は書かない。
式として読まれる文字で始まる欄には、前に ' を付ける。' で始まる欄にも付けるので、先頭の ' を一つ取れば元に戻る。
"""

import csv
import io

from tlkit.course.grading.report.clean import listed
from tlkit.course.grading.report.table import Line, Report

# 全角の記号も、表計算ソフトによっては式の始まりになる
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")
HEAD = ("学籍番号", "氏名", "状態", "合計", "満点")
TAIL = ("理由", "手で直した点数", "知らせ", "ファイル")


def to_csv(report: Report) -> bytes:
    """一人 1 行。名簿の順。"""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    questions = [f"{question.id}（{question.points}点）" for question in report.questions]
    writer.writerow([safe(cell) for cell in (*HEAD, *questions, *TAIL)])
    for line in report.lines:
        writer.writerow(_cells(line, report))
    return text.getvalue().encode("utf-8-sig")


def safe(cell: str) -> str:
    """式として読まれない形。"""
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell


def _cells(line: Line, report: Report) -> list[str]:
    graded = line.state == "graded"
    points = [line.answers[question.id].points if graded else None for question in report.questions]
    changed = [f"{name}: {answer.why}" for name, answer in line.answers.items() if answer.why]
    texts = [line.student, line.name, line.label]
    rest = ["" if graded else line.reason or line.label, listed(changed), " / ".join(line.notes), line.file]
    return [
        *map(safe, texts),
        *("" if number is None else str(number) for number in (line.total, report.full, *points)),
        *map(safe, rest),
    ]
