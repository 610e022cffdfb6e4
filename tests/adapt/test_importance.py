"""重要度重みと実効標本数: 閉じた形の密度比、恒等式、交差あてはめ、誤りの文。"""

import numpy as np
import pytest
import torch
from scipy import stats

from tlkit.adapt.importance import effective_sample_size, importance_weights


def gaussians(n: int, m: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, 1)), rng.normal(shift, 1, (m, 1))


def true_ratio(x: np.ndarray, shift: float) -> np.ndarray:
    """N(shift, 1) と N(0, 1) の密度の比。"""
    return np.exp(shift * x[:, 0] - shift**2 / 2)


@pytest.mark.parametrize("sizes", [(6000, 6000), (8000, 2000), (2000, 8000)])
def test_the_ratio_of_two_gaussians_is_recovered(sizes: tuple[int, int]) -> None:
    source, target = gaussians(*sizes, shift=1.0)
    found = np.log(importance_weights(source, target, seed=0).numpy())
    want = np.log(true_ratio(source, 1.0))
    assert np.corrcoef(found, want)[0, 1] > 0.999
    assert np.abs(found - want).mean() < 0.15  # 件数の比を忘れると、log 4 = 1.39 だけずれる


def test_weighted_source_has_the_mean_of_the_target() -> None:
    source, target = gaussians(5000, 3000, shift=0.7)
    w = importance_weights(source, target, seed=1).numpy()
    assert abs((w * source[:, 0]).mean() - target.mean()) < 0.1
    assert abs(source.mean() - target.mean()) > 0.6
    assert abs(w.mean() - 1) < 0.1


def test_weights_grow_towards_the_target() -> None:
    source, target = gaussians(300, 300, shift=2.0)
    w = importance_weights(source, target, seed=0).numpy()
    assert w[source[:, 0] > 1.3].min() > 1 > w[source[:, 0] < 0.7].max()


def test_the_classifier_has_not_seen_the_row_it_scores() -> None:
    """同じ分布で次元が高いとき、学習に使った標本なら、どの行も「ソース」と見分けられて重みが 0 に寄る。"""
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 100, 150))
    assert np.median(importance_weights(source, target, seed=0).numpy()) > 0.3


def test_weights_keep_the_order_of_the_rows() -> None:
    source, target = gaussians(53, 40, shift=1.5)
    w = importance_weights(source, target, seed=3).numpy()
    assert stats.spearmanr(w, source[:, 0]).statistic > 0.9


def test_same_seed_same_weights() -> None:
    source, target = gaussians(100, 80, shift=1.0)
    first, again, other = (importance_weights(source, target, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_units_of_the_features_do_not_matter() -> None:
    source, target = gaussians(200, 200, shift=1.0)
    scaled = importance_weights(1e4 * source + 3e5, 1e4 * target + 3e5, seed=0)
    torch.testing.assert_close(scaled, importance_weights(source, target, seed=0), rtol=1e-3, atol=1e-6)


def test_dtype_follows_the_source() -> None:
    source, target = (torch.from_numpy(z) for z in gaussians(40, 40, shift=1.0))
    assert importance_weights(source.float(), target, seed=0).dtype == torch.float32
    assert importance_weights(source.numpy(), target, seed=0).dtype == torch.float64
    assert importance_weights((source * 10).long(), target, seed=0).dtype == torch.float64


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.zeros((9, 2)), np.ones((20, 2)), "10 以上"),
        (np.zeros((20, 2)), np.ones((20, 3)), "3 次元"),
        (np.zeros(20), np.ones((20, 1)), "source"),
        (np.zeros((20, 1)), np.full((20, 1), np.nan), "有限でない"),
    ],
)
def test_bad_samples_are_refused(source: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        importance_weights(source, target, seed=0)


@pytest.mark.parametrize(
    ("weights", "want"),
    [([1, 1, 1, 1], 4), ([0, 0, 5], 1), ([3, 1], 1.6), ([1e200, 1e200], 2), ([1e-200, 3e-200], 1.6)],
)
def test_effective_sample_size_by_hand(weights: list[float], want: float) -> None:
    assert effective_sample_size(weights) == pytest.approx(want)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0], [[1.0, 2.0]], []])
def test_effective_sample_size_refuses_what_is_not_a_weight(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="0 以上の有限な数"):
        effective_sample_size(weights)
