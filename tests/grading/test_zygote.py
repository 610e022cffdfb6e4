"""温めた Python: 写しの入った檻が、新しい Python を始めた檻と同じで、何が起きても立ち直ること。"""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cage_kit import SEEDS, SMALL, make_tree, run_answers, warmed

from tlkit.course.grading import assignment, cage, escapes, preload, tasks
from tlkit.course.grading.available import package
from tlkit.course.grading.drivers import BUBBLEWRAP, Driver
from tlkit.course.grading.inside import huge_pages
from tlkit.course.grading.model import Limits, Step
from tlkit.course.grading.world import children
from tlkit.course.grading.zygote import Zygote, ZygoteError

pytestmark = pytest.mark.linux

# 檻の中から見えることを、思いつくかぎり集める
FACTS = r"""
import json, os, resource, socket, sys, time
def status():
    kept = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
            "SigBlk", "SigIgn", "Umask", "Threads")
    pairs = [line.split(":", 1) for line in open("/proc/self/status")]
    return {name: value.split() for name, value in pairs if name in kept}
def mounts():
    lines = [line.split(" - ") for line in open("/proc/self/mountinfo")]
    return sorted([left.split()[4:6], right.split()[0], right.split()[2]] for left, right in lines)
def expendable():
    for _ in range(500):  # 外の見張りが、始まりの知らせを聞いてから書く
        if open("/proc/self/oom_score_adj").read() == "1000\n":
            return True
        time.sleep(0.01)
def tries():
    found = []
    for attempt in (lambda: os.kill(1, 9), lambda: os.kill(-1, 0), lambda: open("/proc/1/mem", "rb+").write(b"x"),
                    lambda: os.listdir("/proc/1/root/root"), lambda: open("/x", "w"), lambda: os.setuid(0),
                    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), os.setsid):
        try:
            found.append(repr(attempt())[:20])
        except OSError as error:
            found.append(error.errno)
    return found
facts = {
    "status": status(), "mounts": mounts(), "env": dict(os.environ), "argv": sys.argv, "path": sys.path,
    "cwd": os.getcwd(), "nice": os.nice(0), "ppid": os.getppid(), "host": socket.gethostname(),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT" in name},
    "pipes": sorted(os.listdir("/proc/self/fd")), "oom": expendable(),
    "processes": len([name for name in os.listdir("/proc") if name.isdecimal()]),
    "leader": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "owner": [os.stat("/proc/self/" + name).st_uid for name in ("fd", "mem", "maps")],
    "users": open("/proc/self/uid_map").read().split(), "devices": open("/proc/net/dev").read().count(":"),
    "lists": [sorted(os.listdir(folder)) for folder in ("/", "/tmp", os.environ["HOME"], "/dev", "/tree/tlkit")],
    "tries": tries(),
}
"""
FACTS_CELL = FACTS + "\ndef double1(x): return json.dumps(facts)"
RANDOM_CELL = (
    "import json, random, numpy, torch\n"
    "drawn = json.dumps([random.random(), numpy.random.rand(), torch.rand(()).item(), torch.initial_seed()])\n"
    "def double1(x): return drawn"
)
HONEST = {"99-1": "def double1(x): return x * 2"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def zygote(tree):
    made = warmed(tree)
    yield made
    made.close()


def _value(outcome):
    assert outcome.limit is None, outcome.detail
    return json.loads(outcome.claims["99-1"].data["value"])


def test_a_copy_sees_and_may_do_exactly_what_a_new_python_does(tree, zygote):
    facts = [_value(run_answers(tree, {"99-1": FACTS_CELL}, zygote=mode)) for mode in (zygote, None)]
    assert facts[0] == facts[1]


def test_a_caged_copy_has_no_rights_and_no_neighbours(tree, zygote):
    facts = _value(run_answers(tree, {"99-1": FACTS_CELL}, zygote=zygote))
    assert {facts["status"][name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert facts["status"]["NoNewPrivs"] == ["1"] and facts["users"][0] == "1000"
    assert facts["processes"] == 2 and facts["devices"] == 1  # 世界の主と自分。lo だけ


def test_every_escape_is_blocked_for_a_copy():
    made = Zygote(package(), escapes.LIMITS, (), ())
    try:
        driver = Driver(BUBBLEWRAP, lambda tree, limits, arguments: made.cage(limits))
        trials = list(escapes.selftest(driver))
        assert [trial.name for trial in trials if not trial.blocked] == []
        assert len(trials) == len(escapes.escape_attempts()) and made.alive()
    finally:
        made.close()


def test_copies_do_not_share_random_numbers(tree, zygote):
    drawn = [_value(run_answers(tree, {"99-1": RANDOM_CELL}, zygote=zygote)) for _ in range(3)]
    for kind in zip(*drawn, strict=True):
        assert len(set(kind)) == 3


def test_nothing_is_left_of_the_copy_before(tree, zygote):
    first = "import sys, torch, pathlib\ntorch.left = sys.left = 1\npathlib.Path('left').write_text('x')\n"
    run_answers(tree, {"99-1": first + "def double1(x): return x"}, zygote=zygote)
    second = "import sys, torch, os\nfound = hasattr(torch, 'left') or hasattr(sys, 'left') or os.path.exists('left')"
    outcome = run_answers(tree, {"99-1": f"{second}\ndef double1(x): return found"}, zygote=zygote)
    assert outcome.claims["99-1"].data == {"value": False}


def test_no_descriptor_and_no_process_is_left(tree, zygote):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        run_answers(tree, HONEST, zygote=zygote)
        run_answers(tree, {"99-1": "import os; os._exit(0)"}, zygote=zygote)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    run_answers(tree, HONEST, zygote=zygote)  # 終わった檻は、次の頼みのときに片づく
    assert len(_below(zygote._popen.pid, "bwrap")) <= 4


def test_two_threads_share_one_zygote(tree, zygote):
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: run_answers(tree, HONEST, zygote=zygote), range(8)))
    assert [outcome.claims["99-1"].data["value"] for outcome in outcomes] == [SEEDS["99-1"] * 2.0] * 8


def test_a_zygote_outlives_the_thread_that_made_it(tree):
    made = []
    thread = threading.Thread(target=lambda: made.append(warmed(tree)))
    thread.start()
    thread.join()
    assert run_answers(tree, HONEST, zygote=made[0]).limit is None
    made[0].close()
    assert not made[0].alive()


def test_closing_ends_every_cage(tree):
    made = warmed(tree)
    with made.cage(SMALL) as process:
        family = process.family()
        assert family
        made.close()
        assert process.status(10) is None
        _await_end(family)
    with pytest.raises(ZygoteError):
        made.cage(SMALL)


def _await_end(pids, seconds=20.0):
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _runs(pid):
    """動いているか。終わって、親に引き取られるのを待っているものは数えない。"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _below(root, name):
    found = []
    for child in children(root):
        if Path(f"/proc/{child}/comm").read_text().strip() == name:
            found.append(child)
        found += _below(child, name)
    return found


# tasks.caged: 温めた Python が使えなくなっても、採点は同じ結果で進む
PROGRAM = (Step("c0", "import torch"), Step("c1", "1 / 0"))
TASK = tasks.Task("01_basics", PROGRAM, {}, Limits())


@pytest.fixture
def clean(monkeypatch):
    """ほかの検査の温めた Python を使わない。"""
    zygotes: dict[str, Zygote] = {}
    monkeypatch.setattr(tasks, "_ZYGOTES", zygotes)
    monkeypatch.setattr(tasks, "_FAILURES", {})
    yield zygotes
    for one in zygotes.values():
        one.close()


def test_a_killed_zygote_is_replaced_and_the_submission_is_run_again(clean, monkeypatch):
    real, seen = tasks.supervise.run, []

    def run(*arguments):
        if not seen:
            clean["01_basics"].close()  # 動いている途中で止まった
        seen.append(1)
        return real(*arguments)

    tasks.get_ready("01_basics", Limits())
    first = clean["01_basics"]
    monkeypatch.setattr(tasks.supervise, "run", run)
    outcome = tasks.caged(TASK)
    assert outcome.limit is None and outcome.errors == {"c1": "ZeroDivisionError: division by zero"}
    assert len(seen) == 2 and clean["01_basics"] is not first and clean["01_basics"].alive()


def test_a_death_during_a_submission_is_not_blamed_on_it(clean):
    tasks.get_ready("01_basics", Limits())
    slow = tasks.Task("01_basics", (Step("c0", "import time; time.sleep(3)"),), {}, Limits())
    timer = threading.Timer(1.0, clean["01_basics"].close)
    timer.start()
    outcome = tasks.caged(slow)
    assert outcome.limit is None and outcome.errors == {}


def test_without_a_zygote_every_submission_gets_a_new_python(clean, monkeypatch, caplog):
    monkeypatch.setattr(cage, "nursery", lambda *_: ["/bin/sh", "-c", "echo 作れない >&2; exit 1"])
    with caplog.at_level(logging.WARNING, "tlkit.grade"):
        outcome = tasks.caged(TASK)
    assert outcome.limit is None and outcome.errors == {"c1": "ZeroDivisionError: division by zero"}
    assert not clean and "作れない" in caplog.text and "結果は同じ" in caplog.text
    assert len(caplog.records) == 1


def test_both_ways_give_the_same_outcome_of_a_real_exercise(clean):
    plain = {"seconds": 0, "peak_mb": 0, "cell_seconds": {}, "probe_seconds": {}}
    found = [dataclasses.replace(way(TASK), **plain) for way in (tasks.caged, tasks.fresh)]
    assert found[0] == found[1]


def test_huge_pages_keep_what_is_written():
    size = 2 * 1024 * 1024
    data = np.arange(4 * size // 8)
    places = list(huge_pages._anonymous())
    assert places and all(start < end and start % size == end % size == 0 for start, end in places)
    huge_pages.collapse()
    assert np.array_equal(data, np.arange(4 * size // 8))


def test_modules_of_the_release_are_loaded_before():
    found = preload.modules(assignment.load("01_basics"))
    assert {"torch", "matplotlib.pyplot", "tlkit.plot"} <= set(found)
    assert not [name for name in found if name.startswith("tlkit.course")]
    assert all(re.fullmatch(r"[\w.]+", name) for name in found)


def test_the_zygote_dies_with_the_grader(tree):
    """採点が kill -9 で止められても、温めた Python は残らない。"""
    script = (
        "import sys, time; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from cage_kit import warmed\n"
        f"made = warmed(Path({str(tree)!r})); print(made._popen.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as grader:
        pid = int(grader.stdout.readline())
        below = [pid, *children(pid)]
        os.kill(grader.pid, signal.SIGKILL)
        grader.wait()
    _await_end(below)
