"""クイズの検査が使う、小さな教材のフォルダ。"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Entry = dict[str, Any]


def entry(**changes: Any) -> Entry:
    """正しい 1 問。項目を変えて壊す。"""
    base = {
        "id": "q01-01",
        "scope": "出題対象",
        "skill": "計算",
        "difficulty": 2,
        "stem": "**平均二乗誤差**（MSE）の、誤差 $e = (1, 2)$ での値として最も適切なものはどれか。",
        "choices": ["$1.5$", "$2.5$", "$3$", "$5$"],
        "answer": 1,
        "computed_by": "(1**2 + 2**2) / 2",
        "why": ["誤差の平均です。", "二乗の平均 $5/2$ です。", "誤差の和です。", "二乗の和です。"],
    }
    return base | changes


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    return entry


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """クイズが 2 問ある 01_basics だけの教材。"""
    (tmp_path / "chapters" / "quiz").mkdir(parents=True)
    (tmp_path / "chapters" / "00_start.py").touch()
    monkeypatch.setenv("TLKIT_COURSE", str(tmp_path))
    monkeypatch.delenv("TLKIT_WORK", raising=False)
    second = entry(id="q01-02", syllabus="深層学習の応用", section="平均と分散", answer=1)
    write(tmp_path, [entry(), second])
    return tmp_path


def write(course: Path, entries: Any, slug: str = "01_basics") -> Path:
    """クイズのファイルを書く。"""
    path = course / "chapters" / "quiz" / f"{slug}.yaml"
    text = entries if isinstance(entries, str) else yaml.safe_dump(entries, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def write_quiz(course: Path) -> Callable[[Any], Path]:
    return lambda entries: write(course, entries)
