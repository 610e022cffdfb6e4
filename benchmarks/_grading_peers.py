"""`grading.py` の相手: 同じ学級を、nbclient（まっさらなカーネルで全部のセルを動かす）と nbgrader で採点する。

どちらも、提出されたコードを閉じ込めずに動かす。ここで動かすのは、この置き場の答えだけである。
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from class_kit import ROOT, SLUG, Pupil, notebook

STRICT = {"TLKIT_CHECK": "strict", "OMP_NUM_THREADS": "1"}
_CELL_SECONDS = 600
Points = dict[str, dict[str, int]]


def without_follow_ups(document: dict[str, Any]) -> dict[str, Any]:
    """合格後のセル（`if ready(…):` のあるセル）を除いたもの。tlkit は、採点でここを動かさない。"""
    from tlkit.course.grading import assignment

    gone = {cell.id for cell in assignment.load(SLUG).cells if cell.role == "follow-up"}
    assert gone <= {cell["id"] for cell in document["cells"]}, "合格後のセルが見つかりません。"
    return document | {"cells": [cell for cell in document["cells"] if cell["id"] not in gone]}


def by_nbclient(pupils: Sequence[Pupil], jobs: int, *, whole: bool) -> dict[str, Any]:
    """jobs 個のプロセスで並べて動かす。通った確認のセルの配点を足す。"""
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_execute, [pupil.data for pupil in pupils], [whole] * len(pupils)))
    seconds = time.perf_counter() - began
    points = {pupil.student: one[0] for pupil, one in zip(pupils, found, strict=True) if one[0] is not None}
    return _result("nbclient", pupils, jobs, seconds, points, whole) | {
        "each": statistics.median(one[1] for one in found)
    }


def _execute(data: bytes, whole: bool) -> tuple[dict[str, int] | None, float]:
    import nbclient
    import nbformat

    os.environ.update(STRICT)
    began = time.perf_counter()
    try:
        document = json.loads(data)
        read = nbformat.reads(json.dumps(document if whole else without_follow_ups(document)), 4)
    except ValueError:
        return None, time.perf_counter() - began
    client = nbclient.NotebookClient(
        read,
        timeout=_CELL_SECONDS,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "exercises")}},
    )
    client.execute()
    earned = {}
    for cell in read.cells:
        if cell.id.endswith("-check"):
            passed = not any(one.output_type == "error" for one in cell.outputs)
            earned[cell.id[3:-6]] = passed * _points(cell.id[3:-6])
    return earned, time.perf_counter() - began


def _points(question: str) -> int:
    from tlkit.course.checks import registry

    return registry.question(question).points


def by_nbgrader(pupils: Sequence[Pupil], folder: Path, *, whole: bool) -> dict[str, Any]:
    """nbgrader の配布版に同じ答えを書き入れて autograde する。nbgrader は一つずつ順に進める。"""
    from tlkit.course.build import build

    build([ROOT / "solutions" / f"{SLUG}.py"], nbgrader=folder)
    source = folder / "source" / SLUG / f"{SLUG}.ipynb"
    if not whole:
        source.write_text(json.dumps(without_follow_ups(json.loads(source.read_bytes()))), encoding="utf-8")
    _nbgrader(folder, "generate_assignment", SLUG)
    release = json.loads((folder / "release" / SLUG / f"{SLUG}.ipynb").read_bytes())
    for pupil in pupils:
        target = folder / "submitted" / pupil.student / SLUG / f"{SLUG}.ipynb"
        target.parent.mkdir(parents=True)
        target.write_bytes(pupil.data if pupil.points is None else notebook(pupil.cells, release))
    began = time.perf_counter()
    code = _nbgrader(folder, "autograde", SLUG, check=False)
    seconds = time.perf_counter() - began
    return _result("nbgrader", pupils, 1, seconds, _gradebook(folder / "gradebook.db"), whole) | {"exit": code}


def _nbgrader(folder: Path, *arguments: str, check: bool = True) -> int:
    # nbgrader は採点簿を作るとき、PATH の上の alembic を呼ぶ
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | STRICT | {"PATH": path, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    with (folder / "screen.txt").open("ab") as screen:
        return subprocess.run(
            command, cwd=folder, env=environment, stdout=screen, stderr=screen, check=check
        ).returncode


def _gradebook(path: Path) -> Points:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{path}") as book:
        return {
            one.student.id: {grade.name[3:-6]: int(grade.auto_score or 0) for grade in one.notebooks[0].grades}
            for one in book.assignment_submissions(SLUG)
            if one.notebooks
        }


def _result(
    name: str, pupils: Sequence[Pupil], jobs: int, seconds: float, points: Points, whole: bool
) -> dict[str, Any]:
    """点数が、作ったときに決めた点数と同じ人の数も数える。壊れたファイルは、点数が付かないのが正しい。"""
    return {
        "name": name,
        "cells": "全部" if whole else "合格後のセルを除く",
        "jobs": jobs,
        "pupils": len(pupils),
        "seconds": seconds,
        "as_expected": sum(points.get(pupil.student) == pupil.points for pupil in pupils),
    }
