"""報告の中身。記録の行（`rows.py`）に手で直した点数を重ね、見せられる文字にしたもの。

点数を持つのは graded だけで、ほかの状態を 0 点にはしない。時刻や、隠した入力に関わるものは持たない。
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.gather import STRANGER
from tlkit.course.grading.report.clean import clean
from tlkit.course.grading.rows import Row

Shown = Literal["needs_human", "infra_error", "limit", "pending", "missing", "graded"]
LABELS: Mapping[Shown, str] = {  # 報告に並べる順。人が見るべきものが先
    "needs_human": "要確認",
    "infra_error": "採点側の故障",
    "limit": "上限で停止",
    "pending": "未採点",
    "missing": "未提出",
    "graded": "採点済み",
}
ATTENTION: tuple[Shown, ...] = ("needs_human", "infra_error", "limit", "pending")


@dataclass(frozen=True)
class Heading:
    """問題の見出し。"""

    id: str
    title: str
    points: int


@dataclass(frozen=True)
class Answer:
    """一人の、一つの問題。

    Attributes:
        points: 手で直した後の点数。判定できなければ None。
        machine: 機械が付けた点数。
        code: 診断の名前。判定していなければ空。
        message: 診断の文。
        why: 手で直した理由。直していなければ空。
    """

    points: int | None = None
    machine: int | None = None
    code: str = ""
    message: str = ""
    why: str = ""


@dataclass(frozen=True)
class Line:
    """一人の行。

    Attributes:
        student: 学籍番号。
        name: 氏名。
        state: 状態。
        total: 合計。状態が graded のときだけ数になる。
        reason: graded でない理由。
        notes: 採点者への知らせ。
        file: 提出のファイルの名前。
        sha256: 提出の中身の SHA-256。
        answers: 問題の id → 答え。
    """

    student: str
    name: str
    state: Shown
    total: int | None
    reason: str
    notes: tuple[str, ...]
    file: str
    sha256: str
    answers: Mapping[str, Answer]

    @property
    def label(self) -> str:
        """状態の日本語。"""
        return LABELS[self.state]

    @property
    def enrolled(self) -> bool:
        """名簿にある学生か。"""
        return not self.student.startswith(STRANGER)

    @property
    def overridden(self) -> bool:
        """手で直した点数があるか。"""
        return any(answer.why for answer in self.answers.values())


@dataclass(frozen=True)
class Report:
    """一つの演習の報告。

    Attributes:
        slug: 演習の名前。
        title: 演習の題。
        version: 配布版の版。
        questions: 問題。配布版の順。
        lines: 学生。渡された（名簿の）順。
        alike: 問題の id → 答えのコードが同じ学生の組。調べていなければ空。
    """

    slug: str
    title: str
    version: str
    questions: tuple[Heading, ...]
    lines: tuple[Line, ...]
    alike: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)

    @property
    def full(self) -> int:
        """満点。"""
        return sum(question.points for question in self.questions)

    def of(self, *states: Shown) -> list[Line]:
        """ある状態の行。LABELS の順、その中では名簿の順。"""
        return [line for state in LABELS if state in states for line in self.lines if line.state == state]


def build(
    rows: Iterable[Row], assignment: Assignment, alike: Mapping[str, tuple[tuple[str, ...], ...]] | None = None
) -> Report:
    """記録の行から報告を作る。

    Args:
        rows: 名簿の順の行。
        assignment: 採点した演習。
        alike: 問題の id → 答えのコードが同じ学生の組（`alike.py`）。
    """
    questions = tuple(Heading(item.id, clean(item.title), item.points) for item in assignment.questions)
    lines = tuple(_line(row, assignment.question_ids) for row in rows)
    return Report(assignment.slug, _title(assignment), assignment.version, questions, lines, alike or {})


def _line(row: Row, questions: tuple[str, ...]) -> Line:
    final = row.final(questions)
    state: Shown = "pending" if row.pending and final.state != "graded" else final.state
    return Line(
        student=clean(row.entry.student),
        name=clean(row.entry.name),
        state=state,
        total=final.total if state == "graded" else None,
        reason=clean(final.reason),
        notes=tuple(clean(note) for note in final.notes),
        file=clean(row.entry.file),
        sha256=row.entry.sha256,
        answers={name: _answer(row, name, final.points.get(name)) for name in questions},
    )


def _answer(row: Row, question: str, points: int | None) -> Answer:
    reply = row.result.feedback.get(question)
    override = row.overrides.get(question)
    return Answer(
        points=points,
        machine=row.result.points.get(question),
        code=clean(reply.code) if reply else "",
        message=clean(reply.message) if reply else "",
        why=clean(override.why) if override else "",
    )


def _title(assignment: Assignment) -> str:
    """配布版の最初の見出し。"""
    heads = (cell.source.split("\n", 1)[0] for cell in assignment.cells if cell.role == "text")
    first = next((head for head in heads if head.startswith("# ")), "")
    return clean(first.removeprefix("# ").strip()) or assignment.slug
