import dataclasses
import json
import random

import pytest
from grading_kit import ADD, ASSIGNMENT, BY_ID, DOUBLE, PUBLIC_ONLY, TRIPLE, inline
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit.course.checks import registry
from tlkit.course.checks.harness import SEED, Claim, collect, evaluate
from tlkit.course.checks.question import PASSED, wrong
from tlkit.course.grading.feedback import explained, readable
from tlkit.course.grading.judging import Public, judge, public_program, public_seeds, to_explain
from tlkit.course.grading.model import Feedback, Limits, Outcome, Step
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.tasks import Task

SEEDS = {"01-1": 77001, "01-2": 77002}
CANARY = "CANARY77001"
PUBLIC_PASSES = "採点用の別の入力では不合格"


def run(one, two=ADD, seeds=SEEDS, program=None):
    program = program or (Step("a1", one, "01-1"), Step("a2", two, "01-2"))
    return inline(Task("01_basics", program, seeds, Limits()))


def judged(one, two=ADD):
    """pipeline と同じ手順で、公開された種でも動かす。"""
    program = (Step("a1", one, "01-1"), Step("a2", two, "01-2"))
    outcome = run(one, two)
    wanted = to_explain(outcome, ASSIGNMENT, SEEDS)
    again = run(one, two, public_seeds(wanted), public_program(program, wanted)) if wanted else Outcome()
    return judge(outcome, ASSIGNMENT, SEEDS, Public(again, {"01-1": "a1", "01-2": "a2"}))


def done(value, question="01-1", **changes):
    return dataclasses.replace(Claim(question, "done", {"value": value}), **changes)


def outcome(one=None, **changes):
    """01-1 だけ変えた、ほかは正しい結果。"""
    claims = {"01-2": done(77003.0, "01-2")} | ({"01-1": one} if one else {})
    return dataclasses.replace(Outcome(claims), **changes)


def test_right_answers_get_all_points():
    result = judged(DOUBLE)
    assert (result.state, result.points, result.total) == ("graded", {"01-1": 5, "01-2": 5}, 10)
    assert result.feedback["01-1"] == Feedback("passed", "合格")


def test_a_wrong_answer_loses_only_its_own_points():
    result = judged(TRIPLE)
    assert (result.state, result.points, result.total) == ("graded", {"01-1": 0, "01-2": 5}, 5)


def test_an_answer_to_the_public_input_is_wrong_for_the_hidden_one():
    result = judged(PUBLIC_ONLY)
    assert result.points["01-1"] == 0
    assert PUBLIC_PASSES in result.feedback["01-1"].message
    assert result.feedback["01-1"].code == "value-mismatch"
    assert any("決め打ち" in note for note in result.notes)


def test_the_reply_is_what_check_says_with_the_public_input():
    answer = {}
    exec(TRIPLE, answer)
    verdict = evaluate(BY_ID["01-1"], (answer["mmd2"],))[0]
    assert judged(TRIPLE).feedback["01-1"] == Feedback(verdict.code, verdict.message)
    assert str(float(SEED)) in verdict.message  # 公開された入力の値は、そのまま見せてよい


def test_an_untouched_stub_is_zero_and_says_so():
    result = judged("def mmd2(x):\n    raise NotImplementedError('ここを実装してください')")
    assert (result.state, result.points["01-1"], result.feedback["01-1"].code) == ("graded", 0, "untouched")
    assert result.feedback["01-1"].message.startswith("未着手です。")


def test_a_missing_answer_is_zero_and_shows_the_error_of_its_cell():
    result = judged("1 / 0")
    assert (result.state, result.points["01-1"], result.feedback["01-1"].code) == ("graded", 0, "missing")
    assert "ZeroDivisionError: division by zero" in result.feedback["01-1"].message


@pytest.mark.parametrize("reason", ["timeout", "memory", "crash:SIGSEGV", "crash:exit"])
def test_an_answer_that_had_to_be_stopped_has_no_points_and_no_total(reason):
    result = judge(outcome(reasons={"01-1": reason}), ASSIGNMENT, SEEDS)
    assert (result.state, result.points, result.total) == ("limit", {"01-1": None, "01-2": 5}, None)
    assert result.feedback["01-1"].code == reason.split(":")[0]
    assert "01-1" in result.reason
    assert ("SIGSEGV" in result.feedback["01-1"].message) == (reason == "crash:SIGSEGV")


def test_questions_answered_before_the_limit_keep_their_points():
    stopped = Outcome({"01-1": done(154002.0)}, {"01-2": "not-reached"}, "wall", "時間切れです。")
    result = judge(stopped, ASSIGNMENT, SEEDS)
    assert (result.state, result.points, result.total) == ("limit", {"01-1": 5, "01-2": None}, None)
    assert result.reason == "時間切れです。"
    assert result.feedback["01-2"].code == "not-reached"


def test_a_limit_after_the_last_answer_gives_points_but_no_total():
    result = judge(outcome(done(154002.0), limit="memory", detail="記憶"), ASSIGNMENT, SEEDS)
    assert (result.state, result.points, result.total) == ("limit", {"01-1": 5, "01-2": 5}, None)


def test_a_refused_record_is_a_wrong_answer():
    result = judge(outcome(reasons={"01-1": "refused"}), ASSIGNMENT, SEEDS)
    assert (result.state, result.points["01-1"], result.feedback["01-1"].code) == ("graded", 0, "refused")


def test_a_record_of_an_unexpected_shape_is_wrong_and_noted():
    result = judge(outcome(Claim("01-1", "done", [1, 2])), ASSIGNMENT, SEEDS)
    assert (result.state, result.points["01-1"], result.feedback["01-1"].code) == ("graded", 0, "judge-error")
    assert any("判定の途中" in note for note in result.notes)


HOSTILE = {
    "error": Claim("01-1", "raised", None, {"type": CANARY, "message": CANARY, "line": 77001}),
    "type": Claim("01-1", "raised", None, {"type": CANARY}),
    "borrowed": done(154002.0, borrowed=[f"tlkit.{CANARY}"]),
    "mutated": done(154002.0, mutated=[CANARY]),
    "unusable": Claim("01-1", "unusable", None, {"type": "PlainError", "message": CANARY}),
    "stub": Claim("01-1", "unfinished", None, {"type": "NotImplementedError", "message": CANARY, "index": 0}),
    "untouched": Claim("01-1", "untouched", CANARY, {"message": CANARY}, [CANARY], [CANARY], CANARY),
    "none": Claim("01-1", "returned-none", None, {"message": CANARY}, [], [CANARY]),
    "printed": done(0.0, printed=CANARY),
    "value": done(CANARY),
    "judge-value": done(77001.0),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("public", [None, Public(run(DOUBLE, seeds=public_seeds(("01-1",)))), Public()])
def test_nothing_from_the_cage_with_the_hidden_input_is_shown(name, public):
    result = judge(outcome(HOSTILE[name], errors={"a1": CANARY}), ASSIGNMENT, SEEDS, public)
    assert result.points["01-1"] == 0
    text = result_to_json(result)
    assert "CANARY" not in text
    assert "77001" not in text and "154002" not in text


@pytest.mark.parametrize("reason", [f"crash:{CANARY}", f"timeout:{CANARY}", CANARY, f"not-reached:{CANARY}"])
def test_a_reason_for_stopping_cannot_carry_letters(reason):
    result = judge(outcome(reasons={"01-1": reason}, errors={"a1": CANARY}), ASSIGNMENT, SEEDS)
    assert "CANARY" not in result_to_json(result)
    assert result.points["01-1"] is None


def test_the_error_of_a_cell_in_the_hidden_run_is_not_shown():
    result = judge(outcome(reasons={"01-1": "missing"}, errors={"a1": CANARY}), ASSIGNMENT, SEEDS, Public())
    assert result.points["01-1"] == 0
    assert "CANARY" not in result_to_json(result)


def test_the_judge_would_have_told_the_hidden_input():
    """上の検査が空回りしていないこと: 判定の文そのものには、隠した値が入っている。"""
    assert "77001" in BY_ID["01-1"].judge({"value": 0.0}, {"x": 77001.0}).message


def test_a_diagnosis_name_that_is_no_name_is_hidden():
    def judge_with_a_leak(data, inputs):
        return PASSED if data["value"] == 1 else wrong(f"x is {inputs['x']}", "文")

    question = dataclasses.replace(BY_ID["01-1"], judge=judge_with_a_leak)
    assignment = dataclasses.replace(ASSIGNMENT, questions=(question, BY_ID["01-2"]))
    assert judge(outcome(done(0.0)), assignment, SEEDS).feedback["01-1"].code == "wrong"


def test_only_failed_answers_without_a_fixed_sentence_are_run_again():
    assert to_explain(run(DOUBLE), ASSIGNMENT, SEEDS) == ()
    assert to_explain(run(TRIPLE, "1 / 0"), ASSIGNMENT, SEEDS) == ("01-1", "01-2")
    assert to_explain(outcome(HOSTILE["untouched"]), ASSIGNMENT, SEEDS) == ()
    assert to_explain(outcome(reasons={"01-1": "timeout"}), ASSIGNMENT, SEEDS) == ()
    assert to_explain(Outcome(limit="wall"), ASSIGNMENT, SEEDS) == ()


def test_a_changed_argument_is_explained_even_when_none_was_returned():
    assert to_explain(outcome(HOSTILE["none"]), ASSIGNMENT, SEEDS) == ("01-1",)
    assert judge(outcome(HOSTILE["none"]), ASSIGNMENT, SEEDS).feedback["01-1"].code == "argument-changed"


def test_the_second_run_stops_after_the_last_question_it_needs():
    program = (Step("s", ""), Step("a1", "", "01-1"), Step("x", ""), Step("a2", "", "01-2"), Step("z", ""))
    assert [step.id for step in public_program(program, ("01-1",))] == ["s", "a1"]
    assert [step.id for step in public_program(program, ("01-1", "01-2"))] == ["s", "a1", "x", "a2"]
    assert public_program(program, ()) == ()


def test_the_order_of_the_records_does_not_matter():
    claims = [("01-1", done(3.0)), ("01-2", done(77003.0, "01-2"))]
    results = [judge(Outcome(dict(order)), ASSIGNMENT, SEEDS) for order in (claims, claims[::-1])]
    assert result_to_json(results[0]) == result_to_json(results[1])


def test_judging_does_not_depend_on_the_random_state_before_it():
    question = registry.question("01-1")
    claim = collect(question, (lambda x, y, sigma, estimator: (x.mean() - y.mean()) ** 2,), 5)
    assignment = dataclasses.replace(ASSIGNMENT, questions=(question,))
    texts = set()
    for _ in range(3):
        random.random()
        public = Public(Outcome({"01-1": claim}))
        texts.add(result_to_json(judge(Outcome({"01-1": claim}), assignment, {"01-1": 5}, public)))
    assert len(texts) == 1


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_plain, st.sampled_from(["01-1", "01-2", "01-4"]))
@settings(max_examples=60, deadline=None)
def test_no_record_can_break_the_judge(data, name):
    question = registry.question(name)
    assignment = dataclasses.replace(ASSIGNMENT, questions=(question,))
    claims = {name: Claim(name, "done", data)}
    result = judge(Outcome(claims), assignment, {name: 9}, Public(Outcome(claims)))
    assert (result.state, result.total) == ("graded", 0)
    assert json.loads(result_to_json(result))["points"] == {name: 0}


def test_a_message_is_cleaned_and_cut():
    assert readable("一行目\n\x1b[31m赤\u202e") == "一行目\n\\u001b[31m赤\\u202e"
    assert len(explained(wrong("value", "あ" * 10_000)).message) <= 2000
