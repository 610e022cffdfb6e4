"""演習 1 問、またはノートブック 1 冊を、配られたときの状態に戻す。前の内容は必ず `work/backup/` に残す。

セルの入れ替え方は `restore.py` にあります。
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.intake import IntakeError, read_notebook
from tlkit.course.work.files import RELOAD_HINT, atomic_write, notebook_bytes
from tlkit.course.work.restore import Restored, restore_exercise
from tlkit.course.work.workspace import FLOORS, Workspace

_EXERCISE_ID = re.compile(r"\d\d-\d+")


@dataclass(frozen=True)
class ResetReport:
    """戻した結果。`backup` は前の内容の控え（ファイルが無かったときは None）。"""

    path: Path
    backup: Path | None
    restored: Restored | None = None
    note: str = ""

    def lines(self) -> list[str]:
        """画面に出す日本語の行。"""
        lines = [f"{self.path} を、配られたときの状態に戻しました。"]
        if self.restored:
            lines = [f"{self.path} の {self.restored.exercise} を、配られたときの状態に戻しました。"]
            if self.restored.removed:
                lines.append(
                    f"同じ答えを書いていた余分なセル {self.restored.removed} 個を外しました（控えにあります）。"
                )
        lines += [f"前の内容の控え: {self.backup}"] if self.backup else []
        return [*lines, *([self.note] if self.note else []), RELOAD_HINT]


def reset(target: str) -> ResetReport:
    """`"01-1"` なら演習 1 問の答えのセルを、`"01_basics"` ならノートブック 1 冊を戻す。

    Args:
        target: 演習の番号、ノートブックの名前、または `chapters/01_basics` の形。

    Raises:
        CourseError: その演習やノートブックが無いとき、手元のファイルが壊れているとき、書き込めないとき。
    """
    with Workspace() as workspace:
        if _EXERCISE_ID.fullmatch(target):
            return _reset_exercise(workspace, target)
        return _reset_notebook(workspace, target)


def _reset_exercise(workspace: Workspace, exercise: str) -> ResetReport:
    rel = _notebook_of(workspace, exercise)
    path = workspace.root / rel
    course = read_notebook(workspace.notebooks()[rel])
    if not path.exists():
        workspace.place(rel, course)
        return ResetReport(path, None, note="ノートブックごと無かったので、教材から写し直しました。")
    workspace.record(rel, course)
    try:
        mine = read_notebook(path).document
    except IntakeError as error:
        whole = rel.removesuffix(".ipynb")
        raise CourseError(
            f"{error}\nノートブックごと戻すなら: tlkit reset {whole}（今のファイルは控えに残ります）"
        ) from None
    restored = restore_exercise(mine, _pristine(workspace, rel, exercise), exercise)
    backup = workspace.backup(path)
    atomic_write(path, notebook_bytes(mine))
    return ResetReport(path, backup, restored)


def _reset_notebook(workspace: Workspace, target: str) -> ResetReport:
    name = target.replace("\\", "/").removeprefix("work/").removesuffix(".ipynb")
    choices = [f"{floor}/{name}.ipynb" for floor in reversed(FLOORS)] if "/" not in name else [f"{name}.ipynb"]
    known = workspace.notebooks()
    found = [rel for rel in choices if rel in known]
    if not found:
        listing = (
            "、".join(sorted({rel.removesuffix(".ipynb") for rel in known})) or "（教材にノートブックがありません）"
        )
        raise CourseError(
            f"「{target}」という演習もノートブックもありません。\n演習は 01-1 の形、ノートブックは次の名前で指定します: {listing}"
        )
    rel = found[0]
    path = workspace.root / rel
    new = read_notebook(known[rel])
    backup = workspace.backup(path) if path.exists() else None
    workspace.place(rel, new)
    note = f"章のほうを戻すなら: tlkit reset {found[1].removesuffix('.ipynb')}" if len(found) > 1 else ""
    return ResetReport(path, backup, note=note)


def _notebook_of(workspace: Workspace, exercise: str) -> str:
    known: list[str] = []
    for rel, path in workspace.notebooks().items():
        if not rel.startswith("exercises/"):
            continue
        questions = _questions(read_notebook(path).document)
        if exercise in questions:
            return rel
        known += questions
    raise CourseError(
        f"演習 {exercise} は、この教材にありません。\nある演習: {'、'.join(known) or '（まだありません）'}"
    )


def _questions(document: dict[str, object]) -> list[str]:
    metadata = document["metadata"]
    course = metadata.get("tlkit") if isinstance(metadata, dict) else None
    questions = course.get("questions") if isinstance(course, dict) else None
    return [str(one) for one in questions] if isinstance(questions, list) else []


def _pristine(workspace: Workspace, rel: str, exercise: str) -> dict[str, object]:
    # 学習者のファイルの元になった版に戻す。その版に無い問題（後から増えた問題）だけ、今の版から取る。
    for path in (workspace.original(rel), workspace.notebooks()[rel]):
        try:
            document = read_notebook(path).document
        except IntakeError:
            continue
        if exercise in _questions(document):
            return document
    raise CourseError(
        f"演習 {exercise} の元のノートブック {rel} を読めません。`git status` で教材の状態を確かめてください。"
    )
