"""提出ファイルの名前を読む: 無視してよい名前か、だれの提出か、何回目の提出か。

ファイルの更新日時は使わない。展開や複写で変わってしまうからである。隣: `gather.py`。
"""

import re
from collections.abc import Sequence
from datetime import date, time

from tlkit.course.grading.roster import Student, folded

_JUNK = {"__macosx", ".ipynb_checkpoints", "thumbs.db", "desktop.ini", "__pycache__"}
_MOODLE = re.compile(r"^(.+?)_\d+_assignsubmission_")
_STAMP = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?([01]\d)[-_.]?([0-3]\d)(?:[-_ t.]{0,3}([0-2]\d)[-_:.]?([0-5]\d)(?:[-_:.]?([0-5]\d))?)?(?!\d)"
)
_ATTEMPTS = (re.compile(r"attempt[ _-]?(\d{1,4})(?!\d)"), re.compile(r"(\d{1,4})回目"))


def is_junk(name: str) -> bool:
    """OS や Jupyter が作るファイルか（隠しファイルを含む）。"""
    parts = [part.casefold() for part in name.replace("\\", "/").split("/") if part]
    return any(part.startswith(".") or part in _JUNK for part in parts)


def is_notebook(name: str) -> bool:
    """ノートブックの拡張子か。"""
    return name.casefold().endswith(".ipynb")


def owners(name: str, students: Sequence[Student]) -> list[Student]:
    """名前に学籍番号（なければ氏名）が入っている学生。一人に決まらなければ、全員を返す。

    名前全体が学籍番号と同じなら、その一人。番号は前後が英数字でないときだけ数えるので、s1 は s10 に当たらない。
    """
    text = folded(name)
    stem = re.sub(r"\.(?:ipynb|zip)$", "", text)
    exact = [student for student in students if folded(student.id) == stem]
    if exact:
        return exact
    found = [student for student in students if _contains(text, folded(student.id))]
    ids = [folded(student.id) for student in found]
    found = [one for one in found if not any(folded(one.id) in other and folded(one.id) != other for other in ids)]
    return found or _by_name(text, stem, students)


def order_of(name: str, student: str) -> tuple[str, tuple[int, ...]] | None:
    """LMS が付けた順番。（種類、値）。日時は「attempt_2026-11-20-10-30-00」のような形も読む。なければ None。"""
    text = folded(name).replace(folded(student), " ") if student else folded(name)
    for match in _STAMP.finditer(text):
        numbers = tuple(int(part or 0) for part in match.groups())
        try:
            date(numbers[0], numbers[1], numbers[2])
            time(numbers[3], numbers[4], numbers[5])
        except ValueError:
            continue
        return "日時", numbers
    for pattern in _ATTEMPTS:
        found = pattern.findall(text)
        if found:
            return "回", (int(found[-1]),)
    return None


def _contains(text: str, number: str) -> bool:
    start = text.find(number)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(number) :][:1]
        if not (before.isascii() and before.isalnum()) and not (after.isascii() and after.isalnum()):
            return True
        start = text.find(number, start + 1)
    return False


def _by_name(text: str, stem: str, students: Sequence[Student]) -> list[Student]:
    moodle = _MOODLE.match(text)
    wanted = _spaceless(moodle.group(1) if moodle else stem)
    return [student for student in students if student.name and _spaceless(folded(student.name)) == wanted]


def _spaceless(text: str) -> str:
    return "".join(text.split())
