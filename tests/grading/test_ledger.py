import dataclasses
import json

from cage_kit import SMALL

from tlkit.course.checks.harness import Claim, to_json
from tlkit.course.grading.ledger import Ledger, order
from tlkit.course.grading.model import Pace, Step


def _ledger(**changes):
    program = [Step("a", ""), Step("b", "", "99-1")]
    return Ledger(program, {"99-1": 7}, dataclasses.replace(SMALL, **changes))


def _hear(ledger, now=0.0, **frame):
    return ledger.hear(json.dumps(frame).encode(), now)


def test_a_seed_is_given_once_and_only_after_its_cell():
    ledger = _ledger()
    _hear(ledger, event="start")
    assert _hear(ledger, event="ready", question="99-1") is None
    _hear(ledger, event="cell", id="a", ok=True)
    assert _hear(ledger, event="ready", question="99-1") is None
    _hear(ledger, event="cell", id="b", ok=True)
    assert json.loads(_hear(ledger, event="ready", question="99-1")) == {"seed": 7}
    assert _hear(ledger, event="ready", question="99-1") is None


def test_the_first_claim_after_the_seed_counts():
    ledger = _ledger()
    early, first, second = (to_json(Claim("99-1", "done", value)) for value in (0, 1, 2))
    _hear(ledger, event="claim", question="99-1", claim=early, reason=None)
    _hear(ledger, event="cell", id="a", ok=True)
    _hear(ledger, event="cell", id="b", ok=True)
    _hear(ledger, event="ready", question="99-1")
    _hear(ledger, event="claim", question="99-1", claim=first, reason=None)
    _hear(ledger, event="claim", question="99-1", claim=second, reason=None)
    outcome = ledger.outcome(0, 0)
    assert outcome.claims["99-1"].data == 1
    assert len(outcome.notes) == 2


def test_time_of_a_cell_is_counted_from_the_report_before():
    ledger = _ledger(cell_seconds=5)
    _hear(ledger, now=100.0, event="start")
    _hear(ledger, now=104.0, event="cell", id="a", ok=True)
    ledger.check_time(108.0)
    assert not ledger.ended
    ledger.check_time(109.1)
    assert ledger.ended and ledger.outcome(0, 0).limit == "wall"


def test_an_end_before_the_last_cell_is_no_missing_answer():
    ledger = _ledger()
    _hear(ledger, event="start")
    _hear(ledger, event="cell", id="a", ok=True)
    _hear(ledger, event="done")
    outcome = ledger.outcome(0, 0)
    assert (ledger.ended, outcome.limit, outcome.reasons) == (True, "crash", {"99-1": "not-reached"})


def test_an_end_after_the_last_cell_is_the_end():
    ledger = _ledger()
    for cell in ("a", "b"):
        _hear(ledger, event="cell", id=cell, ok=True)
    _hear(ledger, event="done")
    outcome = ledger.outcome(0, 0)
    assert (ledger.ended, outcome.limit, outcome.reasons) == (True, None, {"99-1": "missing"})


def test_a_record_that_was_asked_for_and_lost_is_not_called_missing():
    ledger = _ledger()
    for cell in ("a", "b"):
        _hear(ledger, event="cell", id=cell, ok=True)
    _hear(ledger, event="ready", question="99-1")
    assert ledger.hear(b"noise" + json.dumps({"event": "claim", "question": "99-1"}).encode(), 0.0) is None
    _hear(ledger, event="done")
    assert ledger.outcome(0, 0).reasons == {"99-1": "refused"}


PACE = Pace((("a", 3.0), ("b", 20.0)), (("99-1", 8.0),))


def test_a_cell_may_take_five_times_the_solution_and_both_numbers_are_told():
    ledger = _ledger(cell_seconds=5, total_seconds=1000, pace=PACE)
    _hear(ledger, now=100.0, event="start")
    ledger.check_time(114.9)
    assert not ledger.ended
    _hear(ledger, now=114.9, event="cell", id="a", ok=True)
    ledger.check_time(214.8)
    assert not ledger.ended
    ledger.check_time(215.0)
    assert ledger.outcome(0, 0).detail == "セル b の時間が、上限の 100 秒（解答例の 20 秒の 5 倍）を超えました。"


def test_an_answer_may_take_five_times_the_solution_and_a_little_for_the_way_out():
    ledger = _ledger(probe_seconds=5, total_seconds=1000, pace=PACE)
    for cell in ("a", "b"):
        _hear(ledger, event="cell", id=cell, ok=True)
    _hear(ledger, now=10.0, event="ready", question="99-1")
    ledger.check_time(54.9)
    assert not ledger.ended
    ledger.check_time(55.1)
    assert "99-1 の答えを呼ぶ時間が、上限の 40 秒（解答例の 8 秒の 5 倍）" in ledger.outcome(0, 0).detail


def test_the_whole_may_take_five_times_the_solution():
    ledger = _ledger(cell_seconds=1e6, total_seconds=100, pace=PACE)
    _hear(ledger, now=0.0, event="start")
    ledger.check_time(154.9)
    assert not ledger.ended
    ledger.check_time(155.1)
    assert "全体の時間が、上限の 155 秒（解答例の 31 秒の 5 倍）" in ledger.outcome(0, 0).detail


def test_the_time_of_every_cell_and_answer_is_kept():
    ledger = _ledger()
    _hear(ledger, now=1.0, event="start")
    _hear(ledger, now=3.0, event="cell", id="a", ok=True)
    _hear(ledger, now=7.0, event="cell", id="b", ok=True)
    _hear(ledger, now=8.0, event="ready", question="99-1")
    _hear(ledger, now=16.0, event="claim", question="99-1", claim=to_json(Claim("99-1", "done", 1)), reason=None)
    outcome = ledger.outcome(0, 0)
    assert (outcome.cell_seconds, outcome.probe_seconds) == ({"a": 2.0, "b": 4.0}, {"99-1": 8.0})


def test_the_order_for_the_cage_has_the_longer_times_and_not_the_solution():
    limits = dataclasses.replace(SMALL, probe_seconds=5, total_seconds=10, pace=PACE)
    frame = json.loads(order([Step("a", "")], {"99-1": ["x"], "99-2": ["y"]}, limits))
    assert {name: item["seconds"] for name, item in frame["questions"].items()} == {"99-1": 40.0, "99-2": 5.0}
    assert frame["limits"]["total_seconds"] == 155.0
    assert "pace" not in frame["limits"]


def test_notes_do_not_grow_without_bound():
    ledger = _ledger()
    for number in range(1000):
        ledger.note(f"{number}")
    assert len(ledger.outcome(0, 0).notes) < 50


def test_too_much_memory_while_an_answer_is_called_costs_only_that_question():
    ledger = _ledger()
    assert not ledger.forgive("memory", 0.0)
    for cell in ("a", "b"):
        _hear(ledger, event="cell", id=cell, ok=True)
    _hear(ledger, event="ready", question="99-1")
    assert ledger.forgive("memory", 10.0) and not ledger.forgive("disk", 10.0)
    assert not ledger.forgive("memory", 20.0)
    _hear(ledger, event="claim", question="99-1", claim=None, reason="crash:SIGKILL")
    assert ledger.outcome(0, 0).reasons == {"99-1": "memory"}
    assert not ledger.forgive("memory", 10.0)
