"""返り値を素の値に直す部分。偽るオブジェクトを信じないこと、大きさと深さに限りがあること。"""

import json
import math
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from tlkit.course.checks.plain import MAX_BYTES, MAX_ITEMS, MAX_TEXT, Blob, PlainError, seal, to_plain, unseal


def sealed(value: Any) -> Any:
    return unseal(seal(value))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.1, 0.1),
        ("あ\n", "あ\n"),
        (Blob(b"\x00\xff"), Blob(b"\x00\xff")),
        ({"a": [Blob()]}, {"a": [Blob()]}),
        (torch.tensor(1.5), 1.5),
        (torch.tensor([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (torch.tensor([True, False]), [True, False]),
        (torch.nn.Parameter(torch.ones(2)), [1.0, 1.0]),
        (torch.ones(2, dtype=torch.bfloat16), [1.0, 1.0]),
        (torch.zeros(0, 3), []),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        ((1, [2, {"a": torch.tensor(3)}]), [1, [2, {"a": 3}]]),
        (OrderedDict(b=1), {"b": 1}),
        (namedtuple("P", "x y")(1, 2), [1, 2]),
    ],
)
def test_values_become_plain_and_survive_json(value: Any, plain: Any) -> None:
    assert to_plain(value) == plain
    assert sealed(value) == plain
    assert type(sealed(value)) is type(plain)


def test_float64_is_kept_exactly() -> None:
    numbers = [0.1 + 0.2, 1e-308, -0.0, 1 / 3]
    assert [x.hex() for x in sealed(torch.tensor(numbers, dtype=torch.float64))] == [x.hex() for x in numbers]


def test_nan_and_infinity_are_kept_in_strict_json() -> None:
    text = seal([math.nan, math.inf, {"a": -math.inf}])
    json.loads(text, parse_constant=lambda name: pytest.fail(f"JSON にない {name}"))
    found = unseal(text)
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, {"a": -math.inf}]


class LyingFloat(float):
    def __float__(self) -> float:
        return 99.0

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__

    def __repr__(self) -> str:
        return "99.0"


class LyingInt(int):
    def __int__(self) -> int:
        return 99

    __index__ = __int__


class LyingList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([99])


class LyingDict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return [("a", 99)]


class LyingStr(str):
    def __str__(self) -> str:
        return "99"


@pytest.mark.parametrize(
    ("value", "truth"),
    [(LyingFloat(1.0), 1.0), (LyingInt(1), 1), (LyingList([1]), [1]), (LyingDict(a=1), {"a": 1}), (LyingStr("1"), "1")],
)
def test_lying_subclasses_show_their_real_value(value: Any, truth: Any) -> None:
    found = to_plain(value)
    assert type(found) is type(truth)
    assert truth == found  # 左が素の値なので、偽の __eq__ は使われない
    assert repr(found) == repr(truth)


class Agreeable:
    """何と比べても等しいと言い、配列にも数にもなる物。"""

    __class__ = float  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __array__(self, *_: Any) -> Any:
        return np.array(1.0)

    def __float__(self) -> float:
        return 1.0


class TensorChild(torch.Tensor):
    pass


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value",
    [
        Agreeable(),
        object(),
        lambda: 1,
        1j,
        b"a",
        {1: 2},
        {"~float": "nan"},
        2**70,
        endless(),
        "あ" * (MAX_TEXT + 1),
        [0] * (MAX_ITEMS + 1),
        torch.zeros(1).expand(10**12),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
        torch.zeros([1] * 20),
        torch.zeros(2).as_subclass(TensorChild),
        np.array([object()]),
        np.array(["a"]),
        np.ma.masked_array([1.0]),
        np.str_("a")[:0].__class__,
        np.datetime64("2026-01-01"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused_in_japanese(value: Any) -> None:
    with pytest.raises(PlainError, match="返り値"):
        seal(value)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        "1e400",
        '{"a": 1, "a": 2}',
        '{"~float": 3}',
        '{"~float": "nan", "b": 1}',
        "[" * 100_000,
        "[" * 50 + "]" * 50,
        "9" * 5000,
        "",
        "{",
        '"' + "a" * (MAX_TEXT + 1) + '"',
        " " * 9_000_000,
    ],
    ids=range(13),
)
def test_forged_records_are_refused(text: str) -> None:
    with pytest.raises(PlainError):
        unseal(text)


def test_a_huge_view_is_refused_before_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "to", lambda *_: pytest.fail("大きさを確かめる前に写した"))
    with pytest.raises(PlainError, match="大きすぎます"):
        to_plain(torch.zeros(1).expand(10**9))


def test_lone_surrogates_can_be_printed() -> None:
    to_plain("\ud800").encode("utf-8")


class LyingBlob(Blob):
    def __len__(self) -> int:
        return 0


def test_blobs_are_bounded_and_a_blob_that_lies_is_refused() -> None:
    half = MAX_BYTES // 2
    assert sealed([Blob(half), Blob(half)]) == [bytes(half), bytes(half)]
    with pytest.raises(PlainError, match="バイト列が長すぎます"):
        to_plain([Blob(half), Blob(half + 1)])
    with pytest.raises(PlainError, match="LyingBlob"):
        to_plain(LyingBlob(b"x"))


@pytest.mark.parametrize(
    "text", ['{"~bytes": "A"}', '{"~bytes": "あ"}', '{"~bytes": 3}', '{"~bytes": "", "a": 1}', '{"~bytes": "AA\\n=="}']
)
def test_bytes_that_are_not_base64_are_refused(text: str) -> None:
    with pytest.raises(PlainError):
        unseal(text)


def test_the_names_of_special_values_are_not_free() -> None:
    with pytest.raises(PlainError, match="~bytes"):
        seal({"~bytes": "AAAA"})
