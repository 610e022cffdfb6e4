"""解答例を一度だけ檻で動かし、提出に許す時間を決める。

長い学習を正直に書いた答えを、決まった秒数で止めないためである。上限の決め方は `allowance.py` にある。
計った時間は記録（`store.py`）に残し、次からも同じものを使う。だから、採点し直しても再開しても、上限は変わらない。
"""

import importlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

from tlkit.course.cells import sources_hash
from tlkit.course.errors import CourseError
from tlkit.course.grading import judging, stability
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.executors import Pool
from tlkit.course.grading.matching import match
from tlkit.course.grading.model import Limits, Outcome, Pace, Result
from tlkit.course.grading.seeds import seeds_for
from tlkit.course.grading.store import Store
from tlkit.course.grading.tasks import Runner, Task
from tlkit.course.grading.versions import versions
from tlkit.course.intake import parse_notebook, read_bytes
from tlkit.course.paths import course_root

NAME = "解答例"
_CELL_SECONDS, _TOTAL_SECONDS = 1800.0, 3600.0  # 解答例そのものに許す時間
_MAX_BYTES = 50 * 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """計るのに要るもの。意味は `pipeline.Setting` と同じ。"""

    assignment: Assignment
    secret: bytes
    limits: Limits
    run: Runner
    solution: bytes


def find(slug: str, root: Path | None = None) -> bytes:
    """教材のフォルダにある解答例（solutions/<章>.ipynb）。なければ空。"""
    path = (root or course_root()) / "solutions" / f"{slug}.ipynb"
    return read_bytes(path, _MAX_BYTES, follow_symlinks=True) if path.is_file() else b""


def version(solution: bytes) -> str:
    """解答例のコードの版。出力や実行の番号が変わっても、変わらない。"""
    return sources_hash(parse_notebook(solution, NAME)) if solution else ""


def limits(sample: Sample, store: Store, pool: Pool) -> Limits:
    """解答例の時間を加えた上限。まだ計っていなければ、ここで計る。

    Raises:
        CourseError: 解答例が配布版と合わないか、満点にならないとき。この機械で採点しても、正しい点数にならない。
    """
    if not sample.solution:
        return sample.limits
    name = versions(sample.assignment, b"", sample.limits, version(sample.solution)).key("", "")
    pace = store.pace(name) or store.keep_pace(name, _measured(sample, pool))
    return replace(sample.limits, pace=pace)


def _measured(sample: Sample, pool: Pool) -> Pace:
    matched = match(parse_notebook(sample.solution, NAME), sample.assignment)
    if matched.human:
        raise _unusable(f"配布版と合いません（{matched.human}）。")
    seeds = seeds_for(sample.secret, NAME, sample.assignment.question_ids)
    patient = replace(
        sample.limits, cell_seconds=_CELL_SECONDS, probe_seconds=_CELL_SECONDS, total_seconds=_TOTAL_SECONDS
    )
    program = (stability.luck(0), *matched.program)
    running = pool.executor.submit(sample.run, Task(sample.assignment.slug, program, seeds, patient))
    _load_references(sample.assignment)  # 檻の Python が温まるのを待つ間に済ませる
    outcome = running.result()
    result = judging.judge(outcome, sample.assignment, seeds, limits=patient)
    if result.total != sum(question.points for question in sample.assignment.questions):
        raise _unusable(f"この機械で満点になりません（{_failed(result)}）。")
    return Pace(_rounded(outcome, "cell_seconds"), _rounded(outcome, "probe_seconds"))


def _load_references(assignment: Assignment) -> None:
    """判定が答えと比べる、正解のモジュールを読み込む。"""
    for name in {name for question in assignment.questions for name in question.reference}:
        importlib.import_module(f"tlkit.{name}")


def _rounded(outcome: Outcome, name: str) -> tuple[tuple[str, float], ...]:
    """0.1 秒に切り上げた時間。"""
    times: dict[str, float] = getattr(outcome, name)
    return tuple(sorted((step, math.ceil(seconds * 10) / 10) for step, seconds in times.items()))


def _failed(result: Result) -> str:
    names = [name for name, points in result.points.items() if points == 0]
    return result.reason or f"合格しない問題: {'、'.join(names)}"


def _unusable(why: str) -> CourseError:
    return CourseError(
        f"採点の前に動かした解答例が、{why}\n"
        "このまま採点すると、正しい答えも不合格になるおそれがあります。`tlkit grade selftest` と `tlkit doctor` で環境を、"
        "`tlkit build` で教材を確かめてください。解答例を使わずに採点するには `--no-solution` を付けます（時間は最低の上限になります）。"
    )
