import json

import pytest

from tlkit.course.checks.harness import Claim, to_json
from tlkit.course.grading import claims

GOOD = json.loads(to_json(Claim("99-1", "done", {"value": 1.0})))


@pytest.mark.parametrize(
    "change",
    [
        {"question": "99-2"},
        {"state": "passed"},
        {"state": ["done"]},
        {"borrowed": "x"},
        {"borrowed": [1]},
        {"borrowed": ["x"] * 1000},
        {"mutated": None},
        {"printed": 5},
        {"printed": "p" * 5000},
        {"error": "text"},
        {"error": {"type": 5}},
        {"error": {"message": "m" * 9000}},
        {"error": {"line": "3"}},
        {"error": {"index": True}},
        {"error": {"more": 1}},
        {"extra": 1},
    ],
)
def test_a_claim_of_another_shape_is_refused(change):
    assert claims.claim(json.dumps(GOOD), "99-1") == Claim("99-1", "done", {"value": 1.0})
    assert claims.claim(json.dumps(GOOD | change), "99-1") is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "{}",
        "[" * 100_000,
        json.dumps(GOOD).replace("1.0", "1e400"),
        json.dumps(GOOD).replace("1.0", "NaN"),
        json.dumps(GOOD).replace("1.0", "9" * 5000),
        json.dumps(GOOD | {"data": "x" * 1_000_000}),
        json.dumps(GOOD | {"data": [0] * 300_000}),
        json.dumps(GOOD)[:-1] + ', "state": "done"}',
    ],
    ids=range(11),
)
def test_a_claim_that_is_not_plain_data_is_refused(text):
    assert claims.claim(text, "99-1") is None


@pytest.mark.parametrize("value", ["missing", "timeout", "memory", "refused", "crash:SIGSEGV"])
def test_known_reasons_are_kept(value):
    assert claims.reason(value) == value


@pytest.mark.parametrize("value", [None, 5, "", "crash:", "crash:<script>", "採点済み", "missing\n"])
def test_unknown_reasons_are_dropped(value):
    assert claims.reason(value) is None


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"\xff", "あ".encode(), b"NaN", b'{"a": NaN}', b'{"a":1,"a":2}', b"[" * 99999]
)
def test_a_line_that_is_no_dictionary_is_no_frame(line):
    assert claims.frame(line) is None


def test_the_text_of_an_error_is_bounded_and_free_of_addresses():
    text = claims.error_text({"type": "ValueError", "message": "<f at 0x7f00aa12bc>" + "x" * 10_000, "line": 1})
    assert text.startswith("ValueError: <f at 0x…>") and len(text) < 400
    assert claims.error_text("x") == "誤り" and claims.error_text({"type": 5}) == "誤り"
