"""檻の外での判定: 檻から出た記録を、同じ種で作り直した入力と照らし、点数と返事を決める。

合否は `verdicts.py`、不安定な答えは `stability.py`、返事の文の決まりは `feedback.py` にある。学習者のコードはここでは動かない。
同じ記録からは、いつも同じ結果ができる。決める順番や、並んで動く数には左右されない。
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tlkit.course.checks import harness
from tlkit.course.checks.question import Question, Verdict
from tlkit.course.grading import allowance, feedback, stability
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Feedback, Limits, Outcome, Result, Step
from tlkit.course.grading.verdicts import Verdicts


@dataclass(frozen=True)
class Public:
    """公開された種で、別の檻を使って動かし直した結果。

    Attributes:
        outcome: 檻から出たもの。
        cells: 問題の id → その答えがそろうセルの id。
    """

    outcome: Outcome = field(default_factory=Outcome)
    cells: Mapping[str, str] = field(default_factory=dict)


def judge(
    outcome: Outcome,
    assignment: Assignment,
    seeds: Mapping[str, int],
    public: Public | None = None,
    again: tuple[Outcome, ...] = (),
    limits: Limits | None = None,
    verdicts: Verdicts | None = None,
) -> Result:
    """一つの提出を判定する。

    Args:
        outcome: 隠した入力の檻から出たもの。
        assignment: 採点する演習。
        seeds: 問題の id → 隠した入力の種。
        public: 公開された種で動かし直した結果。返事の文にだけ使い、点数には使わない。
        again: 同じ隠した入力で動かし直した結果。合否が分かれた問題には、点数を付けない。
        limits: 許した量。上限で止めたときの文に使う。
        verdicts: これまでに決めた合否。
    """
    return _Bench(outcome, assignment, seeds, public, again, limits or Limits(), verdicts or Verdicts()).result()


def to_explain(
    outcome: Outcome, assignment: Assignment, seeds: Mapping[str, int], verdicts: Verdicts | None = None
) -> tuple[str, ...]:
    """公開された種で動かし直すと、返事が詳しくなる問題の id。"""
    known = verdicts or Verdicts()
    found = []
    for question in assignment.questions:
        claim = outcome.claims.get(question.id)
        if claim is None:
            wanted = _reason(outcome, question) == "missing"
        else:
            wanted = not feedback.is_fixed(claim) and not known.of(question, claim, seeds[question.id]).passed
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


def _reason(outcome: Outcome, question: Question) -> str:
    return outcome.reasons.get(question.id, "missing" if outcome.limit is None else "not-reached")


@dataclass(frozen=True)
class _Bench:
    """判定の途中。属性の意味は `judge` の引数と同じ。"""

    outcome: Outcome
    assignment: Assignment
    seeds: Mapping[str, int]
    public: Public | None
    again: tuple[Outcome, ...]
    limits: Limits
    verdicts: Verdicts

    def result(self) -> Result:
        """点数と返事をまとめる。"""
        points: dict[str, int | None] = {}
        replies: dict[str, Feedback] = {}
        notes = list(self.outcome.notes)
        unstable: list[str] = []
        for question in self.assignment.questions:
            points[question.id], replies[question.id] = self._answer(question)
            notes += self._notes(question)
            if counts := self._split(question):
                points[question.id], replies[question.id] = None, feedback.unstable(question.id, counts)
                unstable.append(feedback.unstable_reason(question.id, counts))
        told = tuple(dict.fromkeys(notes))
        known = [point for point in points.values() if point is not None]
        if unstable:
            return Result("needs_human", points, None, replies, "\n".join(unstable), told)
        if self.outcome.limit is None and len(known) == len(self.assignment.questions):
            return Result("graded", points, sum(known), replies, "", told)
        stopped = [f"{name}: {replies[name].message}" for name, point in points.items() if point is None]
        return Result("limit", points, None, replies, self.outcome.detail or "\n".join(stopped), told)

    def _answer(self, question: Question) -> tuple[int | None, Feedback]:
        claim = self.outcome.claims.get(question.id)
        if claim is None:
            return self._unanswered(question)
        verdict = self.verdicts.of(question, claim, self.seeds[question.id])
        return (question.points if verdict.passed else 0), self._reply(question, claim, verdict)

    def _unanswered(self, question: Question) -> tuple[int | None, Feedback]:
        """記録のない問題。提出の誤りなら 0 点、上限で止めたなら点数なし。"""
        reason = _reason(self.outcome, question)
        if reason == "missing":
            cell = self.public.cells.get(question.id, "") if self.public else ""
            return 0, feedback.missing(question, self.public.outcome.errors.get(cell, "") if self.public else "")
        if reason == "refused":
            return 0, feedback.refused()
        allowed = allowance.probe(self.limits, question.id)
        return None, feedback.stopped(reason, self.outcome.limit, allowed.said)

    def _reply(self, question: Question, claim: harness.Claim, verdict: Verdict) -> Feedback:
        if verdict.passed:
            return Feedback("passed", "合格")
        if feedback.is_fixed(claim):
            return feedback.fixed(claim)
        again = self._public_verdict(question)
        if again is None or again.passed:
            reply = feedback.unexplained(question, verdict, passes_public=again is not None)
        else:
            reply = feedback.explained(again)
        return feedback.wobbling(reply) if self._wobbles(question) else reply

    def _notes(self, question: Question) -> Iterator[str]:
        """採点者への知らせ。隠した入力から計算した値は含めない。"""
        claim = self.outcome.claims.get(question.id)
        if claim is None:
            return
        verdict = self.verdicts.of(question, claim, self.seeds[question.id])
        if verdict.passed and verdict.code == "noted":
            yield f"{question.id}: {verdict.message}"
        if verdict.code == "judge-error":
            yield f"{question.id} の答えは想定と違う形で、判定の途中で例外が起きました（0 点）。ノートブックを確かめてください。"
        again = self._public_verdict(question)
        if self._wobbles(question):
            yield (
                f"{question.id} は、同じ入力でも、動かすたびに結果が変わります"
                f"（不安定。{len(self._runs(question))} 回とも不合格なので 0 点）。"
            )
        elif not verdict.passed and again is not None and again.passed and not self._split(question):
            yield (
                f"{question.id} は、check の入力では合格し、採点用の入力では不合格でした。"
                "値の決め打ちか、決まった大きさでだけ動く書き方かもしれません。"
            )

    def _runs(self, question: Question) -> list[Outcome]:
        return [self.outcome, *stability.runs_of(question.id, self.again)]

    def _wobbles(self, question: Question) -> bool:
        """合否は変わらないが、動かすたびに結果が変わるか。"""
        return not self._split(question) and stability.differ(question.id, self._runs(question))

    def _split(self, question: Question) -> str:
        """動かすたびに合否が変わるなら、その内訳。変わらなければ空。"""
        runs = [self._standing(question, one) for one in self._runs(question)]
        if len(set(runs)) == 1:
            return ""
        parts = [f"{runs.count(name)} 回{said}" for name, said in _STANDINGS.items() if name in runs]
        return f"{len(runs)} 回のうち {'、'.join(parts)}"

    def _standing(self, question: Question, outcome: Outcome) -> str:
        claim = outcome.claims.get(question.id)
        if claim is None:
            return "failed" if _reason(outcome, question) in ("missing", "refused") else "stopped"
        return "passed" if self.verdicts.of(question, claim, self.seeds[question.id]).passed else "failed"

    def _public_verdict(self, question: Question) -> Verdict | None:
        claim = self.public.outcome.claims.get(question.id) if self.public else None
        return None if claim is None else self.verdicts.of(question, claim, harness.SEED)


_STANDINGS = {"passed": "合格", "failed": "不合格", "stopped": "上限で停止"}
