"""判定の小さな道具。破れた最初の性質だけが診断になること。"""

import math
from typing import Any

import pytest

from tlkit.course.checks.findings import close, first, first_raised, not_a_number


def record(kind: str, shape: list[int] | None = None) -> dict[str, Any]:
    return {"kind": kind, "type": kind, "shape": shape or [], "value": 0.0}


def error(index: int) -> dict[str, Any]:
    return {"error": {"type": "ValueError", "message": "だめ", "line": 3, "index": index}}


def test_the_first_finding_becomes_the_verdict() -> None:
    verdict = first(iter([("one", "一つ目"), ("two", "二つ目")]))
    assert verdict is not None
    assert (verdict.passed, verdict.code, verdict.message) == (False, "one", "一つ目")
    assert first(iter([])) is None


def test_later_findings_are_not_even_computed() -> None:
    def findings() -> Any:
        yield "one", "一つ目"
        raise AssertionError("続きを計算しました")

    assert first(findings()) is not None


def test_the_first_error_keeps_its_cause_and_says_when() -> None:
    verdict = first_raised({"fine": record("number"), "a": error(4), "b": error(5)}, "N ≠ M のとき、")
    assert verdict is not None
    assert (verdict.code, verdict.cause) == ("raised", 4)
    assert verdict.message.startswith("N ≠ M のとき、答えの3行目で")
    assert first_raised({"fine": record("number")}) is None


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        (record("number"), []),
        (record("array"), []),
        (record("tensor"), []),
        (record("other"), ["not-number"]),
        (record("tensor", [1]), ["not-scalar"]),
        (record("array", [2, 3]), ["not-scalar"]),
        (error(0), []),
    ],
)
def test_what_counts_as_one_number(given: dict[str, Any], codes: list[str]) -> None:
    assert [code for code, _ in not_a_number({"case": given}, "LEEP")] == codes


def test_close_is_relative_above_one_and_never_true_for_nan() -> None:
    assert close(1000.5, 1000)
    assert not close(1002.0, 1000)
    assert not close(0.002, 0.0)
    assert not close(math.nan, math.nan)
