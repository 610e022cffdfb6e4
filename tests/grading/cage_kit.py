"""檻の検査の道具: 小さな問題の入った写しを作り、コードを檻の中で動かす。"""

import shutil
from functools import partial
from pathlib import Path

from caged_questions import QUESTIONS

from tlkit.course.grading.available import package
from tlkit.course.grading.model import Limits, Outcome, Step
from tlkit.course.grading.supervise import run
from tlkit.course.grading.zygote import Zygote

SMALL = Limits(
    cell_seconds=30, probe_seconds=20, total_seconds=120, memory_mb=1500, printed_bytes=20_000, disk_mb=16, processes=64
)
SEEDS = {question.id: 1000 + place for place, question in enumerate(QUESTIONS)}


def make_tree(folder: Path) -> Path:
    """章 99 の問題を加えた tlkit の写しを作る。"""
    leave = shutil.ignore_patterns("__pycache__", "assets", "c01", "c02")
    copied = Path(shutil.copytree(package(), folder / "tlkit", ignore=leave))
    chapter = copied / "course" / "checks" / "c99"
    chapter.mkdir()
    shutil.copy(Path(__file__).with_name("caged_questions.py"), chapter / "__init__.py")
    return folder


def run_cells(*sources: str, limits: Limits = SMALL) -> Outcome:
    """問題のないセルを動かす（torch を読み込まないので速い）。id は c0、c1、…。"""
    program = [Step(f"c{place}", source) for place, source in enumerate(sources)]
    return run(program, (), {}, limits, package())


def run_answers(tree: Path, cells: dict[str, str], limits: Limits = SMALL, zygote: Zygote | None = None) -> Outcome:
    """章 99 の問題を動かす。cells は id → コード。id が問題の番号なら、その問題の答えのセルとする。"""
    start = None if zygote is None else partial(zygote.cage, limits)
    questions = [question for question in QUESTIONS if question.id in cells]
    program = [Step(name, source, name if name in SEEDS else None) for name, source in cells.items()]
    return run(program, questions, {question.id: SEEDS[question.id] for question in questions}, limits, tree, start)


def warmed(tree: Path) -> Zygote:
    """章 99 の問題を読み込んだ、温めた Python。"""
    return Zygote(tree, SMALL, [question.id for question in QUESTIONS], ["numpy", "torch", "matplotlib.pyplot"])
