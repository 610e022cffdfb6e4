"""採点者を、いつ強制終了しても、結果は失われも二重にもならない。"""

import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
from contextlib import closing

import pytest
from grading_kit import ASSIGNMENT, make_class, mixed_class, setting, slow

from tlkit.course.grading.executors import threads
from tlkit.course.grading.pipeline import grade
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.store import Store

pytestmark = pytest.mark.linux
STUDENTS, KILLS = 60, 50
SLUG = ASSIGNMENT.slug


def _grade_all(folder, roster, path):
    with Store(path) as store, threads(2) as pool:
        grade(folder, roster, setting(slow), store, pool)


def _results(path):
    with Store(path) as store:
        assert store.problems() == []
        assert not any(row.pending for row in store.rows(SLUG))
        return [(row.entry.student, result_to_json(row.result)) for row in store.rows(SLUG)]


def _counts(path):
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("grades", "endings", "attempts")
        ]


def _die_sometime(window, *arguments):
    """採点を始め、でたらめな時刻に SIGKILL する。最後まで終わったら False。"""
    child = multiprocessing.get_context("fork").Process(target=_grade_all, args=arguments)
    child.start()
    child.join(random.uniform(0.0, window))
    if child.exitcode is None:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _until_done(folder, roster, path):
    """最後まで終わるまで、何度でも強制終了する。その回数を返す。"""
    kills, seen, window = 0, 0, 0.2
    while _die_sometime(window, folder, roster, path):
        kills += 1
        with Store(path) as store:  # 途中でも壊れておらず、決まった結果が減らない
            status = store.status(SLUG)
            assert store.problems() == []
        done = status.total - status.pending
        assert done >= seen
        window = window if done > seen else window * 1.1  # 遅い機械でも、いつかは進む
        seen = done
    return kills


def test_grades_survive_fifty_kills_at_random_moments(tmp_path):
    folder, expected = tmp_path / "in", tmp_path / "calm.sqlite"
    roster = make_class(folder, mixed_class(STUDENTS))
    _grade_all(folder, roster, expected)
    kills = interrupted = 0
    for round_number in itertools.count():  # 速い機械では一度で 50 回に届かないので、新しい記録でくり返す
        path = tmp_path / f"killed-{round_number}.sqlite"
        kills += _until_done(folder, roster, path)
        assert _results(path) == _results(expected)
        grades, endings, attempts = _counts(path)
        assert (grades, endings) == (STUDENTS, STUDENTS)
        interrupted += attempts - endings
        if kills >= KILLS:
            break
    assert interrupted > 0  # 本当に途中で止まった採点がある
