"""檻に見せる写しの翻訳: 関数に入るたびに知らせが届き、文も行番号も、動きも変わらないこと。"""

import ast
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tlkit.course.checks import entrance
from tlkit.course.errors import CourseError
from tlkit.course.grading import assignment
from tlkit.course.grading.available import package
from tlkit.course.grading.inside_marks import compiled, marked
from tlkit.course.grading.inside_tree import prepare

SOURCE = '''"""説明。"""

from __future__ import annotations

import functools

TWICE = lambda x: 2 * x


def plain(x):
    """二倍。"""
    return TWICE(x)


def only_a_docstring():
    """何もしない。"""


def without_docstring(x): return x + 1


def branches(x):
    if x:
        return 1
    return 0


def counts(n):
    yield from range(n)


@functools.cache
def remembered(x):
    return x


def maker():
    def inner(x):
        raise ValueError(x)
    return inner


class Thing:
    """もの。"""

    size = len([x for x in range(3)])

    def __init__(self):
        self.__hidden = 3

    @property
    def hidden(self):
        return self.__hidden

    async def later(self):
        return 5
'''


@pytest.fixture
def module():
    made = types.ModuleType("zoo")
    made.__file__ = "zoo.py"
    exec(compile(marked(ast.parse(SOURCE, "zoo.py")), "zoo.py", "exec", dont_inherit=True), made.__dict__)
    return made


def heard(call) -> list[str]:
    names: list[str] = []
    with entrance.listening(lambda frame: names.append(frame.f_code.co_qualname)):
        call()
    return names


def raises(call) -> None:
    with pytest.raises(ValueError, match="3"):
        call()


def finish(coroutine) -> None:
    with pytest.raises(StopIteration, match="5"):
        coroutine.send(None)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda m: m.plain(3), ["plain", "<lambda>"]),
        (lambda m: m.only_a_docstring(), ["only_a_docstring"]),
        (lambda m: m.without_docstring(3), ["without_docstring"]),
        (lambda m: m.branches(0), ["branches"]),
        (lambda m: list(m.counts(3)), ["counts"]),
        (lambda m: [m.remembered(3) for _ in range(2)], ["remembered"]),
        (lambda m: raises(lambda: m.maker()(3)), ["maker", "maker.<locals>.inner"]),
        (lambda m: m.Thing().hidden, ["Thing.__init__", "Thing.hidden"]),
        (lambda m: finish(m.Thing().later()), ["Thing.__init__", "Thing.later"]),
    ],
)
def test_every_kind_of_function_reports_that_it_was_entered(module, call, names):
    assert heard(lambda: call(module)) == names


def test_values_documents_and_line_numbers_stay(module):
    plain = types.ModuleType("plain")
    exec(compile(SOURCE, "zoo.py", "exec", dont_inherit=True), plain.__dict__)
    assert (module.plain(4), module.branches(1), list(module.counts(2))) == (8, 1, [0, 1])
    assert module.__doc__ == plain.__doc__
    for name in ("plain", "only_a_docstring", "without_docstring", "branches", "counts", "maker", "Thing"):
        mine, other = getattr(module, name), getattr(plain, name)
        assert mine.__doc__ == other.__doc__
        if inspect.isfunction(mine):
            assert mine.__code__.co_firstlineno == other.__code__.co_firstlineno
    with pytest.raises(ValueError, match="3") as caught:
        module.maker()(3)
    assert caught.traceback[-1].lineno + 1 == SOURCE.splitlines().index("        raise ValueError(x)") + 1


def test_listening_ends_even_after_an_error_and_may_be_nested(module):
    outer: list[object] = []
    with entrance.listening(outer.append):
        with pytest.raises(ZeroDivisionError), entrance.listening(lambda _frame: 1 / 0):
            module.plain(1)
        module.branches(1)
    module.plain(1)
    assert [frame.f_code.co_name for frame in outer] == ["branches"]


def test_only_the_science_side_and_the_entrance_itself_change():
    source = b"def f():\n    return 1\n"
    mine = package() / "course" / "checks" / "entrance.py"
    assert b"__entered__" in compiled(source, "losses/f.py", "f.py")
    assert b"__entered__" not in compiled(source, "course/checks/f.py", "f.py")
    assert b"MARKED" in compiled(mine.read_bytes(), "course/checks/entrance.py", "e.py")
    assert not entrance.MARKED  # ノートブックが使うほうには、印がない
    with pytest.raises(CourseError, match="MARKED = False"):
        compiled(source, "course/checks/entrance.py", "e.py")


_LOOK = """
import sys; sys.path.insert(0, {tree!r})
from tlkit.course.checks import entrance, borrowed
import tlkit, torch
from tlkit.losses import coral
with borrowed.watch() as found:
    coral(torch.randn(3, 4), torch.randn(5, 4))
print(entrance.MARKED, found, sys.getprofile(), tlkit.__file__.startswith({tree!r}))
"""


@pytest.mark.parametrize("version_differs", [False, True])
def test_a_copy_is_watched_by_marks_and_without_its_pyc_by_the_profiler(tmp_path: Path, version_differs: bool):
    tree = prepare(assignment.load("01_basics"), tmp_path)
    if version_differs:
        for path in tree.rglob("*.pyc"):
            path.unlink()
    done = subprocess.run(
        [sys.executable, "-P", "-c", _LOOK.format(tree=str(tree))],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    said = f"{not version_differs} ['tlkit.losses.coral.coral'] None True"
    assert done.stdout.strip() == said, done.stderr[-2000:]
