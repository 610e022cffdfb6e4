"""報告を JSON にする。同じ結果なら、行の並びによらず、いつも同じバイト列になる。

鍵は名前の順、学生は学籍番号の順に並べる。時刻、かかった時間、機械の名前、秘密に関わるものは含めない。
"""

import json
from typing import Any

from tlkit.course.grading.report.figures import counts, identical_files
from tlkit.course.grading.report.table import Answer, Line, Report

FORMAT = 1


def to_json(report: Report) -> bytes:
    """UTF-8、末尾に改行。"""
    students = sorted((_line(line) for line in report.lines), key=_order)
    data = {
        "format": FORMAT,
        "assignment": {
            "slug": report.slug,
            "title": report.title,
            "version": report.version,
            "full": report.full,
            "questions": [vars(question) for question in report.questions],
        },
        "states": counts(report),
        "students": students,
        "identical_files": [list(group) for group in identical_files(report)],
        "identical_answers": {name: sorted(map(sorted, groups)) for name, groups in report.alike.items()},
    }
    return (json.dumps(data, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode("utf-8")


def _order(line: dict[str, Any]) -> tuple[str, str, str]:
    """名簿にない提出は、同じ名前に見えることがあるので、全部の中身で順を決める。"""
    return line["student"], line["sha256"], json.dumps(line, sort_keys=True)


def _line(line: Line) -> dict[str, Any]:
    return {
        "student": line.student,
        "name": line.name,
        "state": line.state,
        "total": line.total,
        "reason": line.reason,
        "notes": list(line.notes),
        "file": line.file,
        "sha256": line.sha256,
        "enrolled": line.enrolled,
        "questions": {name: _answer(answer) for name, answer in line.answers.items()},
    }


def _answer(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"points": answer.points, "code": answer.code, "message": answer.message}
    if answer.why:
        found["override"] = {"machine": answer.machine, "why": answer.why}
    return found
