"""一つの提出を採点する手順: 次にどの種で、どこまで動かすかと、最後の判定。

1. 隠した入力で動かす。
2. 不合格で、文の決まった診断でない問題は、公開された種で動かし直し、返事の文に使う。
3. 乱数らしい印のある問題は、同じ隠した入力で、もう一度（結果が違えば、もう二度）動かす（`stability.py`）。

檻には一度に一つの回だけを送る。送るのは `coordinator.py` である。
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from tlkit.course.checks import harness
from tlkit.course.grading import judging, stability
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Limits, Outcome, Result, Step
from tlkit.course.grading.verdicts import Verdicts


@dataclass(frozen=True)
class Run:
    """檻の一回分。

    Attributes:
        kind: 隠した入力か、公開された種か。
        program: 動かすセル。
        seeds: 問題の id → 種。
    """

    kind: Literal["hidden", "public"]
    program: tuple[Step, ...]
    seeds: dict[str, int]


@dataclass(frozen=True)
class Job:
    """進行中の一つの提出。

    Attributes:
        attempt: 記録の番号。
        assignment: 採点する演習。
        program: 動かすセル。
        seeds: 隠した入力の種。
        notes: 照合の知らせ。
        hidden: 隠した入力で動かした結果。
        public: 公開された種で動かした結果。まだなら None。
        alone: ほかの提出が終わった後に、一つだけで動かす番か。
        verdicts: これまでに決めた合否。
    """

    attempt: int
    assignment: Assignment
    program: tuple[Step, ...]
    seeds: dict[str, int]
    notes: tuple[str, ...] = ()
    hidden: tuple[Outcome, ...] = ()
    public: Outcome | None = None
    alone: bool = False
    verdicts: Verdicts = field(default_factory=Verdicts)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """これまでの全部の回。"""
        return self.hidden if self.public is None else (*self.hidden, self.public)

    def next_run(self) -> Run | None:
        """次の回。もう動かさなくてよければ None。"""
        if not self.hidden:
            return self._run("hidden", self.program, self.seeds)
        wanted = judging.to_explain(self.hidden[0], self.assignment, self.seeds, self.verdicts)
        if self.public is None:
            return self._partly("public", wanted, judging.public_seeds(wanted))
        if len(self.hidden) == stability.RUNS or self.hidden[0].limit is not None:
            return None
        doubtful = tuple(name for name in wanted if self._doubtful(name))
        return self._partly("hidden", doubtful, {name: self.seeds[name] for name in doubtful})

    def with_outcome(self, run: Run, outcome: Outcome) -> "Job":
        """回の結果を加えたもの。"""
        if run.kind == "public":
            return replace(self, public=outcome)
        return replace(self, hidden=(*self.hidden, outcome))

    def result(self, limits: Limits) -> Result:
        """判定する。"""
        cells = {step.question: step.id for step in self.program if step.question is not None}
        public = None if self.public is None else judging.Public(self.public, cells)
        first, *again = self.hidden
        result = judging.judge(first, self.assignment, self.seeds, public, tuple(again), limits, self.verdicts)
        return replace(result, notes=tuple(dict.fromkeys([*self.notes, *result.notes])))

    def _partly(self, kind: Literal["hidden", "public"], wanted: tuple[str, ...], seeds: dict[str, int]) -> Run | None:
        return self._run(kind, judging.public_program(self.program, wanted), seeds) if wanted else None

    def _run(self, kind: Literal["hidden", "public"], program: tuple[Step, ...], seeds: dict[str, int]) -> Run:
        """公開された種の回も、隠した入力の二度目と同じ乱数の種で始める。種に頼る答えが、余分な費用なしに分かる。"""
        number = 1 if kind == "public" else len(self.hidden)
        return Run(kind, (stability.luck(number), *program), seeds)

    def _doubtful(self, name: str) -> bool:
        """動かし直して、結果が変わるかを調べるか。"""
        if len(self.hidden) > 1:
            return stability.differ(name, self.hidden)
        return self._better_in_public(name) or stability.mentions_random(self.program, name, self.assignment)

    def _better_in_public(self, name: str) -> bool:
        claim = self.public.claims.get(name) if self.public is not None else None
        if claim is None:
            return False
        if name not in self.hidden[0].claims:
            return True
        question = next(one for one in self.assignment.questions if one.id == name)
        return self.verdicts.of(question, claim, harness.SEED).passed


def stopped_by_time(outcome: Outcome) -> bool:
    """時間の上限で、全体か、ある問題を止めたか。"""
    return outcome.limit == "wall" or "timeout" in outcome.reasons.values()
