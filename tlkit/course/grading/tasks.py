"""檻の一回分の仕事。どの機械に送っても同じ結果になるよう、素の値だけからなる。

秘密も判定も含まない。種は、檻に入れる問題の分だけを持つ。檻の見張りは `supervise.py` にある。
檻の始め方は二つある。温めた Python の写しを使う `caged`（速い、既定）と、新しい Python を始める `fresh` で、結果は同じである。
"""

import atexit
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.checks import registry
from tlkit.course.grading import assignment, available, inside_tree, preload, scratch, supervise
from tlkit.course.grading.drivers import BUBBLEWRAP
from tlkit.course.grading.model import Limits, Outcome, Step
from tlkit.course.grading.process import Cage
from tlkit.course.grading.zygote import Zygote, ZygoteError

_PREPARING = threading.RLock()
_TREES: dict[str, Path] = {}
_ZYGOTES: dict[str, Zygote] = {}
_FAILURES: dict[str, int] = {}
_MOST_FAILURES = 2
_LOG = logging.getLogger("tlkit.grade")


@dataclass(frozen=True)
class Task:
    """檻の一回分の仕事。

    Attributes:
        slug: 演習の名前。
        program: 動かすセル。
        seeds: 答えを呼ぶ問題の id → 種。
        limits: 許す量。
    """

    slug: str
    program: tuple[Step, ...]
    seeds: Mapping[str, int]
    limits: Limits


Runner = Callable[[Task], Outcome]


def caged(task: Task) -> Outcome:
    """この機械の檻で動かす。温めた Python の写しを使い、使えなければ、新しい Python を始める。

    Raises:
        CourseError: 檻そのものを使えないとき。
    """
    while (zygote := _zygote(task.slug, task.limits)) is not None:
        try:
            outcome = _run(task, lambda: zygote.cage(task.limits))
            if zygote.alive():
                return outcome
            reason = "温めた Python が、途中で止まりました。"  # 提出のせいではないので、動かし直す
        except ZygoteError as error:
            reason = str(error)
        _give_up(task.slug, zygote, reason)
    return fresh(task)


def fresh(task: Task) -> Outcome:
    """この機械の檻で、新しい Python を始めて動かす。

    Raises:
        CourseError: 檻そのものを使えないとき。
    """
    return _run(task, None)


def get_ready(slug: str, limits: Limits | None = None) -> None:
    """檻に見せる写しと、温めた Python を、仕事を始める前に作っておく。

    いくつもの仕事が、作り終わるのを同時に待つことがないようにする。

    Args:
        slug: 演習の名前。
        limits: 許す量。渡さなければ、温めた Python は作らない。
    """
    _tree(slug)
    if limits is not None:
        _zygote(slug, limits)


def _run(task: Task, start: Callable[[], Cage] | None) -> Outcome:
    questions = [registry.question(name) for name in task.seeds]
    return supervise.run(task.program, questions, task.seeds, task.limits, _tree(task.slug), start)


def _zygote(slug: str, limits: Limits) -> Zygote | None:
    """温めた Python。プロセスごとに一つだけ作る。bubblewrap の檻でないか、何度か失敗していれば None。"""
    with _PREPARING:
        if available.driver().name != BUBBLEWRAP:
            return None
        while slug not in _ZYGOTES and _FAILURES.get(slug, 0) < _MOST_FAILURES:
            release = assignment.load(slug)
            try:
                made = Zygote(_tree(slug), limits, release.question_ids, preload.modules(release))
            except ZygoteError as error:
                _note(slug, str(error))
            else:
                atexit.register(made.close)
                _ZYGOTES[slug] = made
        return _ZYGOTES.get(slug)


def _give_up(slug: str, zygote: Zygote, reason: str) -> None:
    with _PREPARING:
        if _ZYGOTES.get(slug) is zygote:  # ほかのスレッドが先に片づけていなければ
            del _ZYGOTES[slug]
            zygote.close()
            _note(slug, reason)


def _note(slug: str, reason: str) -> None:
    _FAILURES[slug] = _FAILURES.get(slug, 0) + 1
    if _FAILURES[slug] == _MOST_FAILURES:
        _LOG.warning("提出ごとに新しい Python を始めます。遅くなりますが、結果は同じです。\n理由: %s", reason)


def _tree(slug: str) -> Path:
    """檻に見せる tlkit の写し。プロセスごとに一度だけ作る。"""
    with _PREPARING:
        if slug not in _TREES:
            _TREES[slug] = inside_tree.prepare(assignment.load(slug), scratch.make())
        return _TREES[slug]
