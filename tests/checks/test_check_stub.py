"""未着手の見分け方。torch などから来た NotImplementedError を、未着手と間違えないこと。"""

import functools
import inspect
from typing import Any

import pytest
import torch

from tlkit.course.checks import stub


def caught(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("例外が起きませんでした")


def raise_own() -> None:
    raise NotImplementedError("ここを実装してください")


def raise_inside_with() -> None:
    with torch.no_grad():
        try:
            raise NotImplementedError
        finally:
            str(1)


def call_missing_kernel() -> None:
    torch.bitwise_and(torch.ones(2), 1)


def call_missing_forward() -> None:
    torch.nn.Module()(1)


def call_abstract_property() -> None:
    torch.distributions.Distribution(validate_args=False).mean  # noqa: B018


def use_blank() -> None:
    value: Any = ...
    value + 1


def use_blank_in_torch() -> None:
    torch.exp(...)


def other_type_error() -> None:
    len(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [raise_own, raise_inside_with, use_blank, use_blank_in_torch])
def test_errors_of_an_untouched_answer(function: Any) -> None:
    assert stub.is_stub_error(caught(function))


@pytest.mark.parametrize(
    "function", [call_missing_kernel, call_missing_forward, call_abstract_property, other_type_error]
)
def test_errors_that_are_not_the_stub(function: Any) -> None:
    assert not stub.is_stub_error(caught(function))


def blank_with_doc() -> None:
    """説明。"""


def blank_names() -> None:
    a = ...  # noqa: F841
    b, c = ..., ...  # noqa: F841


def blank_closure() -> Any:
    x = 1

    def inner() -> None:
        """説明。"""
        return

    inner.__defaults__ = (x,)
    return inner


def real_code(x: Any) -> None:
    x + 1


def real_constant() -> None:
    n = 3  # noqa: F841


@pytest.mark.parametrize("function", [blank_with_doc, blank_names, blank_closure(), lambda: None, lambda: ...])
def test_bodies_that_do_nothing(function: Any) -> None:
    assert stub.does_nothing(function.__code__)


@pytest.mark.parametrize("function", [real_code, real_constant, raise_own, blank_closure])
def test_bodies_with_code(function: Any) -> None:
    assert not stub.does_nothing(function.__code__)


class Plain:
    def method(self) -> None: ...

    def __call__(self) -> None: ...


class Net(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x


def test_code_of_unwraps_callables() -> None:
    assert stub.code_of(functools.partial(functools.partial(raise_own))) is raise_own.__code__
    assert stub.code_of(Plain().method) is Plain.method.__code__
    assert stub.code_of(Plain()) is Plain.__call__.__code__
    assert stub.code_of(Net()) is Net.forward.__code__
    assert stub.code_of(torch.exp) is None
    assert stub.code_of(Plain) is None


class Empty:
    """まだ何もない。"""


class WithBlanks:
    size = ...

    def method(self) -> None:
        """説明。"""

    @staticmethod
    def other() -> None: ...


class Config:
    rate = 0.1


@pytest.mark.parametrize("value", [Empty, WithBlanks, Plain])
def test_empty_classes(value: type) -> None:
    assert stub.is_empty_class(value)


@pytest.mark.parametrize(
    "value", [Net, Config, torch.nn.Linear, torch.nn.ReLU6, dict, inspect, torch.Tensor, 3, raise_own]
)
def test_classes_with_content(value: Any) -> None:
    assert not stub.is_empty_class(value)
