"""違う中身の提出がいくつもあるとき、全部を採点し、合計の最も高いものを数える（`--several best`）。

どの提出の結果も記録に残る。採点できない提出が交じるときは、それがもっと高いかもしれないので、人に回す。
ただし、満点のものがあれば、ほかによらず数える。
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tlkit.course.grading.model import Result, State, Submission
from tlkit.course.grading.rows import Entry

_SAID: dict[State, str] = {"needs_human": "要確認", "limit": "上限で停止"}


def flat(submissions: Iterable[Submission]) -> list[Submission]:
    """採点する提出を、一つずつ並べる。"""
    return [one for submission in submissions for one in (submission.rivals or (submission,))]


def settle(
    submission: Submission, entries: Sequence[Entry], lookup: Callable[[str], Result | None], full: int
) -> Entry | None:
    """数える一つを決めた、名簿の欄。まだ結果のないものがあれば None。

    Args:
        submission: 提出がいくつもある人。
        entries: それぞれの提出の欄。古い順。
        lookup: 鍵 → 結果。
        full: 満点。
    """
    found = [(entry, lookup(entry.key) if entry.key else Result(entry.state, reason=entry.reason)) for entry in entries]
    results = [(entry, result) for entry, result in found if result is not None]
    if len(results) < len(found):
        return None
    graded = [(result.total, place, entry) for place, (entry, result) in enumerate(results) if result.total is not None]
    top = max(graded, key=lambda one: one[:2], default=None)  # 同じ点なら、後のもの
    listed = "、".join(f"{entry.file} {_said(result)}" for entry, result in results)
    if top is not None and (len(graded) == len(results) or top[0] == full):
        note = f"{len(results)} 個の提出を採点し、合計が最も高い {top[2].file} を数えます（{listed}）。"
        return replace(top[2], notes=(*submission.notes, note))
    reason = (
        f"{len(results)} 個の提出のうち、合計の付かないものがあります（{listed}）。"
        "どれを数えるかを決め、ほかを消してから採点し直してください。"
    )
    return Entry(submission.student, submission.name, state="needs_human", reason=reason, notes=submission.notes)


def _said(result: Result) -> str:
    return f"{result.total} 点" if result.total is not None else _SAID.get(result.state, "採点できません")
