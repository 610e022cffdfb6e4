"""学習済みの重みの受け渡し。偽ったもの、大きすぎるもの、形の違うもの、pickle を受け取らないこと。"""

import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from tlkit.course.checks import weights
from tlkit.course.checks.plain import MAX_BYTES, seal, unseal


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def refused(record: Any, ours: nn.Module | None = None) -> tuple[str, str]:
    with pytest.raises(weights.WeightsError) as caught:
        weights.unpack(record, ours or model())
    return caught.value.code, str(caught.value)


def changed(name: str, value: Tensor) -> dict[str, Any]:
    return weights.pack(dict(model().state_dict()) | {name: value})


@pytest.mark.parametrize(
    "form", [lambda net: net, lambda net: net.state_dict(), lambda net: dict(net.named_parameters())]
)
def test_weights_survive_the_way_out_of_the_cage(form: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].weight.data = net[0].weight.data.t().contiguous().t()  # つながっていないテンソル
    state = weights.unpack(unseal(seal(weights.pack(form(net)))), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_tied_weights_are_packed() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert (
        weights.unpack(weights.pack(net), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))).keys()
        == net.state_dict().keys()
    )


def test_accuracy_is_measured_in_our_architecture_in_eval_mode() -> None:
    torch.manual_seed(0)
    theirs, ours, x = model(), model(), torch.randn(50, 3)
    theirs(x)
    y = theirs.eval()(x).argmax(1)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    assert weights.accuracy(ours, weights.unpack(weights.pack(theirs), ours), x, y) == 1.0
    assert weights.accuracy(ours, weights.unpack(weights.pack(theirs), ours), x, 1 - y) == 0.0
    assert ours.training and all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


class Liar:
    __class__ = OrderedDict  # type: ignore[assignment]

    def items(self) -> Any:
        raise AssertionError("呼ばれてはいけない")


class Sub(Tensor):
    pass


@pytest.mark.parametrize(
    "answer", [Liar(), [1.0], None, {"a": 1.0}, {1: torch.zeros(1)}, {"a": torch.zeros(1).as_subclass(Sub)}]
)
def test_things_that_are_not_a_state_dict_are_refused(answer: Any) -> None:
    code, message = refused(weights.pack(answer))
    assert code == "weights-kind"
    assert "state_dict" in message


def test_too_large_weights_are_refused_before_they_are_copied() -> None:
    code, message = refused(weights.pack({"a": torch.zeros(1).expand(10**12)}))
    assert code == "weights-size"
    assert str(4 * 10**12) in message


def test_the_largest_weights_fit_into_a_plain_value() -> None:
    largest = nn.Linear((MAX_BYTES - 100_000) // 4, 1, bias=False)
    assert unseal(seal(weights.pack(largest)))["bytes"] == save(dict(largest.state_dict()))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("0.weight", torch.zeros(4, 3, dtype=torch.float64), "weights-dtype"),
        ("0.weight", torch.zeros(3, 4), "weights-shape"),
        ("0.weight", torch.full((4, 3), torch.nan), "weights-not-finite"),
        ("0.bias", torch.tensor([0.0, torch.inf, 0.0, 0.0]), "weights-not-finite"),
        ("1.num_batches_tracked", torch.tensor(0.0), "weights-dtype"),
        ("9.weight", torch.zeros(1), "weights-names"),
    ],
)
def test_weights_of_another_kind_are_refused_by_name(name: str, value: Tensor, code: str) -> None:
    found, message = refused(changed(name, value))
    assert found == code
    assert name in message


def test_missing_weights_are_named() -> None:
    state = dict(model().state_dict())
    del state["3.bias"]
    assert refused(weights.pack(state)) == ("weights-names", "重みの名前が合いません。3.bias が足りません。")


@pytest.mark.parametrize(
    "record",
    [
        {"bytes": pickle.dumps({"a": 1})},
        {"bytes": b""},
        {"bytes": b"\xff" * 100},
        {"bytes": save({"a": torch.zeros(3)})[:-1]},
        {"bytes": (2**62).to_bytes(8, "little") + b"{}"},
        {"bytes": b'\x3b\0\0\0\0\0\0\0{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}\0'},
        {"bytes": "文字"},
        {"refused": ["x"]},
        {"refused": [1, 2]},
        [],
        None,
    ],
)
def test_records_that_are_not_safetensors_are_refused(record: Any) -> None:
    assert refused(record)[0] in ("weights-unreadable", "weights-names")
