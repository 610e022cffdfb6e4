"""LEEP、NCE、H スコア、CKA、プロキシ A 距離、素朴な点数: 手計算、素朴なループ、性質。"""

import math

import numpy as np
import pytest

from tlkit.transferability import h_score, leep, linear_cka, nce, proxy_a_distance, spearman_mmd_score


def probabilities(n: int, z: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).gamma(0.5, size=(n, z)) + 1e-9
    return raw / raw.sum(1, keepdims=True)


def test_leep_by_hand() -> None:
    theta = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    # P(y=0, z) = (1.5, .5)/3、P(y=1, z) = (0, 1)/3、P(z) = (1.5, 1.5)/3 → P(0|z) = (1, 1/3)、P(1|z) = (0, 2/3)
    want = (math.log(1.0) + math.log(0.5 + 0.5 / 3) + math.log(2 / 3)) / 3
    assert leep(theta, np.array([0, 0, 1])) == pytest.approx(want, rel=1e-12)


def test_leep_equals_the_loop() -> None:
    theta, y = probabilities(30, 5, 0), np.random.default_rng(1).integers(0, 3, 30)
    joint = {(c, z): sum(theta[i, z] for i in range(30) if y[i] == c) / 30 for c in range(3) for z in range(5)}
    marginal = [sum(joint[c, z] for c in range(3)) for z in range(5)]
    want = np.mean([math.log(sum(joint[y[i], z] / marginal[z] * theta[i, z] for z in range(5))) for i in range(30)])
    assert leep(theta, y) == pytest.approx(want, rel=1e-10)


def test_leep_masks_source_classes_that_never_occur() -> None:
    theta, y = probabilities(20, 4, 2), np.arange(20) % 2
    padded = np.insert(theta, 2, 0.0, axis=1)
    assert leep(padded, y) == pytest.approx(leep(theta, y), rel=1e-12)


def test_leep_of_one_hot_predictions_is_nce() -> None:
    z, y = np.random.default_rng(3).integers(0, 4, 50), np.random.default_rng(4).integers(0, 3, 50)
    assert leep(np.eye(4)[z], y) == pytest.approx(nce(z, y), rel=1e-10)


@pytest.mark.parametrize("theta", [np.array([[2.0, -1.0]]), np.array([[0.2, 0.2]])])
def test_leep_refuses_what_is_not_a_probability(theta: np.ndarray) -> None:
    with pytest.raises(ValueError, match="softmax"):
        leep(theta, np.array([0]))


def test_nce_by_hand_and_its_extremes() -> None:
    z = np.array([0, 0, 1, 1])
    assert nce(z, np.array([0, 1, 1, 1])) == pytest.approx(-0.5 * math.log(2), rel=1e-12)
    assert nce(z, np.array([5, 5, 9, 9])) == 0.0
    assert nce(np.zeros(4, int), z) == pytest.approx(-math.log(2), rel=1e-12)
    assert nce(np.array([100, 100, 7, 7]), np.array([0, 1, 1, 1])) == pytest.approx(-0.5 * math.log(2), rel=1e-12)


def test_h_score_equals_numpy_cov_and_pinv() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 4
    f = rng.normal(size=(60, 7)) + rng.normal(size=(4, 7))[y] + 3
    g = np.stack([f[y == c].mean(0) for c in y])
    want = np.trace(np.linalg.pinv(np.cov(f.T)) @ np.cov(g.T))
    assert h_score(f, y) == pytest.approx(want, rel=1e-9)


def test_h_score_saturates_when_features_outnumber_samples() -> None:
    rng = np.random.default_rng(0)
    assert h_score(rng.normal(size=(30, 40)), np.arange(30) % 3) == pytest.approx(2.0, abs=1e-6)


def test_linear_cka_by_the_centred_kernels() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5)) + 2, rng.normal(size=(20, 8))
    h = np.eye(20) - 1 / 20
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()), rel=1e-10)


def test_linear_cka_ignores_rotation_scale_and_shift_but_not_the_pairing() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 6))
    q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert linear_cka(x, 3 * x @ q + 1) == pytest.approx(1.0, rel=1e-10)
    assert linear_cka(x, x[rng.permutation(200)]) < 0.2


def test_linear_cka_refuses_unpaired_and_constant_features() -> None:
    with pytest.raises(ValueError, match="3 件、y は 4 件"):
        linear_cka(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="同じ値"):
        linear_cka(np.ones((3, 2)), np.eye(3))


def test_proxy_a_distance_from_none_to_complete() -> None:
    rng = np.random.default_rng(0)
    same = [proxy_a_distance(rng.normal(size=(400, 5)), rng.normal(size=(300, 5)), seed=s) for s in range(40)]
    assert abs(np.mean(same)) < 0.075  # 1 回の標準偏差は 0.11。40 回の平均なら 0.018
    assert proxy_a_distance(rng.normal(size=(50, 5)), rng.normal(size=(80, 5)) + 20, seed=0) == 2.0


def test_proxy_a_distance_is_held_out() -> None:
    """次元が標本より多くても、同じ分布なら 0 の近くに留まる。学習に使った標本で測れば 2 になる。"""
    rng = np.random.default_rng(1)
    values = [proxy_a_distance(rng.normal(size=(40, 200)), rng.normal(size=(40, 200)), seed=s) for s in range(10)]
    assert abs(np.mean(values)) < 0.3


def test_proxy_a_distance_is_not_fooled_by_unequal_sizes() -> None:
    rng = np.random.default_rng(2)
    values = [proxy_a_distance(rng.normal(size=(600, 3)), rng.normal(size=(60, 3)), seed=s) for s in range(10)]
    assert abs(np.mean(values)) < 0.25  # 多いほうに賭ければ誤り率は 0.09 に見えるが、平均誤り率は 0.5 のまま


def test_proxy_a_distance_repeats_by_seed() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 0.5
    assert proxy_a_distance(a, b, seed=1) == proxy_a_distance(a, b, seed=1)
    assert len({proxy_a_distance(a, b, seed=s) for s in range(6)}) > 1


def test_naive_score_depends_on_the_order_of_rows() -> None:
    """データは同じなのに、行を並べ替えるだけで 1 から 0 の近くに落ちる。だから点数として使えない。"""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 64))
    assert spearman_mmd_score(x, x) == pytest.approx(1.0, abs=1e-12)
    assert abs(spearman_mmd_score(x, x[rng.permutation(200)])) < 0.05


def test_naive_score_cannot_compare_different_sizes() -> None:
    with pytest.raises(ValueError, match="形が同じ"):
        spearman_mmd_score(np.zeros((4, 2)), np.zeros((5, 2)))


def test_h_score_with_dead_or_repeated_features_uses_the_pseudo_inverse() -> None:
    rng = np.random.default_rng(1)
    y = np.arange(80) % 3
    f = rng.normal(size=(80, 6)) + rng.normal(size=(3, 6))[y]
    singular = np.concatenate([f, np.zeros((80, 2)), f[:, :2] + 1], axis=1)
    g = np.stack([singular[y == c].mean(0) for c in y])
    want = np.trace(np.linalg.pinv(np.cov(singular.T), hermitian=True) @ np.cov(g.T))
    assert h_score(singular, y) == pytest.approx(want, rel=1e-9)
    assert want == pytest.approx(h_score(f, y), rel=1e-9)  # 何も足していない


@pytest.mark.parametrize("seed", range(8))
def test_h_score_cuts_directions_that_are_only_rounding_error(seed: int) -> None:
    """ほぼ同じ特徴が二つあると、共分散は丸め誤差だけの方向を持つ。コレスキー分解が通っても、信じてはいけない。"""
    rng = np.random.default_rng(seed)
    y = np.arange(80) % 3
    f = rng.normal(size=(80, 6)) + rng.normal(size=(3, 6))[y]
    nearly = np.concatenate([f, f[:, :3] + 5e-8 * rng.normal(size=(80, 3))], axis=1)
    assert h_score(nearly, y) == pytest.approx(h_score(f, y), rel=1e-6)
