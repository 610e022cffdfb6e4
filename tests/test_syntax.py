"""構文木を一度に一つずつ作ること。採点は、いくつものスレッドから `tlkit/course/syntax.py` を使う。"""

import ast
import gc
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tlkit.course import syntax

PACKAGE = Path(syntax.__file__).resolve().parent
SOURCE = (PACKAGE / "checks" / "harness.py").read_text(encoding="utf-8")
RAW = re.compile(r"\bast\.parse\(|(?<![.\w])compile\(")


def test_a_tree_is_the_one_of_ast():
    assert ast.dump(syntax.parse(SOURCE)) == ast.dump(ast.parse(SOURCE))


def test_translated_code_runs_under_its_name():
    code = syntax.translate(syntax.parse("answer = 6 * 7"), "one.py")
    names = {}
    exec(code, names)
    assert (names["answer"], code.co_filename) == (42, "one.py")


def test_broken_source_names_the_file():
    with pytest.raises(SyntaxError) as error:
        syntax.parse("x = (", "broken.py")
    assert error.value.filename == "broken.py"


@pytest.fixture
def switching():
    """不要な物の片づけのたびに、ほかのスレッドへ移る。木を作る途中でも起こる。"""

    def yield_to_others(_phase, _info):
        time.sleep(0)

    before = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(yield_to_others)
    yield
    gc.callbacks.remove(yield_to_others)
    gc.set_threshold(*before)


@pytest.mark.usefixtures("switching")
def test_many_threads_at_once():
    """錠を外すと、Python 3.11 では SystemError になる。"""
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: len(syntax.parse(SOURCE).body), range(100)))) == 1


@pytest.mark.usefixtures("switching")
def test_parsing_and_translating_at_once():
    def turn(_number):
        return syntax.translate(syntax.parse(SOURCE), "one.py").co_names

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(turn, range(50)))) == 1


@pytest.mark.parametrize(
    "path", [PACKAGE / "cells.py", *sorted((PACKAGE / "grading").rglob("*.py"))], ids=lambda path: path.name
)
def test_what_grading_uses_goes_through_it(path):
    text = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))  # 説明の文の中の名前は数えない
    assert RAW.search(text) is None
