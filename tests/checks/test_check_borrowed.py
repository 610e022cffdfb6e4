"""tlkit の関数を借りた答えの見張り。"""

import sys
import threading
from typing import Any

import pytest
import torch

import tlkit.losses.mmd as home
from tlkit.course.checks.borrowed import handed_in, watch
from tlkit.course.errors import CourseError
from tlkit.losses import mmd2
from tlkit.losses._rbf_sums import RBFDiscrepancy

X, Y = torch.randn(4, 2), torch.randn(3, 2)


def fail_if(happened: bool) -> None:
    if happened:
        raise ZeroDivisionError


def watched(function: Any, *borrow_ok: str) -> list[str]:
    with watch(borrow_ok) as found:
        function()
    return found


def test_only_the_first_step_into_tlkit_is_named() -> None:
    assert watched(lambda: mmd2(X, Y)) == ["tlkit.losses.mmd.mmd2"]


@pytest.mark.parametrize("name", ["losses.mmd2", "tlkit.losses.mmd2", "losses"])
def test_lent_names_may_be_called(name: str) -> None:
    assert watched(lambda: mmd2(X, Y), name) == []
    assert handed_in(mmd2, (name,)) is None


def test_lending_one_function_does_not_lend_its_neighbour() -> None:
    assert watched(lambda: home.median_bandwidth(X, Y), "losses.mmd2") == ["tlkit.losses.mmd.median_bandwidth"]


def test_unknown_lent_name_is_an_error_of_the_course() -> None:
    with pytest.raises(CourseError, match="borrow_ok"):
        watched(lambda: None, "losses.nothing_like_this")


def test_calls_in_backward_are_seen() -> None:
    x = X.clone().requires_grad_()
    value = mmd2(x, Y)
    assert watched(value.backward) == ["tlkit.losses._rbf_sums.RBFDiscrepancy.backward"]


def test_calls_in_another_thread_are_seen() -> None:
    def other_thread() -> None:
        thread = threading.Thread(target=lambda: mmd2(X, Y))
        thread.start()
        thread.join()

    assert watched(other_thread) == ["tlkit.losses.mmd.mmd2"]


def test_imports_and_the_course_itself_are_not_calls() -> None:
    def imports() -> None:
        for name in ("tlkit.seeding", "tlkit.course.checks.registry"):
            sys.modules.pop(name, None)
            __import__(name)
        from tlkit.course.checks.registry import question

        question("01-1")

    assert watched(imports) == []


def test_the_former_profiler_comes_back_even_after_an_error() -> None:
    def mine(*_: Any) -> None:
        pass

    sys.setprofile(mine)
    try:
        with pytest.raises(ZeroDivisionError), watch():
            fail_if(sys.getprofile() is not mine)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)
    assert threading.getprofile() is None


def test_tlkit_itself_as_an_answer() -> None:
    assert handed_in(mmd2) == "tlkit.losses.mmd.mmd2"
    assert handed_in(RBFDiscrepancy) == "tlkit.losses._rbf_sums.RBFDiscrepancy"
    assert handed_in(RBFDiscrepancy.apply) is None or "tlkit" in str(handed_in(RBFDiscrepancy.apply))
    for own in (watched, torch.nn.Linear, torch.exp, 3, CourseError):
        assert handed_in(own) is None
