"""tests/answers の全部の答えを判定し、正しいものが通り、誤りがその名前の診断で落ちることを確かめる。"""

from collections import Counter

import pytest
from answer_kit import Case, load_cases

from tlkit.course.checks.harness import evaluate
from tlkit.course.checks.registry import all_questions, question

CASES = load_cases()
SPECIAL = {"passed", "untouched", "borrowed"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_answer_gets_its_own_verdict(case: Case) -> None:
    verdict, claim, _ = evaluate(question(case.question), case.make())
    assert verdict.code == case.expected, f"{verdict.message}\n{claim.error}"
    assert verdict.passed == (case.expected == "passed")
    assert len(verdict.message) <= 600


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 7, 2**31 - 1])
def test_the_verdict_does_not_depend_on_the_seed(seed: int) -> None:
    """採点では秘密の種を使う。どの種でも同じ診断が出ること。"""
    found = {case.id: evaluate(question(case.question), case.make(), seed)[0].code for case in CASES}
    assert found == {case.id: case.expected for case in CASES}


@pytest.mark.parametrize("item", all_questions(), ids=lambda item: item.id)
def test_enough_answers_per_question(item) -> None:
    expected = [case.expected for case in CASES if case.question == item.id]
    mistakes = [code for code in expected if code not in SPECIAL]
    assert expected.count("passed") >= 2
    assert len(mistakes) >= 5
    assert expected.count("untouched") >= 1
    assert len(set(mistakes)) >= 5, "違う誤りには、違う診断が要る"
    assert Counter(mistakes).most_common(1)[0][1] <= max(2, len(mistakes) // 5), "一つの診断に誤りが集まりすぎている"


def test_every_answer_file_belongs_to_a_question() -> None:
    assert {case.question for case in CASES} <= {item.id for item in all_questions()}


def test_case_names_are_unique() -> None:
    assert max(Counter(case.id for case in CASES).values()) == 1
