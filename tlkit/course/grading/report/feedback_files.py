"""学生への返却: 一人に 1 枚の HTML。本人の点数と診断だけを含む。

採点者への知らせ、手で直した理由、同じ提出の有無、ほかの学生のことは含まない。診断の文に隠した入力は現れない
（`grading/feedback.py` の決まり）。
"""

import hashlib
import re
from collections.abc import Iterator

from tlkit.course.grading.report.as_html import render
from tlkit.course.grading.report.table import Line, Report

MARK = b"<!-- tlkit feedback -->\n"  # 前の返却を、作り直すときに見分ける
_PLAIN = re.compile(r"[\w][\w.-]{0,79}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_TOLD = ("needs_human", "limit")


def feedback_files(report: Report) -> Iterator[tuple[str, bytes]]:
    """（ファイルの名前, 中身）。提出のない人と、名簿にない提出には作らない。"""
    used: set[str] = set()
    for line in report.lines:
        if line.enrolled and line.state not in ("missing", "pending"):
            name = _name(line.student, used)
            used.add(name.casefold())
            yield name, MARK + _page(report, line)


def _page(report: Report, line: Line) -> bytes:
    answered = any(answer.message for answer in line.answers.values())
    return render(
        "feedback.html.j2", report=report, line=line, reason=_reason(report, line), answered=answered or line.overridden
    )


def _reason(report: Report, line: Line) -> str:
    """学生に見せてよい理由。採点側の事情と、ほかの学生の番号や氏名が入ったものは見せない。"""
    if line.state not in _TOLD:
        return ""
    others = {part for one in report.lines if one is not line for part in (one.student, one.name, one.file) if part}
    return "" if any(other in line.reason for other in others) else line.reason


def _name(student: str, used: set[str]) -> str:
    """どの OS でも使え、重ならない名前。"""
    plain = f"{student}.html"
    odd = not _PLAIN.fullmatch(student) or _RESERVED.fullmatch(student) or plain.casefold() in used
    return f"student-{hashlib.sha256(student.encode()).hexdigest()[:12]}.html" if odd else plain
