"""大きさと時間の測り方: 手計算との一致、測り方の約束、断り方。"""

import importlib
import io

import pytest
import torch
from distill_kit import DEVICES, snapshot, tiny, unchanged
from torch import Tensor, nn
from torch.nn.utils import prune

from tlkit.distill import count_flops, count_parameters, footprint, latency, stored_bytes
from tlkit.models import DigitMLP

measuring = importlib.import_module("tlkit.distill.footprint")  # 同じ名前の関数に隠れるので、名前から読み込む


@pytest.mark.parametrize("batch", [1, 5])
def test_flops_by_hand_are_two_per_multiply_and_add(batch: int) -> None:
    assert count_flops(DigitMLP(64), torch.rand(batch, 1, 28, 28)) == 2 * (784 * 64 + 64 * 64 + 64 * 10)
    convolution = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    assert count_flops(convolution, torch.rand(batch, 3, 33, 33)) == 2 * (5 * 5 * 3) * 8 * 15 * 15


def test_parameters_are_counted_once_and_zeros_too() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model.append(model[0])
    assert count_parameters(model) == 20 + 8
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    prune.remove(model[0], "weight")
    assert int((model[0].weight == 0).sum()) == 8 and count_parameters(model) == 28


def test_stored_bytes_are_those_of_the_saved_state() -> None:
    buffer = io.BytesIO()
    torch.save(tiny().state_dict(), buffer)
    assert stored_bytes(tiny()) == len(buffer.getvalue())
    small, large = stored_bytes(DigitMLP(16)), stored_bytes(DigitMLP(64))
    assert large - small == pytest.approx(4 * (55050 - 13002), abs=1000)  # float32 は 4 バイト
    assert stored_bytes(DigitMLP(64).half()) == pytest.approx(large / 2, rel=0.05)


def test_footprint_collects_them_and_leaves_the_model_alone() -> None:
    model, x = tiny(dropout=0.5), torch.rand(6, 4)
    before = snapshot(model)
    found = footprint(model, x)
    assert found == (count_parameters(model), count_flops(model, x), stored_bytes(model))
    assert unchanged(model, before) and all(module.training for module in model.modules())


class Clock:
    """検査が自分で進める時計。実際の時間に左右されない。"""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Taking(nn.Module):
    """呼ばれるたびに、決まった秒だけ時計を進める。"""

    def __init__(self, clock: Clock, log: list[str], name: str, seconds: list[float]) -> None:
        super().__init__()
        self.clock, self.log, self.name, self.seconds = clock, log, name, list(seconds)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.log.append(self.name)
        self.clock.now += self.seconds.pop(0)
        return x


def test_latency_takes_turns_drops_the_warmup_and_gives_quartiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """初めの 1 回（200 ミリ秒）は数えない。残り 5 回の 10〜50 ミリ秒の四分位数は 20、30、40。"""
    log: list[str] = []
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    slow = Taking(clock, log, "slow", [0.2, 0.01, 0.05, 0.02, 0.04, 0.03])
    models = {"slow": slow, "fast": Taking(clock, log, "fast", [0.001] * 6)}
    found = latency(models, torch.zeros(7, 4), rounds=5, warmup=1)
    assert log == ["slow", "fast"] * 6 and slow.training
    assert found["slow"][:3] == pytest.approx((30, 20, 40)) and found["fast"][:3] == pytest.approx((1, 1, 1))
    assert found["slow"][3:] == (7, torch.get_num_threads(), 5)


@pytest.mark.parametrize("device", DEVICES)
def test_latency_of_real_models(device: str) -> None:
    models = {"small": DigitMLP(16).to(device), "large": DigitMLP(64).to(device)}
    found = latency(models, torch.rand(32, 1, 28, 28, device=device), rounds=4)
    assert found.keys() == models.keys() and all(value.median > 0 for value in found.values())


def test_modes_are_put_back_even_when_a_model_fails() -> None:
    models = {"good": tiny().train(), "bad": tiny().train()}
    with pytest.raises(RuntimeError):
        latency(models, torch.zeros(3, 99))
    assert all(module.training for model in models.values() for module in model.modules())


def test_bad_arguments_are_refused() -> None:
    x = torch.zeros(2, 4)
    for models, options in (({}, {}), ({"a": tiny()}, {"rounds": 3}), ({"a": tiny()}, {"warmup": -1})):
        with pytest.raises(ValueError, match="rounds は 4 以上"):
            latency(models, x, **options)
    for call in (lambda z: latency({"a": tiny()}, z), lambda z: count_flops(tiny(), z)):
        with pytest.raises(ValueError, match=r"example の形が \(0, 4\)"):
            call(torch.zeros(0, 4))
