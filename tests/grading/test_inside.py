import json
import os
import sys

import pytest
from cage_kit import run_cells

from tlkit.course.grading.inside.capture import Capture
from tlkit.course.grading.inside.frames import Channel

pytestmark = pytest.mark.linux

# 一つの檻で続けて動かす。誤りの出たセルがあっても、後のセルは動く
CELLS = {
    "input": "input('名前は？')",
    "getpass": "import getpass; getpass.getpass()",
    "sys.exit": "import sys; sys.exit(3)",
    "exit": "exit()",
    "quit": "quit()",
    "syntax": "def broken(:\n    pass",
    "null": "x = 1\0",
    "base": "raise BaseException('底')",
    "interrupt": "raise KeyboardInterrupt",
    "broken_error": "class Bad(Exception):\n    def __str__(self): raise SystemExit\nraise Bad",
    "address": "raise ValueError(object())",
    "magic": "%timeit -n1 -r1 1 + 1\nimport math",
    "bash": "%%bash\necho from-bash > made.txt",
    "shell": "got = !cat made.txt\nassert list(got) == ['from-bash'], got",
    "await": "import asyncio\nawait asyncio.sleep(0)",
    "figures": "import matplotlib.pyplot as plt\nassert plt.get_backend().lower() == 'agg'\nplt.plot([1, 2])",
    "closed": "assert plt.get_fignums() == []",
    "inline": "%matplotlib inline\nplt.plot([1, 2])\nplt.show()",
    "course": "from tlkit.course import check, doctor, hint, quiz, ready\n"
    "import io, contextlib\nheard = io.StringIO()\n"
    "with contextlib.redirect_stdout(heard):\n"
    "    answers = [check('01-1', None), hint('01-1'), quiz('q01-01'), doctor(), ready('01-1'), check('無い番号')]\n"
    "assert answers == [None, None, None, None, False, None], answers\nassert heard.getvalue() == ''",
    "main": "import sys\nassert __name__ == '__main__' and sys.modules['__main__'].__dict__ is globals()",
    "display": "from IPython.display import display\ndisplay(math.pi)\nmath.pi",
    "streams": "import sys\nprint('a'); sys.stdout.buffer.write(b'b'); print('c', file=sys.stderr); sys.stdout.close()",
    "after_close": "print('まだ印字できる')",
    "stdin": "import sys\nassert sys.stdin.read() == ''",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()",
    "builtins": "import json, os, time\njson.dumps = os.write = os.read = time.monotonic = json.loads = None",
    "last": "1",
}

FAILING = {
    "input": "EOFError",
    "getpass": "EOFError",
    "sys.exit": "SystemExit: 3",
    "exit": "SystemExit",
    "quit": "SystemExit",
    "syntax": "SyntaxError",
    "null": "SyntaxError",
    "base": "BaseException: 底",
    "interrupt": "KeyboardInterrupt",
    "broken_error": "Bad: <exception str() failed>",
    "address": "ValueError: <object object at 0x…>",
}


@pytest.fixture(scope="module")
def outcome():
    return run_cells(*CELLS.values())


def _error(outcome, name):
    return outcome.errors.get(f"c{list(CELLS).index(name)}")


def test_the_whole_notebook_runs_to_its_end(outcome):
    assert (outcome.limit, outcome.detail, outcome.claims, outcome.reasons) == (None, "", {}, {})
    assert outcome.seconds < 60  # 残ったスレッドの 600 秒を待たない


@pytest.mark.parametrize(("name", "error"), FAILING.items())
def test_an_error_ends_only_its_own_cell(outcome, name, error):
    assert (_error(outcome, name) or "").startswith(error)


@pytest.mark.parametrize(
    "name",
    [name for name in CELLS if name not in FAILING],
)
def test_what_works_in_a_notebook_works_here(outcome, name):
    assert outcome.limit is None and _error(outcome, name) is None


# 罠 6: 印字の洪水で記憶が増え続けないこと
def test_a_flood_of_output_is_cut_and_noted():
    outcome = run_cells(
        "for _ in range(1000):\n    print('x' * 1_000_000)",
        "from IPython.display import display\nfor _ in range(3000): display('y' * 100)",
        "'z' * 5_000_000",
    )
    assert (outcome.limit, outcome.errors) == (None, {})
    assert outcome.notes == ("出力が長すぎます。途中から先は捨てました。",)
    assert outcome.peak_mb < 400


def test_os_exit_ends_the_cage_and_keeps_what_was_known():
    outcome = run_cells("1 / 0", "import os; os._exit(0)", "1")
    assert outcome.limit == "crash" and "途中で終了" in outcome.detail
    assert outcome.errors == {"c0": "ZeroDivisionError: division by zero"}


def test_a_segfault_names_its_signal():
    outcome = run_cells("import ctypes; ctypes.string_at(0)")
    assert outcome.limit == "crash" and "SIGSEGV" in outcome.detail


def test_deep_recursion_is_contained():
    outcome = run_cells("import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()")
    assert outcome.limit is None and outcome.errors["c0"].startswith("RecursionError")


def test_capture_keeps_the_head_and_counts_the_rest():
    printed = Capture(limit=3000)
    with printed.cell():
        print("あ" * 500)
        print("err", file=sys.stderr)
    assert printed.text == "あ" * 500 + "\nerr\n" and not printed.cut
    with printed.cell():
        print("b" * 2000)
    assert printed.text == "b" * 1000 and printed.cut


def test_capture_without_output_is_empty():
    printed = Capture(limit=10)
    with printed.cell():
        pass
    assert (printed.text, printed.cut) == ("", False)


def test_frames_are_one_ascii_line_each():
    inlet, outlet = os.pipe()
    channel = Channel(inlet, outlet)
    channel.send({"printed": "改行\nと日本語"})
    channel.send({"n": 2})
    raw = os.read(inlet, 1000)
    assert [json.loads(line) for line in raw.splitlines()] == [{"printed": "改行\nと日本語"}, {"n": 2}]
    assert raw.isascii()


def test_frames_arriving_together_are_read_one_by_one():
    inlet, outlet = os.pipe()
    os.write(outlet, b'{"a": 1}\n{"b": 2}\n')
    channel = Channel(inlet, outlet)
    assert (channel.receive(), channel.receive()) == ({"a": 1}, {"b": 2})
    os.close(outlet)
    with pytest.raises(EOFError):
        channel.receive()
