"""檻の中の限り: 再帰の深さ、記憶の量り方、GPU の誤りの文。"""

import os
import subprocess
import sys

import pytest

from tlkit.course.grading.inside import processes

pytestmark = pytest.mark.linux
GONE = 2**22 + 1  # 番号の上限より大きいので、いないプロセス


def _python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("body", ["dig()", "list(map(lambda _: dig(), [0]))"])
def test_endless_recursion_ends_in_an_error_and_not_in_a_crash(body):
    code = (
        "import sys\nfrom tlkit.course.grading.inside.depth import bound_depth\nbound_depth()\n"
        f"sys.setrecursionlimit(10**9)\ndef dig(): {body}\n"
        "try: dig()\nexcept RecursionError: print(sys.getrecursionlimit())"
    )
    assert _python(code) == "10000\n"


def test_the_depth_may_still_be_lowered_and_wrong_values_are_errors():
    code = (
        "import sys\nfrom tlkit.course.grading.inside.depth import bound_depth\nbound_depth()\n"
        "sys.setrecursionlimit(500)\nprint(sys.getrecursionlimit())\n"
        "for wrong in (-1, '3'):\n    try: sys.setrecursionlimit(wrong)\n"
        "    except (TypeError, ValueError): print('refused')"
    )
    assert _python(code) == "500\nrefused\nrefused\n"


@pytest.mark.parametrize(
    "use", ["torch.zeros(1).cuda()", "torch.zeros(1, device='cuda')", "torch.nn.Linear(1, 1).to('cuda')"]
)
@pytest.mark.parametrize("before", ["", "torch.cuda.is_available()\nimport os\nif os.fork(): os.wait(); os._exit(0)"])
def test_a_gpu_that_is_not_there_is_told_in_one_way(use, before):
    code = (
        "import torch\nfrom tlkit.course.grading.inside.no_gpu import always_say_there_is_none\n"
        f"always_say_there_is_none()\n{before}\n"
        f"try: {use}\nexcept RuntimeError as error: print(error, flush=True)"
    )
    assert _python(code).startswith("採点では GPU を使えません")


def test_memory_counts_shared_pages_once_only_when_it_matters():
    me = os.getpid()
    resident = processes.memory([me], 2**60)
    shared = processes.memory([me], 0)
    assert 0 < shared < resident
    assert 0 < processes.unshared(me) < resident


def test_a_process_that_is_gone_counts_nothing():
    assert processes.memory([GONE], 0) == 0
    assert processes.unshared(GONE) == 0


def test_a_process_that_ends_while_it_is_counted_counts_nothing(monkeypatch):
    real, asked = processes._resident, []
    monkeypatch.setattr(
        processes, "_resident", lambda pid: asked.append(pid) or (10**9 if len(asked) == 1 else real(pid))
    )
    assert processes.memory([GONE], 0) == 0


def test_counting_stops_when_processes_multiply(monkeypatch):
    monkeypatch.setattr(processes, "_LOOK_SECONDS", -1.0)
    asked = []
    assert processes.memory([1, os.getpid()], 0, lambda: asked.append(1) or len(asked) > 1) is None
    assert len(asked) == 2
