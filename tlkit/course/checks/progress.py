"""学習の進み具合を `<work>/progress.json` に残す。

書くのは、今のフォルダが既にある作業フォルダの中にあるときだけである。書けなくても、確認そのものは止めない。
壊れたファイルは消さずに脇へよけ、その旨を新しいファイルの notes に書く。
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkit.course.errors import CourseError
from tlkit.course.paths import work_root

NAME = "progress.json"
Progress = dict[str, Any]


def load(folder: Path | None = None) -> Progress:
    """進み具合を読む。まだ無いか、壊れていれば空の形を返す（ファイルには触れない）。"""
    try:
        return _read((folder or work_root()) / NAME) or _empty()
    except (OSError, ValueError):
        return _empty()


def record_check(question_id: str, state: str, code: str) -> None:
    """演習の確認の結果（state は passed / failed / untouched）を残す。"""

    def change(entry: Progress) -> None:
        entry["state"], entry["code"] = state, code
        entry["passed"] = bool(entry.get("passed")) or state == "passed"
        entry["attempts"] = _count(entry, "attempts") + (state != "untouched")

    _update("questions", question_id, change)


def record_hint(question_id: str, level: int) -> None:
    """見たヒントの段を残す。"""

    def change(entry: Progress) -> None:
        entry["hints"] = max(_count(entry, "hints"), level)

    _update("questions", question_id, change)


def record_quiz(quiz_id: str, choice: str, *, correct: bool) -> None:
    """クイズの答えを残す。"""

    def change(entry: Progress) -> None:
        entry["choice"], entry["correct"] = choice, correct
        entry["attempts"] = _count(entry, "attempts") + 1

    _update("quiz", quiz_id, change)


def _update(section: str, key: str, change: Callable[[Progress], None]) -> None:
    with contextlib.suppress(OSError, CourseError, ValueError):
        folder = _folder()
        if folder is None:
            return
        progress = _usable(folder / NAME)
        entry = progress.setdefault(section, {}).setdefault(key, {})
        change(entry)
        entry["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        _write(folder / NAME, progress)


def _folder() -> Path | None:
    root = work_root()
    return root if root.is_dir() and Path.cwd().resolve().is_relative_to(root.resolve()) else None


def _usable(path: Path) -> Progress:
    """読めればその中身。壊れていれば脇へよけて、空から始める。"""
    try:
        return _read(path) or _empty()
    except ValueError:
        aside = _aside(path)
        path.replace(aside)
        note = f"{NAME} が読めなかったので、{aside.name} に移して新しく始めました。元の中身はそのまま残っています。"
        return _empty() | {"notes": [note]}


def _aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"progress.broken-{number}.json")).exists():
        number += 1
    return aside


def _read(path: Path) -> Progress | None:
    """ファイルの中身。無ければ None、形が違えば ValueError。"""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise ValueError("入れ子が深すぎます。") from error
    sections = [loaded.get(name, {}) for name in ("questions", "quiz")] if isinstance(loaded, dict) else [None]
    if not all(isinstance(part, dict) and all(isinstance(e, dict) for e in part.values()) for part in sections):
        raise ValueError(f"{NAME} の形が違います。")
    found: Progress = _empty() | loaded
    return found


def _write(path: Path, progress: Progress) -> None:
    """途中で止まっても壊れたファイルが残らないよう、書き終えてから名前を移す。"""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".progress-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(progress, file, ensure_ascii=False, indent=2, sort_keys=True)
            file.write("\n")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _empty() -> Progress:
    return {"version": 1, "questions": {}, "quiz": {}}


def _count(entry: Progress, name: str) -> int:
    value = entry.get(name, 0)
    return value if isinstance(value, int) else 0
