"""動かすたびに変わる答え（不安定な答え）を見つける。

不合格の答えのうち、乱数らしい印のあるものだけを、同じ隠した入力で、新しい檻を使ってもう一度動かす。印は次の三つである。

1. 採点用の入力では不合格なのに、公開された種では合格した（または、公開された種でだけ答えがそろった）。
2. 答えが頼りうる学習者のコードに、乱数、時刻、並行処理を使う語がある。
3. 二度目の記録が、一度目と違った。このときだけ三度目を動かす。

合否が分かれれば、点数を付けずに人に回す。二度目が一度目と同じなら、そこで止める。誤りの多くは同じ結果になるので、費用は小さい。

セルで使う乱数は、種を固定していなくても、檻を始めるときに決まった種を置く（`luck`）。採点し直すと同じ結果になり、
動かし直すときには違う種を置くので、種に頼る答えが分かる。

限界: 一度目に合格した答えは動かし直さないので、たまたま合格した答えは合格のままである。印が一つもなければ、
たまたま不合格になった答えも 0 点になる。
"""

import re
from collections.abc import Sequence

from tlkit.course.checks.harness import Claim, to_json
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Outcome, Step
from tlkit.course.grading.snippets import facts

RUNS = 3  # 隠した入力で動かす回数の上限
_RANDOM = re.compile(
    r"rand|shuffle|permut|choice|dropout|urandom|uuid|secrets|default_rng|"
    r"\btime\b|perf_counter|monotonic|datetime|thread|multiprocess|concurrent",
    re.IGNORECASE,
)
_TORCH_SEED = 67280421310721  # 始めたばかりの torch の種
_LUCK = """__import__("random").seed({number})
__import__("numpy").random.seed({number})
__import__("torch").default_generator.manual_seed({torch})"""


def luck(number: int) -> Step:
    """最初のセル。種を固定しない乱数の出方を、回ごとに決める。"""
    return Step("（乱数の種）", _LUCK.format(number=number, torch=_TORCH_SEED + number))


def mentions_random(program: Sequence[Step], question: str, assignment: Assignment) -> bool:
    """その問題の答えまでの、答えが頼りうるセル（学習者が書いたもの）に、乱数などを使う語があるか。"""
    released = {cell.source for cell in assignment.cells}
    cells = _relied_on(program, question)
    return any(step.source not in released and _RANDOM.search(step.source) for step in cells)


def _relied_on(program: Sequence[Step], question: str) -> list[Step]:
    """その問題の答えまでのセルから、ほかの問題の答えで、作った名前を使っていないものを除く。"""
    places = [place for place, step in enumerate(program) if step.question == question]
    before = list(program[: max(places) + 1] if places else program)
    others = [step for step in before if step.question not in (None, question) and facts(step.source).parses]
    used = [step for step in before if step not in others]
    read = {name for step in used for name in facts(step.source).reads}
    while found := [step for step in others if facts(step.source).names & read]:
        used += found
        others = [step for step in others if step not in found]
        read |= {name for step in found for name in facts(step.source).reads}
    return used


def runs_of(question: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """その問題の答えを求めた回。"""
    return [one for one in outcomes if question in one.claims or question in one.reasons]


def differ(question: str, outcomes: Sequence[Outcome]) -> bool:
    """その問題の記録が、回によって違うか。印字や例外の文の違いは数えない。"""
    runs = runs_of(question, outcomes)
    return len(runs) > 1 and len({_fingerprint(one, question) for one in runs}) > 1


def _fingerprint(outcome: Outcome, question: str) -> str:
    claim = outcome.claims.get(question)
    if claim is None:
        return outcome.reasons.get(question, "")
    return to_json(Claim(question, claim.state, claim.data, None, claim.borrowed, claim.mutated))
