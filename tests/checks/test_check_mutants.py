"""解答の変異がほぼすべて落ちること。落ちない変異は、意味が同じ理由とともに EQUIVALENT に挙げてあること。"""

import pytest
from answer_kit import ANSWERS, module_from
from mutants import execute, mutants, solution

from tlkit.course.checks.harness import evaluate
from tlkit.course.checks.registry import all_questions

LEAST = 0.95
CRASHES = {"raised", "untouched", "unfinished", "returned-none", "judge-error"}  # 判定の値打ちにならない落ち方


def equivalents(question_id: str) -> dict[str, str]:
    chapter, number = question_id.split("-")
    path = ANSWERS / chapter / f"q{chapter}_{number}.py"
    return module_from(path, f"equivalents_{path.stem}").EQUIVALENT


@pytest.mark.parametrize("item", all_questions(), ids=lambda item: item.id)
def test_the_unchanged_solution_passes(item) -> None:
    verdict, _, _ = evaluate(item, execute(solution(item.id)[0], item.answers))
    assert verdict.passed, verdict.message


@pytest.mark.slow
@pytest.mark.parametrize("item", all_questions(), ids=lambda item: item.id)
def test_mutants_are_rejected(item) -> None:
    made = mutants(item.id, item.answers)
    survivors, diagnosed = [], 0
    for mutant in made:
        try:
            answers = mutant.answers()
        except Exception:  # 定義する前に壊れた変異。確認まで届かない
            continue
        verdict, _, _ = evaluate(item, answers)
        diagnosed += verdict.code not in CRASHES
        if verdict.passed:
            survivors.append(mutant.name)
    known = equivalents(item.id)
    print(f"{item.id}: 変異 {len(made)}、落とした {len(made) - len(survivors)}、例外で止まらなかった {diagnosed}")
    assert set(survivors) - set(known) == set(), (
        "見逃された変異があります。確認を強めるか、同じ意味である理由を挙げてください"
    )
    assert set(known) - set(survivors) == set(), "EQUIVALENT に、もう生き残らない変異があります。消してください"
    assert len(survivors) <= (1 - LEAST) * diagnosed, "例外で止まる変異は数えずに、95 % 以上を落とすこと"
    assert all(len(reason) >= 5 for reason in known.values())
    assert diagnosed >= 20, "変異が少なすぎます"
