"""悪意のある提出の全部を、本物の檻で採点し、一つずつ結果を確かめる。

檻の動かし方は二つある（温めた Python の写しと、提出ごとの新しい Python）。どちらでも表のとおりで、互いに同じになる。
"""

import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from fixtures import CAGED, inline
from fixtures.base import A1
from fixtures.batch import HONEST, PATIENT, Class, check, check_batch, classes
from fixtures.reaching import MARK

from tlkit.course.grading import tasks
from tlkit.course.grading.rows import result_to_json
from tlkit.course.intake import read_notebook

pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.timeout(1800)]
MODES = {"warmed": tasks.caged, "fresh": tasks.fresh}
CASES = [pytest.param(one, id=one.student) for one in CAGED]


def _grade(base, run):
    """全部を採点し、学級と、学籍番号 → 行（正直な学生は除く）を返す。"""
    batches = classes(base, CAGED, run)
    rows = {row.entry.student: row for batch in batches for row in batch.rows if row.entry.student not in HONEST}
    return SimpleNamespace(batches=batches, rows=rows)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """檻の動かし方 → 採点の結果。初めて使うときに採点する。"""
    found = {}

    def get(mode):
        if mode not in found:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(MARK, MARK)
                found[mode] = _grade(tmp_path_factory.mktemp(mode), MODES[mode])
        return found[mode]

    return get


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("one", CASES)
def test_a_hostile_submission_gets_what_the_table_says(one, mode, graded):
    check(one, graded(mode).rows[one.student])


@pytest.mark.parametrize("mode", MODES)
def test_nothing_but_the_rows_themselves_changes(mode, graded):
    for batch in graded(mode).batches:
        check_batch(batch)


def test_both_ways_of_caging_give_the_same_results(graded):
    texts = [
        {student: json.loads(result_to_json(row.result)) for student, row in graded(mode).rows.items()}
        for mode in MODES
    ]
    assert texts[0] == texts[1]


def test_honest_classmates_have_the_rows_of_a_quiet_class(graded, tmp_path):
    quiet = Class(tmp_path / "quiet", (), inline.run, PATIENT, 1)
    for mode in MODES:
        for batch in graded(mode).batches:
            for student in HONEST:
                rows = (quiet.by_student[student], batch.by_student[student])
                assert len({result_to_json(row.result) for row in rows}) == 1


def test_grading_again_runs_nothing_and_gives_the_same_rows(graded, monkeypatch):
    for batch in graded("warmed").batches:
        monkeypatch.setattr(
            batch, "setting", dataclasses.replace(batch.setting, run=None)
        )  # 記録があるので、動かさない
        assert batch.grade() == batch.rows


# 手を伸ばす提出は、檻がなければ本当に届く。届かない試みを並べても、檻を確かめたことにならないため
def test_the_attempts_do_reach_outside_without_a_cage(graded):
    names = ["f19-looks-for-expected-values", "f21-reads-secrets", "f23-network", "f53-environment"]
    folder = graded("warmed").batches[0].folder
    sources = {}
    for name in names:
        document = read_notebook(folder / f"{name}.ipynb").document
        sources[name] = next(cell["source"] for cell in document["cells"] if cell["id"] == A1)
    environment = {**os.environ, MARK: MARK, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    code = (
        "import json, sys, numpy, torch\n"
        "for name, source in json.load(sys.stdin).items():\n"
        "    try:\n        exec(source, {'np': numpy, 'torch': torch})\n"
        "    except RuntimeError:\n        print(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(sources), env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == names, done.stderr
