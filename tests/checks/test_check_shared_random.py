"""共有の乱数が使われたことに気づくか。"""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tlkit.course.checks.shared_random import snapshot
from tlkit.course.checks.state import preserved


@pytest.mark.parametrize(
    "use",
    [
        lambda: torch.rand(1),
        lambda: torch.manual_seed(12345),
        lambda: np.random.rand(),
        lambda: np.random.seed(12345),
        random.random,
    ],
)
def test_use_of_a_shared_generator_is_seen(use: Callable[[], object]) -> None:
    with preserved():
        before = snapshot()
        use()
        assert snapshot() != before


def test_own_generators_leave_no_trace() -> None:
    before = snapshot()
    torch.rand(3, generator=torch.Generator().manual_seed(1))
    np.random.default_rng(1).random(3)
    random.Random(1).random()
    assert snapshot() == before
