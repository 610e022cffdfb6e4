"""番号が二桁の演習（03-10）を、頭の同じ演習（03-1）と取り違えないこと。"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from answer_kit import ANSWERS, module_from
from mutants import solution

from tlkit.course.checks import progress, session
from tlkit.course.checks.notebook import _check_cells
from tlkit.course.checks.registry import question, questions
from tlkit.course.errors import CourseError


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """何も合格していない、新しい作業フォルダの中。"""
    monkeypatch.delenv("TLKIT_CHECK", raising=False)
    monkeypatch.delenv("TLKIT_CHECK_LOG", raising=False)
    monkeypatch.setenv("TLKIT_WORK", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    session._passed.clear()
    session._hints.clear()
    yield tmp_path
    session._passed.clear()
    session._hints.clear()


def answers() -> ModuleType:
    return module_from(ANSWERS / "03" / "q03_10.py", "two_digit_answers")


def test_the_tenth_question_comes_after_the_ninth() -> None:
    ids = [item.id for item in questions("03_domain_adaptation")]
    assert ids.index("03-9") < ids.index("03-10")
    assert ids == sorted(ids, key=lambda name: int(name[3:])) != sorted(ids)
    assert question("03-10") is not question("03-1")


@pytest.mark.parametrize("wrong_id", ["03-010", "03-100", "3-10", "03-10 "])
def test_near_misses_are_unknown_and_name_the_right_one(wrong_id: str) -> None:
    with pytest.raises(CourseError, match='"03-10"'):
        question(wrong_id)


def test_passing_the_tenth_does_not_pass_the_first(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session.check("03-10", answers().islice_of_two_forevers)
    assert session.ready("03-10")
    assert not session.ready("03-1")
    assert capsys.readouterr().out == "✅ 03-10 合格\n⏭ 03-1 が未完成です\n"
    assert progress.load()["questions"].keys() == {"03-10"}


def test_progress_and_log_keep_the_two_apart(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLKIT_CHECK_LOG", str(work / "log.jsonl"))
    session.check("03-1", *[...] * len(question("03-1").answers))
    session.check("03-10", answers().islice_of_two_forevers)
    states = {name: entry["state"] for name, entry in progress.load()["questions"].items()}
    assert states == {"03-1": "untouched", "03-10": "passed"}
    logged = [json.loads(line) for line in (work / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["question"], line["state"]) for line in logged] == [("03-1", "untouched"), ("03-10", "passed")]


def test_hints_are_counted_apart(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session.hint("03-1")
    session.hint("03-1")
    capsys.readouterr()
    session.hint("03-10")
    out = capsys.readouterr().out
    assert out.startswith("💡 03-10 ヒント 1/3（方針）")
    assert 'hint("03-10", 2)' in out


def test_check_cells_are_found_by_the_whole_id() -> None:
    sources = ['check("03-10", pair_batches)', 'check("03-1", f)', 'check("03-10", pair_batches', 'check("03-1", f']
    cells = [{"cell_type": "code", "source": source} for source in sources]
    assert _check_cells("03-1", {"cells": cells}) == [2, 4]
    assert _check_cells("03-10", {"cells": cells}) == [1, 3]


def test_the_solution_regions_do_not_mix() -> None:
    """変異の検査が切り出す解答の範囲。"""
    first, tenth = solution("03-1")[1], solution("03-10")[1]
    assert first
    assert tenth
    assert not set(first) & set(tenth)
    assert max(end for _, end in first) < min(start for start, _ in tenth)
