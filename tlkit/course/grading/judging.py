"""檻の外での判定: 檻から出た記録を、同じ種で作り直した入力と照らし、点数と返事を決める。

判定は `checks/harness.py` の decide、返事の文の決まりは `feedback.py` にある。学習者のコードはここでは動かない。
同じ記録からは、いつも同じ結果ができる。決める順番や、並んで動く数には左右されない。
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from tlkit.course.checks import harness
from tlkit.course.checks.question import Question, Verdict
from tlkit.course.grading import feedback
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Feedback, Outcome, Result, Step

_ALONE = threading.Lock()  # 判定は乱数の状態などプロセス全体の設定を使うので、一度に一つだけ行う


@dataclass(frozen=True)
class Public:
    """公開された種で、別の檻を使って動かし直した結果。

    Attributes:
        outcome: 檻から出たもの。
        cells: 問題の id → その答えがそろうセルの id。
    """

    outcome: Outcome = field(default_factory=Outcome)
    cells: Mapping[str, str] = field(default_factory=dict)


def judge(outcome: Outcome, assignment: Assignment, seeds: Mapping[str, int], public: Public | None = None) -> Result:
    """一つの提出を判定する。

    Args:
        outcome: 隠した入力の檻から出たもの。
        assignment: 採点する演習。
        seeds: 問題の id → 隠した入力の種。
        public: 公開された種で動かし直した結果。返事の文にだけ使い、点数には使わない。
    """
    points: dict[str, int | None] = {}
    replies: dict[str, Feedback] = {}
    notes = list(outcome.notes)
    for question in assignment.questions:
        claim = outcome.claims.get(question.id)
        if claim is None:
            points[question.id], replies[question.id] = _unanswered(question, outcome, public)
            continue
        verdict = _decide(question, claim, seeds[question.id])
        points[question.id] = question.points if verdict.passed else 0
        replies[question.id] = _reply(question, claim, verdict, public)
        notes += _notes(question, verdict, public)
    return _result(outcome, assignment, points, replies, notes)


def to_explain(outcome: Outcome, assignment: Assignment, seeds: Mapping[str, int]) -> tuple[str, ...]:
    """公開された種で動かし直すと、返事が詳しくなる問題の id。"""
    found = []
    for question in assignment.questions:
        claim = outcome.claims.get(question.id)
        if claim is None:
            wanted = _reason(outcome, question) == "missing"
        else:
            wanted = not feedback.is_fixed(claim) and not _decide(question, claim, seeds[question.id]).passed
        if wanted:
            found.append(question.id)
    return tuple(found)


def public_program(program: tuple[Step, ...], questions: tuple[str, ...]) -> tuple[Step, ...]:
    """動かし直すセル。返事の要る最後の問題より後のセルは動かさない。"""
    places = [place for place, step in enumerate(program) if step.question in questions]
    return program[: max(places) + 1] if places else ()


def public_seeds(questions: tuple[str, ...]) -> dict[str, int]:
    """学習者の `check` が使う、公開された種。"""
    return dict.fromkeys(questions, harness.SEED)


def needs_human(reason: str, notes: tuple[str, ...] = ()) -> Result:
    """人に回す提出の結果。点数は付かない。"""
    return Result("needs_human", reason=reason, notes=notes)


def infra_error(reason: str) -> Result:
    """採点の側の故障。点数は付かず、次に採点するときにやり直す。"""
    return Result("infra_error", reason=reason)


def _result(
    outcome: Outcome,
    assignment: Assignment,
    points: dict[str, int | None],
    replies: dict[str, Feedback],
    notes: list[str],
) -> Result:
    told = tuple(dict.fromkeys(notes))
    known = [point for point in points.values() if point is not None]
    if outcome.limit is None and len(known) == len(assignment.questions):
        return Result("graded", points, sum(known), replies, "", told)
    stopped = [f"{name}: {replies[name].message}" for name, point in points.items() if point is None]
    return Result("limit", points, None, replies, outcome.detail or "\n".join(stopped), told)


def _unanswered(question: Question, outcome: Outcome, public: Public | None) -> tuple[int | None, Feedback]:
    """記録のない問題。提出の誤りなら 0 点、上限で止めたなら点数なし。"""
    reason = _reason(outcome, question)
    if reason == "missing":
        cell = public.cells.get(question.id, "") if public else ""
        return 0, feedback.missing(question, public.outcome.errors.get(cell, "") if public else "")
    if reason == "refused":
        return 0, feedback.refused()
    return None, feedback.stopped(reason, outcome.limit)


def _reason(outcome: Outcome, question: Question) -> str:
    return outcome.reasons.get(question.id, "missing" if outcome.limit is None else "not-reached")


def _reply(question: Question, claim: harness.Claim, verdict: Verdict, public: Public | None) -> Feedback:
    if verdict.passed:
        return Feedback("passed", "合格")
    if feedback.is_fixed(claim):
        return feedback.fixed(claim)
    again = _public_verdict(question, public)
    if again is None or again.passed:
        return feedback.unexplained(question, verdict, passes_public=again is not None)
    return feedback.explained(again)


def _notes(question: Question, verdict: Verdict, public: Public | None) -> Iterator[str]:
    """採点者への知らせ。隠した入力から計算した値は含めない。"""
    if verdict.code == "judge-error":
        yield f"{question.id} の答えは想定と違う形で、判定の途中で例外が起きました（0 点）。ノートブックを確かめてください。"
    again = _public_verdict(question, public)
    if not verdict.passed and again is not None and again.passed:
        yield (
            f"{question.id} は、check の入力では合格し、採点用の入力では不合格でした。"
            "値の決め打ちか、動かすたびに変わる答えかもしれません。"
        )


def _public_verdict(question: Question, public: Public | None) -> Verdict | None:
    claim = public.outcome.claims.get(question.id) if public else None
    return None if claim is None else _decide(question, claim, harness.SEED)


def _decide(question: Question, claim: harness.Claim, seed: int) -> Verdict:
    with _ALONE, _one_thread():
        return harness.decide(question, claim, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """計算を 1 本のスレッドで行う。足す順番が変わって、表示する桁がずれるのを防ぐ。"""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
