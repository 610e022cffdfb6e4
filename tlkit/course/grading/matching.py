"""提出されたノートブックを配布版と照合し、檻の中で動かすセルの並びを作る。

もとの演習と版は `origin.py`、セルの結びつけは `parts.py`、答えのセル選びは `providers.py`、並べ方は `program.py`。
決められないことは、理由を付けて人に回す。提出の中身のせいで例外を出すことはない。
"""

import re
from dataclasses import dataclass
from typing import Any

from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Step
from tlkit.course.grading.origin import NeedsHumanError, origin
from tlkit.course.grading.parts import Part, read_parts
from tlkit.course.grading.program import build_program, is_reordered
from tlkit.course.grading.providers import Choice, choose

_INSTALLS = re.compile(r"^[ \t]*(?:[%!]+[ \t]*)?(?:python3? -m )?(?:pip3?|conda|mamba|uv pip) install\b", re.MULTILINE)


@dataclass(frozen=True)
class Matched:
    """照合の結果。

    Attributes:
        program: 動かすセル。並び順に動かす。人に回すときは空。
        notes: 採点者への知らせ（日本語）。
        human: 人に回す理由（日本語）。採点に進めるなら空。
        untouched: 配布版のひな形のままの問題。
    """

    program: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    human: str = ""
    untouched: tuple[str, ...] = ()


def match(document: dict[str, Any], assignment: Assignment) -> Matched:
    """形を確かめたノートブック（`tlkit/course/intake.py`）を、配布版と照合する。"""
    notes: list[str] = []
    try:
        return _matched(document, assignment, notes)
    except NeedsHumanError as reason:
        return Matched(notes=tuple(notes), human=str(reason))


def _matched(document: dict[str, Any], assignment: Assignment, notes: list[str]) -> Matched:
    came = origin(document, assignment)
    notes += came.notes
    parts, told = read_parts(document, assignment)
    notes += told
    deleted = _checks_gone(parts, assignment)
    choice = choose(parts, assignment, came)
    program = build_program(choice, assignment)
    notes += [*choice.notes, *_cell_notes(choice, assignment, deleted)]
    return Matched(program, tuple(dict.fromkeys(notes)), "", tuple(choice.untouched))


def _checks_gone(parts: list[Part], assignment: Assignment) -> list[str]:
    present = {question for part in parts if part.is_code for question in part.facts.checks}
    return [question for question in assignment.question_ids if parts and question not in present]


def _cell_notes(choice: Choice, assignment: Assignment, deleted: list[str]) -> list[str]:
    notes: list[str] = []
    edited = [part for part in choice.parts if part.role_is("check") and not part.unchanged]
    if edited:
        notes.append(f"確認のセルが書き換えられています（上から {_numbers(edited)} 番目）。採点には使いません。")
    if deleted:
        notes.append(f"確認のセルが消されています（{'、'.join(deleted)}）。採点には影響しません。")
    installs = [part for part in choice.parts if part.is_code and _INSTALLS.search(part.source)]
    if installs:
        notes.append(
            f"パッケージを入れようとするセルがあります（上から {_numbers(installs)} 番目、pip など）。採点では、何も入りません。"
        )
    if is_reordered(choice.parts, assignment):
        notes.append("答えのセルの並びが配布版と違うので、配布版の順に直して動かします。")
    return notes


def _numbers(parts: list[Part]) -> str:
    return "、".join(str(part.number) for part in parts)
