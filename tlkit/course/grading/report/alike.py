"""答えのコードが同じ提出を、問題ごとに見つける。報告するだけで、点数には関わらない。

空白、改行、注釈の違いは数えない。名前を変えただけの写しは見つけない。配布版のままの答えは数えない。
短い問題では、別々に解いても同じコードになる。解答例は公開されているので、同じことは不正の証拠にはならない。
"""

import ast
import hashlib
from collections.abc import Iterable, Sequence

from tlkit.course.cells import parse
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.matching import match
from tlkit.course.grading.model import Step, Submission
from tlkit.course.intake import IntakeError, parse_notebook

Groups = dict[str, tuple[tuple[str, ...], ...]]


def identical_answers(submissions: Iterable[Submission], assignment: Assignment) -> Groups:
    """問題の id → 答えが同じ学生の組。組のない問題は入らない。"""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in assignment.question_ids}
    for submission in submissions:
        for question, print_ in _prints(submission, assignment).items():
            found[question].setdefault(print_, []).append(submission.student)
    groups = {
        question: tuple(sorted(tuple(sorted(students)) for students in prints.values() if len(students) > 1))
        for question, prints in found.items()
    }
    return {question: alike for question, alike in groups.items() if alike}


def _prints(submission: Submission, assignment: Assignment) -> dict[str, str]:
    """問題の id → 答えのコードの指紋。読めない提出では空。"""
    if submission.state != "graded":
        return {}
    try:
        matched = match(parse_notebook(submission.data, submission.file), assignment)
    except IntakeError:
        return {}
    return {
        question: _print([step for step in matched.program if step.question == question or step.id in cells])
        for question, cells in _answer_cells(assignment).items()
        if question not in matched.untouched and any(step.question == question for step in matched.program)
    }


def _answer_cells(assignment: Assignment) -> dict[str, set[str]]:
    return {
        question: {cell.id for cell in assignment.cells if cell.role == "answer" and cell.question == question}
        for question in assignment.question_ids
    }


def _print(steps: Sequence[Step]) -> str:
    text = "\n".join(_shape(step.source) for step in steps)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _shape(source: str) -> str:
    """空白と注釈によらない形。構文の壊れた答えは、空白だけをそろえる。"""
    tree = parse(source)
    try:
        return ast.dump(tree) if tree is not None else " ".join(source.split())
    except RecursionError:
        return " ".join(source.split())
