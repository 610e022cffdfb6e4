import dataclasses
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cage_kit import SEEDS, SMALL, make_tree, run_answers, run_cells, warmed
from caged_questions import QUESTIONS

from tlkit.course.checks.harness import Claim, decide, to_json
from tlkit.course.errors import CourseError
from tlkit.course.grading import supervise
from tlkit.course.grading.available import package
from tlkit.course.grading.model import Limits, Step

pytestmark = pytest.mark.linux
BY_ID = {question.id: question for question in QUESTIONS}

# 一冊の中で、答えを呼ぶ間に起きることを全部試す。一つが落ちても、失うのはその問題だけ
ANSWERS = {
    "setup": "import ctypes, os, subprocess, time",
    "99-1": "def double1(x): return x * 2",
    "99-2": "def double2(x): ctypes.string_at(0)",
    "99-3": "def double3(x): os._exit(0)",
    "99-4": "def double4(x): time.sleep(1000)",
    "99-5": "def double5(x):\n    for _ in range(8):\n        if os.fork() == 0:\n"
    "            held = b'x' * (200 * 2**20)\n            time.sleep(1000)\n    time.sleep(1000)",
    "99-6": "def other(x): return x",
    "99-7": "def double7(x):\n    subprocess.Popen(['sleep', '1000'], start_new_session=True)\n    return x * 3",
    "99-8": "def double8(x): raise ValueError(object())\n1 / 0",
    "left": "names = [open(f'/proc/{p}/comm').read() for p in os.listdir('/proc') if p.isdecimal()]\n"
    "assert 'sleep\\n' not in names, names",
    "99-10": "def double10(x): return [bytearray(b'x' * 2**20) for _ in range(3000)]",
    "99-9": "double1 = None\ndef double9(x): return x * 2",
}
PROBE = dataclasses.replace(SMALL, probe_seconds=5)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module", params=["fresh", "warmed"])
def zygote(request, tree):
    """檻の始め方。新しい Python（None）か、温めた Python の写し。どの検査も、両方で成り立つ。"""
    if request.param == "fresh":
        yield None
        return
    made = warmed(tree)
    yield made
    assert made.alive()
    made.close()


@pytest.fixture(scope="module")
def outcome(tree, zygote):
    return run_answers(tree, ANSWERS, PROBE, zygote)


def test_right_answers_around_the_bad_ones_are_kept(outcome):
    assert outcome.limit is None, outcome.detail
    for name in ("99-1", "99-9"):
        assert outcome.claims[name].data == {"value": SEEDS[name] * 2.0}
        assert decide(BY_ID[name], outcome.claims[name], SEEDS[name]).passed


def test_a_wrong_answer_is_a_claim_and_not_a_verdict(outcome):
    assert outcome.claims["99-7"].data == {"value": SEEDS["99-7"] * 3.0}
    assert decide(BY_ID["99-7"], outcome.claims["99-7"], SEEDS["99-7"]).code == "not-double"


def test_each_failing_probe_limits_only_its_own_question(outcome):
    assert outcome.reasons == {
        "99-2": "crash:SIGSEGV",
        "99-3": "crash:exit",
        "99-4": "timeout",
        "99-5": "memory",
        "99-6": "missing",
    }


def test_too_much_memory_in_one_process_is_an_ordinary_error(outcome):
    assert outcome.claims["99-10"].error["type"] == "MemoryError"


def test_processes_left_by_a_probe_are_gone_before_the_next_cell(outcome):
    assert "left" not in outcome.errors


def test_an_answer_is_called_even_when_its_cell_ended_in_an_error(outcome):
    assert outcome.errors["99-8"] == "ZeroDivisionError: division by zero"
    assert outcome.claims["99-8"].state == "raised"
    assert outcome.claims["99-8"].error["message"] == "<object object at 0x…>"


def test_the_same_submission_gives_the_same_outcome_however_the_cage_is_started(outcome, tree):
    again = run_answers(tree, ANSWERS, PROBE)
    timeless = {"seconds": 0, "peak_mb": 0, "cell_seconds": {}, "probe_seconds": {}}
    plain = [dataclasses.replace(item, **timeless) for item in (outcome, again)]
    assert plain[0] == plain[1]
    assert [to_json(claim) for claim in plain[0].claims.values()] == [to_json(c) for c in plain[1].claims.values()]


ROOM = (
    "import resource\n"
    "def room():\n"
    "    pages = int(open('/proc/self/statm').read().split()[0])\n"
    "    return resource.getrlimit(resource.RLIMIT_AS)[0] - pages * resource.getpagesize()\n"
    "def double1(x): return room() / 2**20"
)


def test_an_answer_may_use_as_much_memory_however_the_cage_is_started(zygote, tree):
    """温めた Python が初めから持つ分で、使える記憶 [MiB] が減らない（減ると、同じ答えが一方だけ MemoryError になる）。"""
    setup = {"setup": "import torch"}
    rooms = [
        run_answers(tree, {**setup, "99-1": ROOM}, SMALL, each).claims["99-1"].data["value"] for each in (zygote, None)
    ]
    assert min(rooms) > SMALL.memory_mb / 3
    assert abs(rooms[0] - rooms[1]) < 16, rooms


# 罠 7: 通り道には学習者も書ける。届くものは言い分でしかない
def test_forged_frames_change_nothing(tree, zygote):
    forged = Claim("99-2", "done", {"value": SEEDS["99-2"] * 2.0})
    frames = [
        {"event": "claim", "question": "99-2", "claim": to_json(forged), "reason": None},
        {"event": "ready", "question": "99-2"},
        {"event": "unknown"},
        {"event": ["start"]},
        {"event": "cell", "id": "99-2", "ok": True},
        [1, 2],
    ]
    data = (
        "".join(json.dumps(frame) + "\n" for frame in frames) + '{"event": "done", "event": "x"}\n' + "[" * 9999 + "\n"
    )
    spray = (
        f"import os\ndata = {data!r}.encode()\n"
        "for fd in range(3, 30):\n"
        "    try:\n        if 'pipe' in os.readlink(f'/proc/self/fd/{fd}'): os.write(fd, data)\n"
        "    except OSError: pass"
    )
    outcome = run_answers(tree, {"spray": spray, "99-2": "def double2(x): return 0.0"}, zygote=zygote)
    assert outcome.claims["99-2"].data == {"value": 0.0}
    assert not decide(BY_ID["99-2"], outcome.claims["99-2"], SEEDS["99-2"]).passed
    assert len(outcome.notes) >= 3


def test_a_flood_of_frames_is_stopped():
    outcome = run_cells(
        "import os\n"
        "pipes = [fd for fd in range(3, 30) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "while True:\n"
        "    for fd in pipes:\n"
        "        try: os.write(fd, b'y' * 65536)\n"
        "        except OSError: pass",
        "1",
    )
    assert outcome.limit == "output"


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(1e6)"])
def test_a_cell_that_never_ends_is_stopped_by_the_wall_clock(code):
    limits = dataclasses.replace(SMALL, cell_seconds=2)
    started = time.monotonic()
    outcome = run_cells("1 / 0", code, "1", limits=limits)
    assert outcome.limit == "wall" and "c1" in outcome.detail and "2 秒" in outcome.detail
    assert outcome.errors == {"c0": "ZeroDivisionError: division by zero"}
    assert time.monotonic() - started < 30


def test_many_short_cells_meet_the_total_limit():
    limits = dataclasses.replace(SMALL, total_seconds=3)
    outcome = run_cells(*["import time; time.sleep(0.5)"] * 40, limits=limits)
    assert outcome.limit == "wall" and "全体" in outcome.detail


def test_questions_after_a_limit_are_not_reached_and_those_before_keep_their_claims(tree, zygote):
    cells = {"99-1": ANSWERS["99-1"], "stop": "import os; os._exit(0)", "99-9": ANSWERS["99-9"]}
    outcome = run_answers(tree, cells, zygote=zygote)
    assert outcome.limit == "crash"
    assert outcome.claims.keys() == {"99-1"} and outcome.reasons == {"99-9": "not-reached"}


def test_nothing_survives_the_cage():
    mark = f"9{os.getpid()}.5"
    run_cells(f"import subprocess\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)")
    run_cells(f"import subprocess, os\nsubprocess.Popen(['sleep', '{mark}'])\nos._exit(0)")
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {mark}" not in left


def test_one_hostile_neighbour_does_not_change_another(tree):
    with ThreadPoolExecutor(2) as pool:
        hostile = pool.submit(run_cells, "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
        honest = pool.submit(run_answers, tree, {"99-1": ANSWERS["99-1"]})
        assert hostile.result().limit == "processes"
        assert honest.result().claims["99-1"].data == {"value": SEEDS["99-1"] * 2.0}


def test_a_missing_tree_is_an_infrastructure_failure(tmp_path):
    with pytest.raises(CourseError, match="tlkit"):
        supervise.run([Step("a", "1")], (), {}, Limits(), tmp_path)


def test_a_missing_bwrap_is_an_infrastructure_failure(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CourseError, match="bubblewrap"):
        run_cells("1")


def test_a_broken_tree_is_an_infrastructure_failure_with_its_own_words(tmp_path):
    shutil.copytree(package(), tmp_path / "tlkit", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    (tmp_path / "tlkit" / "course" / "grading" / "inside" / "runner.py").write_text("import nothing_like_this\n")
    with pytest.raises(CourseError, match="nothing_like_this"):
        supervise.run([Step("a", "1")], (), {}, Limits(), tmp_path)


def test_no_file_outside_is_touched(tree):
    before = {path: path.stat().st_mtime_ns for path in Path(tree).rglob("*")}
    run_cells(
        "import pathlib\nfor f in pathlib.Path('/tree').rglob('*'):\n    try: f.write_text('x')\n    except OSError: pass"
    )
    assert {path: path.stat().st_mtime_ns for path in Path(tree).rglob("*")} == before
