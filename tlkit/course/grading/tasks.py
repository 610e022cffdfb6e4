"""檻の一回分の仕事。どの機械に送っても同じ結果になるよう、素の値だけからなる。

秘密も判定も含まない。種は、檻に入れる問題の分だけを持つ。檻の見張りは `supervise.py` にある。
"""

import atexit
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.checks import registry
from tlkit.course.grading import assignment, inside_tree, supervise
from tlkit.course.grading.model import Limits, Outcome, Step

_PREPARING = threading.Lock()
_TREES: dict[str, Path] = {}


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
    """この機械の檻で動かす。

    Raises:
        CourseError: 檻そのものを使えないとき。
    """
    questions = [registry.question(name) for name in task.seeds]
    return supervise.run(task.program, questions, task.seeds, task.limits, _tree(task.slug))


def get_ready(slug: str) -> None:
    """檻に見せる写しを、スレッドを動かす前に作っておく。

    Python 3.11 の `ast.parse` は、二つのスレッドから同時に呼ぶと SystemError になることがある。
    写しを作る仕事と、提出を照合する仕事は、どちらも `ast.parse` を使う。
    """
    _tree(slug)


def _tree(slug: str) -> Path:
    """檻に見せる tlkit の写し。プロセスごとに一度だけ作る。"""
    with _PREPARING:
        if slug not in _TREES:
            folder = Path(tempfile.mkdtemp(prefix="tlkit-grade-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _TREES[slug] = inside_tree.prepare(assignment.load(slug), folder)
        return _TREES[slug]
