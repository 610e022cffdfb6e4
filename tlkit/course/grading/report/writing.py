"""報告をファイルに書く。途中で止まっても、前の報告か新しい報告のどちらかが残る。"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from tlkit.course.grading.report.as_csv import to_csv
from tlkit.course.grading.report.as_html import to_html
from tlkit.course.grading.report.as_json import to_json
from tlkit.course.grading.report.feedback_files import MARK, feedback_files
from tlkit.course.grading.report.table import Report
from tlkit.course.work.files import atomic_write, japanese_os_errors

Form = Literal["html", "csv", "json", "feedback"]
FORMS: tuple[Form, ...] = ("html", "csv", "json", "feedback")
_MAKERS = {"html": to_html, "csv": to_csv, "json": to_json}


def write(report: Report, folder: Path, forms: Collection[Form] = FORMS) -> list[Path]:
    """選んだ形で書き、書いたもの（返却はフォルダ）を返す。

    Raises:
        CourseError: 書けないとき。
    """
    private_folder(folder)
    written = []
    for form in FORMS:
        if form in forms and form != "feedback":
            written.append(folder / f"{report.slug}.{form}")
            atomic_write(written[-1], _MAKERS[form](report))
    if "feedback" in forms:
        written.append(folder / f"{report.slug}-feedback")
        _write_feedback(report, written[-1])
    return written


def private_folder(folder: Path) -> None:
    """成績を置くフォルダ。なければ、持ち主だけが読める形で、git に加わらないように作る。"""
    with japanese_os_errors(folder):
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def _write_feedback(report: Report, folder: Path) -> None:
    private_folder(folder)
    files = dict(feedback_files(report))
    for name, data in files.items():
        atomic_write(folder / name, data)
    with japanese_os_errors(folder):
        for old in folder.glob("*.html"):
            if old.name not in files and old.read_bytes().startswith(MARK):
                old.unlink()  # 名簿から消えた人などの、前の返却
