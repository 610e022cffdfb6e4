"""一度の呼び出しで、すべての乱数（ワーカーを含む）が再現する。"""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tlkit.seeding import seed_everything


class Noise(Dataset):
    """各項目が、ワーカーの Python・NumPy・PyTorch の乱数を返す。"""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_same_seed_same_numbers_other_seed_other_numbers() -> None:
    runs = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        runs.append(draw())
    assert runs[0] == runs[1]
    assert all(a != b for a, b in zip(runs[0], runs[2], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_order_and_workers_repeat(workers: int) -> None:
    def epoch() -> list[float]:
        seeded = seed_everything(7)
        loader = DataLoader(Noise(), batch_size=2, shuffle=True, num_workers=workers, **seeded.loader_kwargs)
        return [value for batch in loader for column in batch for value in column.tolist()]

    first = epoch()
    assert first == epoch()
    assert len(set(first)) == len(first), "ワーカーどうしで同じ乱数が出ています"


@pytest.mark.cuda
def test_cuda_numbers_repeat() -> None:
    values = []
    for _ in range(2):
        seed_everything(5)
        values.append(torch.rand(4, device="cuda").tolist())
    assert values[0] == values[1]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", True, None])
def test_bad_seeds_are_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="整数"):
        seed_everything(seed)
