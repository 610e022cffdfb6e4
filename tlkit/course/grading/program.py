"""選んだセルを、檻の中で動かす順に並べる。

先に配布版の準備のセルを全部動かし、続けて、学習者が変えた準備・答え・足したコードを配布版の順に置く。
確認のセルと、合格後のセル（`if ready(…):`）は動かさない。ただし答えが使う名前を作るなら、`check(…)` と守りを除いて動かす。
"""

import builtins
import math
from collections.abc import Iterable

from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Step
from tlkit.course.grading.origin import NeedsHumanError
from tlkit.course.grading.parts import Part
from tlkit.course.grading.providers import Choice
from tlkit.course.grading.snippets import facts

_BUILTINS = frozenset(dir(builtins))
_Key = tuple[float, int, int]


def build_program(choice: Choice, assignment: Assignment) -> tuple[Step, ...]:
    """動かすセルを順に返す。

    Raises:
        NeedsHumanError: 答えが、動かさない部分で作られる名前を使っているとき。
    """
    chosen = [part for found in choice.providers.values() for part in found]
    places = _places(choice.parts, assignment)
    run = [part for part in choice.parts if part in chosen or _is_run(part)]
    run += _needed(choice, assignment, chosen, run)
    run.sort(key=lambda part: places[part])
    last = {question: max(found, key=run.index) for question, found in choice.providers.items()}
    steps = [Step(cell.id, cell.source) for cell in assignment.cells if cell.role == "setup"]
    for part in run:
        steps += _steps(part, [question for question, one in last.items() if one is part])
    return _with_unique_ids(steps)


def is_reordered(parts: list[Part], assignment: Assignment) -> bool:
    """答えのセルの並びが、配布版と違うか。"""
    order = {cell.id: index for index, cell in enumerate(assignment.cells)}
    seen = [order[part.home.id] for part in parts if part.number and part.home and part.home.role == "answer"]
    return seen != sorted(seen)


def _is_run(part: Part) -> bool:
    if not part.is_code or not part.runnable.strip():
        return False
    if part.home is None or part.home.role == "text":
        return not part.facts.guarded
    return part.home.role == "answer" or (part.home.role == "setup" and not part.unchanged)


def _needed(choice: Choice, assignment: Assignment, chosen: list[Part], run: list[Part]) -> list[Part]:
    """答えが使う名前を作っている、確認のセルと合格後のセル。"""
    made = {name for cell in assignment.cells if cell.role == "setup" for name in facts(cell.source).names} | _BUILTINS
    idle = [part for part in choice.parts if part.is_code and part not in run]
    needs = _reads(chosen)
    added: list[Part] = []
    while True:
        helpers = [part for part in [*run, *added] if part.names & needs]
        wider = needs | _reads(helpers)
        more = [part for part in idle if part not in added and part.names & (wider - made)]
        if wider == needs and not more:
            break
        needs, added = wider, added + more
    made |= {name for part in [*run, *added] for name in part.names}
    guarded = {name for part in idle for name in part.facts.names}
    if lacking := sorted((needs - made) & guarded):
        raise NeedsHumanError(
            f"答えが、`if ready(…):` の中で作られる名前（{'、'.join(lacking)}）を使っています。"
            "採点ではそこを動かさないので、答えが合っているかをノートブックで確かめてください。"
        )
    return added


def _reads(parts: Iterable[Part]) -> frozenset[str]:
    return frozenset[str]().union(*(facts(part.runnable).reads for part in parts))


def _places(parts: list[Part], assignment: Assignment) -> dict[Part, _Key]:
    """配布版の順での置き場所。足されたセルは、前のセルの後か、後ろのセルの前か、早いほうに置く。"""
    order = {cell.id: float(index) for index, cell in enumerate(assignment.cells)}
    homes = [order[part.home.id] if part.home else None for part in parts]
    following: list[float] = []
    after = math.inf
    for part, home in zip(reversed(parts), reversed(homes), strict=True):
        following.append(after)
        after = home if home is not None and part.number else after
    places: dict[Part, _Key] = {}
    before = -1.0
    for part, home, after in zip(parts, homes, reversed(following), strict=True):
        if home is not None:
            places[part] = (home, 0, part.number)
            before = home if part.number else before
        else:
            places[part] = (before, 1, part.number) if before <= after else (after, -1, part.number)
    return places


def _steps(part: Part, questions: list[str]) -> list[Step]:
    """一つのセルで二問の答えがそろうときは、二問目からを中身のないセルにする。"""
    name = part.home.id if part.home else part.id
    first = questions[0] if questions else None
    more = [Step(f"{name}-{question}", "pass", question) for question in questions[1:]]
    return [Step(name, part.runnable, first), *more]


def _with_unique_ids(steps: list[Step]) -> tuple[Step, ...]:
    used: set[str] = set()
    unique: list[Step] = []
    for step in steps:
        name, count = step.id, 2
        while name in used:
            name, count = f"{step.id}-{count}", count + 1
        used.add(name)
        unique.append(Step(name, step.source, step.question))
    return tuple(unique)
