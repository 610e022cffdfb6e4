"""提出フォルダから、一人に一つの提出を決める。

フォルダの中は、学生ごとのフォルダ、`学籍番号.ipynb`、`学籍番号.zip`、LMS が付けた学籍番号入りの名前、のどれでもよい。
決められないときは理由を付けて人に回す。名簿の全員と、だれのものか分からないファイルが、必ず一覧に現れる。
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tlkit.course.errors import CourseError
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.candidates import Candidate, Found, collect
from tlkit.course.grading.filenames import is_junk, order_of, owners
from tlkit.course.grading.model import State, Submission
from tlkit.course.grading.roster import Student
from tlkit.course.grading.shown import shown

Policy = Literal["last", "best", "human"]
MAX_RIVALS = 10  # 一人の提出を全部採点するときの数
STRANGER = "（名簿にない）"  # 名簿にない提出の、学籍番号の代わり


def gather(
    folder: Path, roster: Sequence[Student], assignment: Assignment | None = None, *, policy: Policy = "last"
) -> list[Submission]:
    """提出を、名簿の順に返す。だれのものか分からない提出は、その後に並ぶ。

    Args:
        folder: 提出を置いたフォルダ。何も書き込まない。
        roster: 名簿。空なら、フォルダにある名前を学籍番号とみなす。
        assignment: 採点する演習。あれば、同じ人のほかの章のノートブックや、配布版のままの写しを候補から外す。
        policy: 違う中身の提出がいくつもあるとき、LMS の回数か日時が最後のものを採る（"last"）か、全部を採点する（"best"）か、
            必ず人に回す（"human"）か。

    Raises:
        CourseError: フォルダがないとき。
    """
    if not folder.is_dir():
        raise CourseError(
            f"提出のフォルダ {folder} がありません。学生ごとのフォルダやファイルを置いた場所を指定してください。"
        )
    entries = _entries(folder)
    roster = roster or _students_of(entries)
    people = {name: owners(name, roster) for name in entries}
    rows = [_row(folder, student, people, assignment, policy) for student in roster]
    return rows + [row for name in entries if not people[name] for row in _stranger(folder / name, name)]


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(item.name for item in folder.iterdir() if not is_junk(item.name))
    except OSError as error:
        raise CourseError(
            f"提出のフォルダ {folder} を開けません（{error.strerror}）。権限を確かめてください。"
        ) from error


def _students_of(entries: Sequence[str]) -> tuple[Student, ...]:
    """名簿がないとき。拡張子を除いた名前を学籍番号にする。"""
    names = (name.rsplit(".", 1)[0] if name.casefold().endswith((".ipynb", ".zip")) else name for name in entries)
    return tuple(Student(one) for one in dict.fromkeys(unicodedata.normalize("NFC", name) for name in names))


def _stranger(entry: Path, name: str) -> list[Submission]:
    found = Found()
    collect(entry, name, found)
    if not found.candidates:  # 名簿や説明書きなど
        return []
    reason = (
        f"{shown(name)} は、名前に名簿の学籍番号がないので、だれの提出か分かりません。"
        "名前を「学籍番号.ipynb」に変えるか、名簿に加えてから採点し直してください。"
    )
    return [Submission(STRANGER + shown(name), "", shown(name), b"", "needs_human", reason)]


def _row(
    folder: Path, student: Student, people: dict[str, list[Student]], assignment: Assignment | None, policy: Policy
) -> Submission:
    label, name = shown(student.id), shown(student.name)
    mine = [entry for entry, owner in people.items() if student in owner]
    puzzles = [entry for entry in mine if len(people[entry]) > 1]
    if puzzles:
        files = "、".join(map(shown, puzzles))
        reason = (
            f"名前に、名簿の二人以上が当てはまるファイルがあります（{files}）。だれの提出か分かる名前に変えてください。"
        )
        return Submission(label, name, shown(puzzles[0]), b"", "needs_human", reason)
    found = Found()
    for entry in mine:
        collect(folder / entry, entry, found)
    if not found.candidates:
        return _without_notebook(label, name, found)
    notes: list[str] = []
    candidates = _relevant(found.candidates, assignment, notes)
    rivals = _oldest_first(candidates, student) if policy == "best" else []
    if 1 < len(rivals) <= MAX_RIVALS:
        each = tuple(_rival(one, label, name) for one in rivals)
        return Submission(label, name, notes=tuple(notes), rivals=each)
    chosen, reason = _choose(candidates, student, policy, notes)
    if chosen is None or chosen.problem:
        file = chosen or candidates[0]
        return Submission(label, name, file.label, b"", "needs_human", reason or _unreadable(file), tuple(notes))
    return Submission(label, name, chosen.label, chosen.data, "graded", "", tuple(notes))


def _without_notebook(student: str, name: str, found: Found) -> Submission:
    if not found.others:
        return Submission(student, name, state="missing", reason="提出がありません。")
    files = "、".join(map(shown, found.others[:5])) + ("など" if len(found.others) > 5 else "")
    reason = f"ノートブック（.ipynb）がありません（あるのは {files}）。"
    return Submission(student, name, shown(found.others[0]), b"", "needs_human", reason)


def _relevant(candidates: list[Candidate], assignment: Assignment | None, notes: list[str]) -> list[Candidate]:
    """同じ中身の重なり、ほかの演習、配布版のままの写し、tlkit の控えを除く。全部なくなる除き方はしない。"""
    kept: list[Candidate] = []
    for one in candidates:
        if one.problem or not any(one.data == other.data and not _ordered(one, other) for other in kept):
            kept.append(one)
    if len(kept) < len(candidates):
        notes.append(f"同じ中身のファイルが {len(candidates) - len(kept) + 1} 個あります。一つだけ採点します。")
    if assignment is not None and len(kept) > 1:
        kept = _narrow(kept, [one for one in kept if one.problem or _is_of(one, assignment)], "ほかの演習や章", notes)
        changed = [one for one in kept if one.problem or one.version != assignment.version]
        kept = _narrow(kept, changed, "配布版のまま", notes)
        kept = _narrow(kept, [one for one in kept if "backup" not in one.name.split("/")[:-1]], "控え（backup）", notes)
    return kept


def _ordered(one: Candidate, other: Candidate) -> bool:
    """別の回の提出か（同じ中身でも、回数や日時を比べるために残す）。"""
    return order_of(one.name, "") != order_of(other.name, "")


def _narrow(before: list[Candidate], after: list[Candidate], what: str, notes: list[str]) -> list[Candidate]:
    if not after or len(after) == len(before):
        return before
    left_out = "、".join(one.label for one in before if one not in after)
    notes.append(f"{what}のファイルは採点しません: {left_out}")
    return after


def _is_of(one: Candidate, assignment: Assignment) -> bool:
    return one.slug in ("", assignment.slug) and one.kind != "chapter"


def _choose(
    candidates: list[Candidate], student: Student, policy: Policy, notes: list[str]
) -> tuple[Candidate | None, str]:
    if len(candidates) == 1:
        return candidates[0], ""
    orders = [order_of(one.name, student.id) for one in candidates]
    kinds = {order[0] for order in orders if order is not None}
    if policy == "last" and len(kinds) == 1 and None not in orders and len(set(orders)) == len(orders):
        last = max(zip(orders, candidates, strict=True), key=lambda pair: pair[0] or ("", ()))[1]
        notes.append(f"{len(candidates)} 個の提出のうち、{kinds.pop()}の最も新しい {last.label} を採点します。")
        return last, ""
    if len({one.data for one in candidates}) == 1 and not any(one.problem for one in candidates):
        return candidates[0], ""
    listed = "、".join(one.label + (f"（読めません: {one.problem}）" if one.problem else "") for one in candidates[:6])
    rest = f" ほか {len(candidates) - 6} 個" if len(candidates) > 6 else ""
    return None, f"違う中身の提出が {len(candidates)} 個あります（{listed}{rest}）。採点する一つだけを残してください。"


def _rival(one: Candidate, label: str, name: str) -> Submission:
    state: State = "needs_human" if one.problem else "graded"
    return Submission(label, name, one.label, one.data, state, _unreadable(one) if one.problem else "")


def _oldest_first(candidates: list[Candidate], student: Student) -> list[Candidate]:
    """LMS の順番が全部に付いていれば、その古い順。なければ名前の順。同じ中身は、後のものだけを残す。"""
    kinds = {order[0] if order else "" for order in (order_of(one.name, student.id) for one in candidates)}
    known = len(kinds) == 1 and "" not in kinds

    def age(one: Candidate) -> tuple[tuple[int, ...], str]:
        order = order_of(one.name, student.id) if known else None
        return order[1] if order else (), one.name

    placed = sorted(candidates, key=age)
    later = [{one.data for one in placed[place + 1 :]} for place in range(len(placed))]
    return [one for one, after in zip(placed, later, strict=True) if one.problem or one.data not in after]


def _unreadable(one: Candidate) -> str:
    return f"{one.label} を採点できません: {one.problem}"
