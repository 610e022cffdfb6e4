"""本物の檻と本物の `tlkit grade`: いつ殺しても、何本で進めても、何度やり直しても、同じバイト列の報告になる。"""

import json
import random
import time

import pytest
from class_kit import notebook, real_class
from durable_kit import Deaths, Job, adopting, begun, kill_until_finished, wait_until_gone

pytestmark = pytest.mark.linux
PUPILS, KILLS, SMALL = 12, 6, 3
KINDS = ("right", "wrong", "wrong", "partial", "broken", "right")  # 少ない人数でも、全部の種類が入る


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """（学級のフォルダ、提出の一覧、何事もなく終わった採点、その報告、かかった秒）。"""
    folder = tmp_path_factory.mktemp("school")
    pupils = real_class(folder, PUPILS, kinds=KINDS)
    job = Job(folder, folder / "calm" / "grades.sqlite", folder / "temp")
    seconds = job.finish()
    return folder, pupils, job, job.reports(folder / "calm-report"), seconds


def test_everyone_gets_the_points_the_class_was_made_for(school):
    _, pupils, job, reports, _ = school
    shown = {line["student"]: line for line in json.loads(reports["01_basics.json"])["students"]}
    assert len(shown) == PUPILS
    for pupil in pupils:
        line = shown[pupil.student]
        if pupil.points is None:
            assert (line["state"], line["total"]) == ("needs_human", None), pupil.kind
        else:
            found = {name: answer["points"] for name, answer in line["questions"].items()}
            assert (line["state"], found) == ("graded", pupil.points), (pupil.answers, line)
    assert job.tables().broken == 0
    assert not list(job.temp.iterdir())  # 檻に見せた写しも残らない


def test_killing_the_grader_at_random_moments_loses_and_doubles_nothing(school, tmp_path):
    folder, _, calm, expected, seconds = school
    deaths, rounds, found = Deaths(), 0, calm.tables()
    calm_counts = (found.grades, found.students, found.endings)
    while len(deaths.seconds) < KILLS:  # 速い機械では一度で届かないので、新しい記録でくり返す
        rounds += 1
        job = Job(folder, tmp_path / str(rounds) / "grades.sqlite", tmp_path / "temp")
        kill_until_finished(job, seconds, random.Random(), deaths, KILLS)
        assert job.reports(tmp_path / f"report-{rounds}") == expected
        counted = job.tables()
        assert (counted.grades, counted.students, counted.endings) == calm_counts
        assert counted.broken == 0


def test_regrading_with_any_number_of_jobs_gives_identical_bytes(tmp_path):
    real_class(tmp_path, SMALL, kinds=KINDS)
    seen = []
    for number, jobs in enumerate((1, 2, 3)):
        job = Job(tmp_path, tmp_path / "grades.sqlite", tmp_path / "temp", ("--jobs", str(jobs)))
        job.finish("regrade" if number else "run")
        seen.append(job.reports(tmp_path / str(jobs)))
    assert seen[0] == seen[1] == seen[2]
    assert {"01_basics.json", "01_basics.csv", "01_basics.html"} < set(seen[0])
    counted = job.tables()
    assert counted.attempts == counted.endings == 3 * counted.grades  # 三回とも、本当に動かした


def test_a_cage_that_would_sleep_for_ever_dies_with_the_killed_grader(tmp_path):
    """自分からは終わらない檻も、採点者を殺せば、上限（30 秒）を待たずに消える。"""
    real_class(tmp_path, 1)
    asleep = notebook({"ex-01-1-answer": "import time\n\ntime.sleep(1e6)"})
    (tmp_path / "submissions" / "s001.ipynb").write_bytes(asleep)
    job = Job(tmp_path, tmp_path / "grades.sqlite", tmp_path / "temp", ("--jobs", "1", "--no-solution"))
    with adopting() as orphans:
        child = job.start()
        while not begun(job):
            assert child.poll() is None, job.screen
            time.sleep(0.1)
        time.sleep(3.0)
        child.kill()
        child.wait()
        assert wait_until_gone(orphans, 20.0) < 20.0
