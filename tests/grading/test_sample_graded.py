"""試すための学級を、教員と同じ命令で最後まで採点する。採点ガイドの表が、本当の結果と同じであることも確かめる。"""

import json
import re
import shlex
import sys

import pytest

from tlkit.course import cli
from tlkit.course.cli_errors import run_safely
from tlkit.course.grading.report.table import LABELS
from tlkit.course.grading.sample import PEOPLE, SLUG, next_commands
from tlkit.course.paths import course_root

pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.timeout(1200)]
HEAD = "| 学籍番号 | 提出したもの | 状態 | 合計 | 合格した問題 | 理由と知らせ |\n|---|---|---|---|---|---|\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """印字された命令を、そのまま順に打った結果。"""
    base = tmp_path_factory.mktemp("sample")
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        for command in ("tlkit grade sample 学級", *next_commands(base / "学級")):
            words = shlex.split(command)
            if words[0] == "cd":
                patch.chdir(words[1])
                continue
            patch.setattr(sys, "argv", words)
            results[words[2]] = run_safely(cli.app)
    report = base / "学級" / "grading" / "report"
    return results, json.loads((report / f"{SLUG}.json").read_text("utf-8")), report


def _first_sentence(text):
    """初めの文。教材を作り直すと変わるバイト数は除く。"""
    first = re.sub(r"(。|\n).*", r"\1", text, flags=re.DOTALL).strip()
    return re.sub(r"（\d+ バイト目で終わり）", "", first)


def _table(report):
    lines = []
    for student, (_, what) in zip(report["students"], PEOPLE, strict=True):
        passed = [answer["code"] == "passed" for answer in student["questions"].values()]
        why = "".join(map(_first_sentence, [student["reason"], *student["notes"]]))
        total = "なし" if student["total"] is None else f"{student['total']}点"
        count = f"{sum(passed)}問" if student["state"] in ("graded", "limit") else ""
        lines.append(
            f"| {student['student']} | {what} | {LABELS[student['state']]} | {total} | {count} | {why and f'`{why}`'} |\n"
        )
    return HEAD + "".join(lines)


def test_every_command_that_is_printed_works(run):
    results, _, report = run
    assert results == {"sample": 0, "submissions": 3, "status": 3, "report": 3, "override": 0}
    assert (report / f"{SLUG}.html").is_file()


def test_the_table_of_the_guide_is_what_comes_out(run):
    guide = (course_root() / "docs" / "grading.md").read_text("utf-8")
    found = _table(run[1])
    assert found in guide, f"docs/grading.md の表を、次のものに替えてください。\n{found}"


def test_the_states_are_those_the_class_is_made_for(run):
    states = [student["state"] for student in run[1]["students"]]
    human = [number in (6, 7, 11, 12) for number in range(1, 14)]
    want = ["needs_human" if one else "graded" for one in human]
    want[7], want[12] = "limit", "missing"
    assert states == want
