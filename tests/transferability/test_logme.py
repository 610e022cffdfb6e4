"""LogME を、定義の密な行列の式を scipy で最大にした値と比べる。"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tlkit.transferability import logme


def evidence(f: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """対数証拠を、y の分布 N(0, FFᵀ/α + I/β) の対数密度として、そのまま計算する。"""
    n = len(f)
    covariance = f @ f.T / alpha + np.eye(n) / beta
    sign, logdet = np.linalg.slogdet(covariance)
    assert sign > 0
    return float(-0.5 * (y @ np.linalg.solve(covariance, y) + logdet + n * math.log(2 * math.pi)))


def exact(f: np.ndarray, labels: np.ndarray) -> float:
    """α と β の対数を動かし、多くの初期値から最大を探す。"""
    scores = []
    for c in np.unique(labels):
        y = (labels == c).astype(float)
        best = -np.inf
        for a in (-6, -2, 0, 3, 8):
            for b in (-1, 2, 6):
                got = minimize(
                    lambda p, y=y: -evidence(f, y, *np.exp(np.clip(p, -30, 30))),
                    [a, b],
                    method="Nelder-Mead",
                    options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000},
                )
                best = max(best, -got.fun)
        scores.append(best / len(f))
    return float(np.mean(scores))


def problem(n: int, d: int, classes: int, seed: int, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.normal(size=(n, d)) + signal * rng.normal(size=(classes, d))[labels] + 0.3, labels


@pytest.mark.parametrize(("n", "d", "classes"), [(40, 6, 2), (30, 12, 3), (24, 64, 3), (20, 20, 2)])
def test_equals_the_exact_maximum_also_where_features_outnumber_samples(n: int, d: int, classes: int) -> None:
    f, labels = problem(n, d, classes, seed=n)
    assert logme(f, labels) == pytest.approx(exact(f, labels), abs=1e-6)


def test_published_fixed_point_is_wrong_there_and_ours_is_not() -> None:
    """D > N で、不動点反復を途中で止めた値より、常に大きいか等しい（最大値だから）。"""
    f, labels = problem(40, 64, 2, seed=3)
    ours = logme(f, labels) * 40
    for alpha, beta in np.exp(np.random.default_rng(0).uniform(-8, 8, size=(200, 2))):
        total = np.mean([evidence(f, (labels == c).astype(float), alpha, beta) for c in (0, 1)])
        assert total <= ours + 1e-6


def test_more_signal_scores_higher() -> None:
    values = [
        np.mean([logme(*problem(60, 8, 3, seed=s, signal=signal)) for s in range(5)]) for signal in (0.0, 0.7, 2.0)
    ]
    assert values[0] + 0.02 < values[1] < values[2] - 0.02


def test_does_not_depend_on_order_rotation_or_label_names() -> None:
    f, labels = problem(30, 5, 3, seed=1)
    value = logme(f, labels)
    order = np.random.default_rng(0).permutation(30)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    assert logme(f[order], labels[order]) == pytest.approx(value, abs=1e-9)
    assert logme(f @ rotation, labels * 7 - 100) == pytest.approx(value, abs=1e-9)
    assert logme(f * 50, labels) == pytest.approx(value, abs=1e-8)  # α が吸収する


def test_features_are_not_centred() -> None:
    f, labels = problem(30, 5, 3, seed=1)
    assert abs(logme(f + 5, labels) - logme(f, labels)) > 1e-3


def test_labels_explained_without_error_have_no_maximum() -> None:
    labels = np.arange(12) % 2
    assert logme(np.eye(2)[labels], labels) == math.inf


def test_zero_features_give_the_noise_only_evidence() -> None:
    labels = np.arange(10) % 2
    want = 0.5 * (math.log(10 / 5) - 1 - math.log(2 * math.pi))
    assert logme(np.zeros((10, 3)), labels) == pytest.approx(want, abs=1e-6)


def test_tensors_and_arrays_agree() -> None:
    f, labels = problem(20, 4, 2, seed=2)
    assert logme(torch.tensor(f), torch.tensor(labels)) == logme(f, labels)


@pytest.mark.cuda
def test_cuda_agrees() -> None:
    f, labels = problem(50, 80, 3, seed=2)
    assert logme(torch.tensor(f, device="cuda"), torch.tensor(labels, device="cuda")) == pytest.approx(
        logme(f, labels), abs=1e-8
    )


@pytest.mark.parametrize(
    ("features", "labels", "word"),
    [
        (np.zeros(5), np.zeros(5, int), "(5,)"),
        (np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), "NaN"),
        (np.zeros((4, 2)), np.array([0, 1, 0]), "(3,)"),
        (np.zeros((4, 2)), np.array([0.0, 1.0, 0.0, 1.0]), "整数"),
        (np.zeros((4, 2)), np.zeros(4, int), "1 種類"),
    ],
)
def test_bad_input_is_explained(features: np.ndarray, labels: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=r"。") as caught:
        logme(features, labels)
    assert word in str(caught.value)
