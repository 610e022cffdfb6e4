"""公開された LogME の反復が、どこで正しく、どこで正しくないか。"""

import numpy as np
import pytest

from tlkit.transferability import logme
from tlkit.transferability.published import logme_published


def problem(n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    labels = np.arange(n) % classes
    return rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[labels] + 0.3, labels


@pytest.mark.parametrize(("n", "d", "classes"), [(200, 16, 3), (300, 64, 4), (65, 64, 2)])
def test_agrees_with_the_exact_maximum_when_samples_outnumber_features(n: int, d: int, classes: int) -> None:
    f, labels = problem(n, d, classes)
    exact, published = logme(f, labels), logme_published(f, labels)
    assert published == pytest.approx(exact, abs=2e-3)
    assert published <= exact + 1e-6  # 途中で打ち切るので、最大値には届いても、超えない
    assert logme_published(f, labels, repaired=True) == published


@pytest.mark.parametrize(("n", "d", "classes"), [(40, 64, 2), (60, 240, 3), (100, 400, 4)])
def test_differs_when_features_outnumber_samples_and_the_missing_directions_are_why(
    n: int, d: int, classes: int
) -> None:
    f, labels = problem(n, d, classes)
    exact = logme(f, labels)
    assert abs(logme_published(f, labels) - exact) > 0.5
    repaired = logme_published(f, labels, repaired=True)
    assert exact - 0.02 < repaired <= exact + 1e-6


def test_features_that_add_nothing_change_only_the_published_value() -> None:
    """値が 0 の特徴を足しても、モデルは同じ。D だけが増えるので、公開された式の値だけが動く。"""
    f, labels = problem(60, 20, 3)
    padded = np.concatenate([f, np.zeros((60, 100))], axis=1)
    assert logme(padded, labels) == pytest.approx(logme(f, labels), abs=1e-9)
    assert abs(logme_published(padded, labels) - logme_published(f, labels)) > 0.5


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="有限でない"):
        logme_published(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]))
