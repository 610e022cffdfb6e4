"""提出されたノートブックが、どの演習の、どの版から書かれたかを調べる。

隣: 版が分かった後のセルの照合は `matching.py`。
"""

from dataclasses import dataclass
from typing import Any

from tlkit.course.grading.assignment import Assignment, fingerprint_of
from tlkit.course.grading.shown import shown


class NeedsHumanError(Exception):
    """機械では決められない。文は、採点者が次に何を見るかを日本語で言う。"""


@dataclass(frozen=True)
class Origin:
    """もとの演習について分かったこと。

    Attributes:
        known: metadata に演習の名前があるか。なければ、セルの中身から確かめる必要がある。
        old: 今の配布版と違う版から書かれたか。
        notes: 採点者への知らせ。
    """

    known: bool
    old: bool
    notes: tuple[str, ...] = ()


def course_stamp(document: dict[str, Any]) -> dict[str, Any]:
    """metadata の tlkit 欄。なければ、または形が違えば空。"""
    stamp = document["metadata"].get("tlkit")
    return stamp if isinstance(stamp, dict) else {}


def origin(document: dict[str, Any], assignment: Assignment) -> Origin:
    """もとの演習と版を調べる。

    Raises:
        NeedsHumanError: 別の演習や、章のノートブックのとき。
    """
    stamp = course_stamp(document)
    slug = stamp.get("slug")
    if not isinstance(slug, str) or not slug:
        return Origin(known=False, old=False, notes=("演習の名前（metadata）が失われています。",))
    if slug != assignment.slug:
        raise NeedsHumanError(
            f"別の演習のノートブックです（提出: {shown(slug)}、採点中の演習: {assignment.slug}）。"
            "提出し直してもらうか、その演習として採点してください。"
        )
    if stamp.get("kind") == "chapter":
        raise NeedsHumanError(
            f"章のノートブック（chapters/{slug}）です。演習（exercises/{slug}）を提出してもらってください。"
        )
    if stamp.get("kind") == "solution":
        return Origin(True, False, ("解答のノートブック（solutions）をもとにした提出です。",))
    return _version(stamp, assignment)


def _version(stamp: dict[str, Any], assignment: Assignment) -> Origin:
    mark = fingerprint_of(stamp)
    listed = stamp.get("questions")
    same_questions = not isinstance(listed, list) or listed == list(assignment.question_ids)
    if same_questions and (not mark or mark == assignment.fingerprint):
        return Origin(known=True, old=False)
    note = (
        f"今の配布版と違う版のノートブックです（提出 {shown(mark[:8]) or '不明'}、配布版 {assignment.fingerprint[:8] or '不明'}）。"
        "今の配布版の問題で採点します。"
    )
    return Origin(True, True, (note,))
