"""正弦波の課題: 式、範囲、種。"""

import math

import pytest
import torch

from tlkit.fewshot import SineTasks, sine_network


def tasks(**options: object) -> SineTasks:
    return SineTasks(**({"tasks": 200, "shots": 10, "queries": 30, "batches": 3, "seed": 0} | options))


def test_support_and_query_lie_on_one_sine_per_task() -> None:
    e = next(iter(tasks()))
    assert e.support_x.shape == e.support_y.shape == (200, 10, 1) and e.query_x.shape == (200, 30, 1)
    x, y = (torch.cat(parts, 1)[..., 0].double() for parts in ((e.support_x, e.query_x), (e.support_y, e.query_y)))
    basis = torch.stack([x.sin(), x.cos()], -1)  # A sin(x − φ) = (A cos φ) sin x − (A sin φ) cos x
    weights = torch.linalg.lstsq(basis, y.unsqueeze(-1)).solution
    assert (basis @ weights - y.unsqueeze(-1)).abs().max() < 1e-4
    amplitude = weights[:, :, 0].norm(dim=1)
    phase = torch.atan2(-weights[:, 1, 0], weights[:, 0, 0])
    assert 0.1 <= amplitude.min() < 0.6 and 4.5 < amplitude.max() <= 5.001
    assert -1e-3 <= phase.min() < 0.3 and math.pi - 0.3 < phase.max() <= math.pi + 1e-3
    assert -5 <= x.min() < -4.9 and 4.9 < x.max() <= 5


def test_seed_and_rounds() -> None:
    first, second = list(tasks()), list(tasks())
    assert len(tasks()) == len(first) == 3
    assert all(torch.equal(a.query_y, b.query_y) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].query_y, first[1].query_y)
    training, checking = tasks(), tasks(fresh=False)
    assert not torch.equal(next(iter(training)).query_y, next(iter(training)).query_y)
    assert torch.equal(next(iter(checking)).query_y, next(iter(checking)).query_y)


def test_network_and_errors() -> None:
    assert sine_network()(torch.zeros(7, 1)).shape == (7, 1)
    assert sum(p.numel() for p in sine_network().parameters()) == 80 + 1640 + 41
    with pytest.raises(ValueError, match="shots=0"):
        tasks(shots=0)
