"""書き込み。途中で何が起きても、古いものか新しいもののどちらかが残る。"""

import errno
import json
import os
from pathlib import Path

import pytest
from build_course import draft, exercise

from tlkit.course.build import writer
from tlkit.course.build.notebook import from_text, to_text
from tlkit.course.errors import CourseError


def test_text_is_canonical(tmp_path: Path) -> None:
    text = to_text(draft(tmp_path, exercise()).notebook)
    assert text.endswith("}\n")
    assert "演習" in text
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert to_text(from_text(text)) == text


def test_written_file_has_unix_newlines_and_usual_permission(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ipynb"
    writer.write_atomic(path, "一\n二\n")
    assert path.read_bytes() == "一\n二\n".encode()
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CourseError, "空きが足りず"),
        (OSError(errno.EACCES, "Permission denied"), CourseError, "権限"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_failure_keeps_the_old_file_and_leaves_no_trace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    expected: type[BaseException],
    message: str,
    moment: str,
) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text("古い", encoding="utf-8")

    def fail(*_: object) -> None:
        raise error

    if moment == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(expected, match=message):
        writer.write_atomic(path, "新しい" * 1000)
    assert path.read_text(encoding="utf-8") == "古い"
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', "{" * 5, "[" * 100_000, '{"nbformat": 3}'])
def test_broken_notebooks_raise_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(text)
