"""信頼区間を、手計算と被覆率で確かめる。"""

import math

import numpy as np
import pytest

from tlkit.stats import mean_ci


def test_hand_computed_interval() -> None:
    result = mean_ci([1.0, 2.0, 3.0, 4.0, 5.0])
    assert result.mean == 3.0
    assert result.half == pytest.approx(2.7764451052 * math.sqrt(2.5) / math.sqrt(5), rel=1e-9)
    assert str(result) == "3.000 ± 1.963"


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = [abs(r.mean) <= r.half for r in (mean_ci(rng.normal(size=5)) for _ in range(2000))]
    assert 0.935 < np.mean(hits) < 0.965


def test_higher_level_is_wider() -> None:
    assert mean_ci([1, 2, 4], level=0.99).half > mean_ci([1, 2, 4], level=0.95).half


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [[1.0, 2.0]]])
def test_too_few_or_broken_values_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match="2 個以上"):
        mean_ci(values)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_bad_level_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        mean_ci([1.0, 2.0], level=level)
