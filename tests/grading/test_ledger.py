import dataclasses
import json

from cage_kit import SMALL

from tlkit.course.checks.harness import Claim, to_json
from tlkit.course.grading.ledger import Ledger
from tlkit.course.grading.model import Step


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
