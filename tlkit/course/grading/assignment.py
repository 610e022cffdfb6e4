"""採点する演習の配布版。配ったノートブック（exercises/<章>.ipynb）から、セルの役割と版を読む。

隣: 問題の定義は `tlkit/course/checks/`、提出との照合は `matching.py`。
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tlkit.course.cells import sources_hash
from tlkit.course.checks import registry
from tlkit.course.checks.question import Question
from tlkit.course.errors import CourseError
from tlkit.course.grading.snippets import facts
from tlkit.course.intake import read_notebook
from tlkit.course.paths import course_root

Role = Literal["setup", "answer", "check", "follow-up", "text"]
_EXERCISE_ID = re.compile(r"ex-(\d\d-\d+)-(answer|check)(?:-\d+)?")


@dataclass(frozen=True)
class ReleaseCell:
    """配布版の一つのセル。

    Attributes:
        id: セルの id（"ex-01-1-answer"、"c-1a2b3c4d" など）。
        role: 役割。"follow-up" は `if ready(…):` に守られた、合格した後のセル。
        source: 中身。
        question: 答えか確認のセルなら、その問題の id。
    """

    id: str
    role: Role
    source: str
    question: str | None = None


@dataclass(frozen=True)
class Assignment:
    """採点する演習。

    Attributes:
        slug: 章の名前。例 "01_basics"。
        version: 版（配布版のセルの種類と中身の SHA-256）。
        questions: 問題の定義。配布版に並ぶ順。
        cells: セル。配布版に並ぶ順。
        fingerprint: 配布版の metadata にある、コードセルの刻印。なければ空。
    """

    slug: str
    version: str
    questions: tuple[Question, ...]
    cells: tuple[ReleaseCell, ...]
    fingerprint: str = ""

    @property
    def question_ids(self) -> tuple[str, ...]:
        """問題の id。配布版に並ぶ順。"""
        return tuple(question.id for question in self.questions)

    def answer_cell(self, question: Question, name: str) -> ReleaseCell:
        """答え `name` を書くセル。一つの問題の答えが、いくつものセルに分かれていることもある。"""
        cells = [cell for cell in self.cells if cell.role == "answer" and cell.question == question.id]
        return next((cell for cell in cells if name in facts(cell.source).names), cells[0])


def load(slug: str, root: Path | None = None) -> Assignment:
    """章の名前（例 "01_basics"）から、配布版を読む。

    Raises:
        CourseError: その演習がないとき、配布版が壊れているとき。
    """
    folder = (root or course_root()) / "exercises"
    known = sorted(path.stem for path in folder.glob("*.ipynb"))
    if slug not in known:
        raise CourseError(
            f"演習「{slug}」の配布版（exercises/{slug}.ipynb）がありません。\n"
            f"ある演習: {'、'.join(known) or 'なし（tlkit build で作ってください）'}"
        )
    return from_document(read_notebook(folder / f"{slug}.ipynb").document, slug)


def from_document(document: dict[str, Any], slug: str) -> Assignment:
    """読んだ配布版のノートブックから作る。

    Raises:
        CourseError: 演習の配布版でないとき、答えのセルのない問題があるとき。
    """
    course = document["metadata"].get("tlkit")
    if not isinstance(course, dict) or course.get("kind") != "exercise" or course.get("slug") != slug:
        raise CourseError(
            f"exercises/{slug}.ipynb は、演習 {slug} の配布版ではありません。tlkit build で作り直してください。"
        )
    questions = tuple(registry.question(one) for one in course.get("questions", []))
    cells = tuple(_release_cell(cell) for cell in document["cells"])
    answered = {cell.question for cell in cells if cell.role == "answer"}
    lacking = [question.id for question in questions if question.id not in answered]
    if lacking or not questions:
        shown = "、".join(lacking) or "すべて"
        raise CourseError(
            f"exercises/{slug}.ipynb に、答えのセルのない問題があります（{shown}）。tlkit build で作り直してください。"
        )
    return Assignment(slug, sources_hash(document), questions, cells, fingerprint_of(course))


def fingerprint_of(course: dict[str, Any]) -> str:
    """metadata の tlkit 欄にある、コードセルの刻印。なければ空。"""
    stamps = course.get("fingerprint")
    stamp = stamps.get("cells") if isinstance(stamps, dict) else None
    return stamp if isinstance(stamp, str) else ""


def _release_cell(cell: dict[str, Any]) -> ReleaseCell:
    if cell["cell_type"] != "code":
        return ReleaseCell(cell["id"], "text", cell["source"])
    match = _EXERCISE_ID.fullmatch(cell["id"])
    if match:
        role: Role = "answer" if match.group(2) == "answer" else "check"
        return ReleaseCell(cell["id"], role, cell["source"], match.group(1))
    return ReleaseCell(cell["id"], "follow-up" if facts(cell["source"]).guarded else "setup", cell["source"])
