"""本物のコンテナ（podman）の中で動かす検査。bubblewrap の檻と同じ結果になり、同じように止まること。"""

import dataclasses
import itertools
import os
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from cage_kit import SEEDS, SMALL, make_tree
from caged_questions import QUESTIONS
from test_supervise import ANSWERS, PROBE

from tlkit.course.grading import available, container, container_first, drivers, escapes
from tlkit.course.grading.available import package
from tlkit.course.grading.model import Step
from tlkit.course.grading.supervise import INSIDE, run

pytestmark = [pytest.mark.linux, pytest.mark.podman]


@pytest.fixture(scope="module")
def podman():
    """この機械で動く podman。"""
    tried = {driver.detail: available.trouble(driver) for driver in drivers.candidates() if driver.name == "podman"}
    working = [driver for driver in drivers.candidates() if driver.detail in tried and tried[driver.detail] is None]
    assert working, tried
    return working[0]


def _left(driver):
    """残っているコンテナの名前。"""
    listed = subprocess.run(
        [*driver.detail.split(), "ps", "--all", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split() if name.startswith("tlkit-cage-")]


def _run(driver, tree, cells, limits=SMALL):
    questions = [question for question in QUESTIONS if question.id in cells]
    program = [Step(name, source, name if name in SEEDS else None) for name, source in cells.items()]
    seeds = {question.id: SEEDS[question.id] for question in questions}
    return run(program, questions, seeds, limits, tree, lambda: driver.start(tree, limits, INSIDE))


@pytest.mark.parametrize("attempt", escapes.escape_attempts(), ids=lambda attempt: attempt.name)
def test_every_escape_is_blocked(podman, attempt, monkeypatch):
    monkeypatch.setattr(escapes, "escape_attempts", lambda: [attempt])
    (trial,) = escapes.selftest(podman)
    assert trial.blocked, trial.detail


def test_without_the_stricter_profile_the_trial_says_so(podman, monkeypatch):
    """podman の既定のままでは、名前空間を作れる。試しが、それを見つけて断る。"""
    monkeypatch.setattr(container.container_seccomp, "option", lambda program: [])
    assert "名前空間を新しく作れる" in available.trouble(podman)


@pytest.mark.parametrize(
    ("lost", "instead", "told"),
    [
        ("--network=none", "--network=host", "ネットワーク"),
        ("--read-only-tmpfs=false", "--read-only-tmpfs=true", "書けないはずの場所"),
        ("--security-opt=no-new-privileges", "--tty=false", "権限を取り戻せる"),
        ("--cap-drop=ALL", "--tty=false", "権限が残る"),
        ("--pid=private", "--pid=host", "Docker Desktop"),
    ],
)
def test_the_trial_notices_a_missing_wall(podman, lost, instead, told, monkeypatch):
    for name in ("_CLOSED", "_PODMAN"):
        options = [instead if part == lost else part for part in getattr(container, name)]
        monkeypatch.setattr(container, name, tuple(options))
    assert told in (available.trouble(podman) or "")


def test_the_outcome_is_the_same_as_in_bubblewrap(podman, tmp_path):
    tree = make_tree(tmp_path)
    tree.chmod(0o755)
    contained, caged = (
        dataclasses.replace(_run(driver, tree, ANSWERS, PROBE), seconds=0.0, peak_mb=0.0)
        for driver in (podman, drivers.bubblewrap())
    )
    assert contained == caged
    assert contained.limit is None and len(contained.claims) >= 4


def test_nothing_is_left_after_any_end(podman, monkeypatch):
    mark, numbers = secrets.token_hex(6), itertools.count()  # ほかの検査が同時に作るコンテナと、名前で分ける
    monkeypatch.setattr(container.secrets, "token_hex", lambda _: f"{mark}-{next(numbers)}")

    def mine():
        return [name for name in _left(podman) if mark in name]

    cells = {"a": "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)", "b": "1"}
    outcome = _run(podman, package(), cells)
    assert (outcome.limit, outcome.errors, mine()) == (None, {}, [])
    with podman.start(package(), SMALL, ("-c", "import time; time.sleep(1000)")) as process:
        family = process.family()
        assert family and all(Path(f"/proc/{pid}").exists() for pid in family)
        assert mine() == [f"tlkit-cage-{mark}-1"]
    assert mine() == []
    assert not any(_alive(pid) for pid in family)


def test_a_grader_that_dies_leaves_a_container_that_ends_by_itself(podman, monkeypatch):
    monkeypatch.setattr(container, "_SPARE_SECONDS", 2.0)
    limits = dataclasses.replace(SMALL, total_seconds=1)
    with podman.start(package(), limits, ("-c", "import time; time.sleep(1000)")) as process:
        family = process.family()
        process._popen.kill()  # 採点する側が、片付けずに終わった
        end = time.monotonic() + 120
        while any(map(_alive, family)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(_alive, family))


def test_the_environment_of_the_grader_does_not_enter(podman, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://name:hush-hush-4711@proxy")
    script = (
        "import os\nprint(sorted(os.environ))\n"
        "try: print(open('/proc/1/environ').read())\n"
        "except PermissionError: print('closed')"
    )
    with podman.start(package(), SMALL, ("-c", script)) as process:
        said, _ = process.listen(60)
    names, first = said.decode().splitlines()
    assert "PYTHONHASHSEED" in names and "PROXY" not in names.upper()
    assert first == "closed"


def test_large_reports_pass_unharmed(podman):
    """標準入出力は、道具が中継する。4 MB が、欠けも混ざりもせずに往復する。"""
    script = "import sys\ndata = sys.stdin.buffer.read(4 << 20)\nsys.stdout.buffer.write(data)"
    sent = os.urandom(4 << 20)
    with podman.start(package(), SMALL, ("-c", script)) as process:
        said, complained = process._popen.communicate(sent, timeout=60)
    assert complained == b"" and said == sent


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_the_first_process_is_the_shipped_one():
    assert Path(container_first.__file__) == container._FIRST
