"""Ctrl-C: 動いている檻を、上限を待たずに止め、続きから進めることを日本語で言って、130 で終わる。"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from grading_kit import make_class

from tlkit.course.errors import CourseError
from tlkit.course.grading import interrupt
from tlkit.course.grading.available import package
from tlkit.course.grading.executors import threads
from tlkit.course.grading.model import Limits, Step
from tlkit.course.grading.store import Store
from tlkit.course.grading.supervise import run
from tlkit.course.grading.tasks import Task, fresh
from tlkit.course.paths import course_root

pytestmark = pytest.mark.linux
SLUG = "01_basics"
FOREVER = "import time\nwhile True:\n    time.sleep(0.01)\n"
PATIENT = Limits(cell_seconds=3600, probe_seconds=3600, total_seconds=36000)
# 上限を 1 時間にした `tlkit grade`。待っていれば、検査の時間切れになる
COMMAND = """
import functools, sys
from tlkit.course import cli
from tlkit.course.cli_errors import run_safely
from tlkit.course.grading import commands
from tlkit.course.grading.model import Limits
limits = Limits(cell_seconds=3600, probe_seconds=3600, total_seconds=36000)
commands.Setting = functools.partial(commands.Setting, limits=limits)
sys.exit(run_safely(cli.app))
"""
ENOUGH = 300.0  # 混んだ機械でも足りる時間 [秒]


def hanging():
    """最初の答えのセルで止まるノートブック。"""
    document = json.loads((course_root() / "exercises" / f"{SLUG}.ipynb").read_bytes())
    answer = next(cell for cell in document["cells"] if cell["id"] == "ex-01-1-answer")
    answer["source"] = FOREVER
    return json.dumps(document).encode()


def family(pid):
    """pid の子孫。"""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *family(child)]
    return found


def wait_until(ready, process=None):
    deadline = time.monotonic() + ENOUGH
    while not ready():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)


def alive(pid, started):
    """同じプロセスが、まだ動いているか。終わって、まだ片づけられていないものは数えない。"""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in ("Z", "X") and fields[19] == started


def birth(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def busy_inside(pid):
    """檻の中で、学習者のセルが回っているか（time.sleep をくり返すので、切り替えの数が増え続ける）。"""
    for one in family(pid):
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        numbers = [int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt")]
        if "NSpid" in status and len(status.split("NSpid:")[1].splitlines()[0].split()) > 1 and numbers[0] > 300:
            return True
    return False


def begun(folder):
    """始めたまま終わっていない採点の数。"""
    path = folder / "grading" / "grades.sqlite"
    if not path.is_file():
        return 0
    with Store(path) as store:
        return store.status(SLUG).interrupted


def test_ctrl_c_ends_the_running_cages_at_once_and_says_how_to_go_on(tmp_path):
    make_class(tmp_path / "in", {"s1": hanging(), "s2": hanging(), "s3": None})
    (tmp_path / "roster.csv").write_text("学籍番号,氏名\ns1,一\ns2,二\ns3,三\n", encoding="utf-8")
    words = ["grade", "in", "--exercise", SLUG, "--roster", "roster.csv", "--jobs", "2", "--no-solution"]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        wait_until(lambda: begun(tmp_path) == 2 and busy_inside(process.pid), process)
        inside = {pid: birth(pid) for pid in family(process.pid)}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=ENOUGH)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "残り 2 人" in err and "続きから採点します" in err and "中断しました。" in err
    assert "Traceback" not in err + out
    assert inside
    # 温めた Python は、親の bwrap が止まってから、カーネルが少し遅れて止める
    wait_until(lambda: not any(alive(pid, started) for pid, started in inside.items()))
    with Store(tmp_path / "grading" / "grades.sqlite") as store:
        status = store.status(SLUG)
        assert (status.pending, status.interrupted, store.problems()) == (2, 2, [])


def test_a_running_cage_stops_when_the_sign_is_given():
    def stop_halfway(futures):
        with threads(1) as pool:
            futures.append(pool.executor.submit(run, [Step("a", FOREVER)], (), {}, PATIENT, tree))
            wait_until(lambda: busy_inside(os.getpid()))
            raise KeyboardInterrupt

    tree, futures = package(), []
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(futures)
    with pytest.raises(CourseError, match="途中で止めました"):
        futures[0].result(ENOUGH)


def press_ctrl_c():
    raise KeyboardInterrupt


def test_the_sign_of_one_grading_is_not_seen_by_the_next():
    def checked(then):
        with threads(1) as pool:
            pool.executor.submit(interrupt.check).result(ENOUGH)
            then()

    with pytest.raises(KeyboardInterrupt):
        checked(press_ctrl_c)
    interrupt.check()
    checked(lambda: None)


def test_a_cage_that_starts_after_the_sign_stops_too():
    sign = threading.Event()
    sign.set()

    def late():
        interrupt.obey(sign)
        return fresh(Task(SLUG, (Step("a", FOREVER),), {}, PATIENT))

    with ThreadPoolExecutor(1) as executor, pytest.raises(CourseError, match="途中で止めました"):
        executor.submit(late).result(ENOUGH)
