"""斜め三角の学習率: 論文の式を素直に書いたループとの一致、端の場合、グループごとの頂点、保存、誤った引数。"""

import io
import itertools
import math
import pickle

import pytest
import torch
from finetune_kit import DEVICES
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tlkit.finetune import param_groups, slanted_triangular
from tlkit.models import GlyphCNN


def paper(total: int, cut_frac: float, ratio: float, peak: float) -> list[float]:
    """Howard & Ruder (2018) の式 (3) を、補いなしで書き写したもの。"""
    rates = []
    cut = math.floor(total * cut_frac)
    for t in range(total):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        rates.append(peak * (1 + p * (ratio - 1)) / ratio)
    return rates


def rates(total: int, *, lrs: tuple[float, ...] = (0.01,), steps: int | None = None, **options: float) -> list[list]:
    """更新ごとの、全グループの学習率。"""
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])
    scheduler = slanted_triangular(optimizer, total, **options)
    found = []
    for _ in range(total if steps is None else steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("total", [10, 20, 100, 1000])
@pytest.mark.parametrize(("cut_frac", "ratio"), [(0.1, 32), (0.5, 10), (0.3, 2.5), (0.9, 32), (0.1, 1)])
def test_equals_the_formula_of_the_paper(total: int, cut_frac: float, ratio: float) -> None:
    found = [row[0] for row in rates(total, cut_frac=cut_frac, ratio=ratio)]
    assert found == pytest.approx(paper(total, cut_frac, ratio, 0.01), rel=1e-12)


@pytest.mark.parametrize("total", [19, 25, 99, 105, 1009])
def test_uneven_totals_follow_the_paper_until_its_rate_leaves_the_range(total: int) -> None:
    found, want = [row[0] for row in rates(total)], paper(total, 0.1, 32, 0.01)
    assert min(want) < 0.01 / 32  # 式のままでは、最小の値を下回る
    assert found == pytest.approx([max(rate, 0.01 / 32) for rate in want], rel=1e-12)


def test_the_printed_formula_can_give_a_negative_rate() -> None:
    assert min(paper(19, 0.1, 32, 0.01)) < 0 < min(row[0] for row in rates(19))


def test_defaults_rise_to_the_peak_and_fall_to_the_floor() -> None:
    found = [row[0] for row in rates(200)]
    assert found[0] == pytest.approx(0.01 / 32) and found[20] == max(found) == 0.01
    assert all(a < b for a, b in itertools.pairwise(found[:21]))
    assert all(a > b for a, b in itertools.pairwise(found[20:]))
    assert found[-1] == pytest.approx(0.01 * (1 + (1 / 180) * 31) / 32)


@pytest.mark.parametrize("total", range(1, 10))
def test_short_runs_reach_the_peak_at_the_second_step(total: int) -> None:
    """10 回未満では ⌊T · 0.1⌋ が 0 になり、式のままでは 0 で割る。"""
    found = [row[0] for row in rates(total)]
    assert found == pytest.approx([0.01 * (1 + p * 31) / 32 for p in [0, *(1 - t / 9 for t in range(total - 1))]])


def test_total_of_one_takes_its_only_step_at_the_smallest_rate() -> None:
    assert rates(1) == [[pytest.approx(0.01 / 32)]]
    assert rates(1, ratio=1) == [[0.01]]


def test_steps_past_the_end_stay_at_the_floor() -> None:
    found = [row[0] for row in rates(20, steps=40)]
    assert found[20:] == pytest.approx([0.01 / 32] * 20)
    assert min(found) == pytest.approx(0.01 / 32)


def test_each_group_keeps_its_own_peak() -> None:
    peaks = (0.4, 0.1, 0.004)
    found = rates(100, lrs=peaks)
    assert [max(column) for column in zip(*found, strict=True)] == list(peaks)
    for row in found:
        assert [rate / peak for rate, peak in zip(row, peaks, strict=True)] == pytest.approx([row[0] / 0.4] * 3)


def test_works_on_layerwise_groups() -> None:
    optimizer = torch.optim.AdamW(param_groups(GlyphCNN(3), 0.1))
    assert isinstance(slanted_triangular(optimizer, 50), LambdaLR)
    assert [group["lr"] * 32 for group in optimizer.param_groups] == pytest.approx(
        [0.1 / 2.6**k for k in range(4, -1, -1)]
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stop", [0, 3, 17])
def test_saved_state_continues_where_it_stopped(stop: int, device: str) -> None:
    def make() -> tuple[torch.optim.Optimizer, LambdaLR]:
        weight = nn.Parameter(torch.zeros(1, device=device))
        optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.3}], momentum=0.9)
        return optimizer, slanted_triangular(optimizer, 20, cut_frac=0.2)

    want = [row[0] for row in rates(20, lrs=(0.3,), cut_frac=0.2)]
    optimizer, scheduler = make()
    for _ in range(stop):
        optimizer.step()
        scheduler.step()
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, buffer)
    pickle.loads(pickle.dumps(scheduler.state_dict()))
    state = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    optimizer, scheduler = make()
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    found = []
    for _ in range(20 - stop):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx(want[stop:], rel=1e-12)


def test_the_schedule_itself_can_be_pickled() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = slanted_triangular(optimizer, 20)
    assert pickle.loads(pickle.dumps(scheduler)).get_last_lr() == scheduler.get_last_lr()


@pytest.mark.parametrize(
    ("total", "options", "message"),
    [
        (0, {}, r"total_steps に 0 .*len\(loader\)"),
        (-5, {}, "total_steps に -5"),
        (10.0, {}, r"total_steps に 10\.0"),
        (True, {}, "total_steps に True"),
        (10, {"cut_frac": 0}, "cut_frac に 0 .*0 より大きく 1 より小さい"),
        (10, {"cut_frac": 1.0}, r"cut_frac に 1\.0"),
        (10, {"cut_frac": math.nan}, "cut_frac に nan"),
        (10, {"ratio": 0.5}, r"ratio に 0\.5 .*1 以上"),
        (10, {"ratio": math.inf}, "ratio に inf"),
        (10, {"ratio": math.nan}, "ratio に nan"),
    ],
)
def test_wrong_arguments_are_explained(total: object, options: dict, message: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    with pytest.raises(ValueError, match=message):
        slanted_triangular(optimizer, total, **options)
    assert optimizer.param_groups[0]["lr"] == 0.3
