"""λ* の見積もり: 両立する課題と両立しない課題、ドメインの重み、分け方、断り方。"""

import warnings

import numpy as np
import pytest
import torch
from adapt_kit import DEVICES

from tlkit.adapt import joint_error


def blobs(n: int, seed: int, *, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """四つの角にあるクラス。"""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    corners = np.array([[2, 2], [-2, 2], [-2, -2], [2, -2]])
    return corners[y] + spread * rng.normal(size=(n, 2)), y


def test_identical_labelled_data_have_no_joint_error() -> None:
    (x, y), (t, u) = blobs(200, 0), blobs(120, 1)
    found = joint_error(x, y, t, u, seed=0)
    assert found == (0.0, 0.0, 0.0) and found._fields == ("total", "source", "target")
    assert all(type(value) is float for value in found)
    assert joint_error(x, y, x, y, seed=3).total == 0.0


def test_permuted_labels_of_the_target_make_it_large() -> None:
    """同じ場所に違うクラスがあれば、どの分類器も、片方でしか正しくならない。誤り率の和は 1 になる。"""
    (x, y), (t, u) = blobs(200, 0), blobs(200, 1)
    found = joint_error(x, y, t, (u + 1) % 4, seed=0)
    assert found.total == pytest.approx(1.0, abs=0.1)
    assert found.total == pytest.approx(found.source + found.target, abs=1e-12)
    assert min(found[1:]) >= 0 and max(found[1:]) <= 1


def test_labels_without_meaning_cost_their_own_domain_only() -> None:
    (x, y), (t, _) = blobs(400, 0), blobs(400, 1)
    noise = np.random.default_rng(2).integers(0, 4, 400)
    found = joint_error(x, y, 9 + t, noise, seed=0)
    assert found.target > 0.6 and found.source < 0.35


def test_both_domains_weigh_the_same_whatever_their_sizes() -> None:
    """ラベルの食い違う二つのドメインが同じ場所にある。多数決なら、40 倍あるソースだけに合わせてしまう。"""
    rng = np.random.default_rng(0)
    x, t = (np.repeat([[0.0], [1.0]], n // 2, axis=0) + 0.01 * rng.normal(size=(n, 1)) for n in (4000, 100))
    y, u = np.repeat([0, 1], 2000), np.repeat([0, 1], 50)
    u[50:80] = 0  # ターゲットの右側は、60 % がクラス 0
    y[2000:2800] = 0  # ソースの右側は、40 % がクラス 0
    equal = joint_error(x, y, t, u, seed=0)
    u[80:90] = 0  # 80 % にすると、平均で 60 % になり、多数派がクラス 0 に変わる
    tipped = joint_error(x, y, t, u, seed=0)
    assert equal.total == pytest.approx(0.5, abs=0.12)
    assert tipped.source == pytest.approx(0.3, abs=0.03) and tipped.target == pytest.approx(0.1, abs=0.08)


def test_errors_are_measured_on_the_other_half() -> None:
    """次元が標本より多ければ、学習した半分では必ず誤り 0 になる。残りの半分なら、でたらめなラベルは当たらない。"""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 60, 200))
    y, u = rng.integers(0, 2, size=(2, 60))
    found = joint_error(x, y, t, u, seed=0)
    assert found.source > 0.25 and found.target > 0.25


def test_same_seed_same_value_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    (x, y), (t, u) = blobs(80, 0, spread=2.0), blobs(60, 1, spread=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, again = (joint_error(x, y, t, u, seed=4) for _ in range(2))
    assert first == again and first.total > 0
    assert len({joint_error(x, y, t, u, seed=seed).total for seed in range(6)}) > 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_and_arrays_give_the_same(device: str) -> None:
    (x, y), (t, u) = blobs(80, 0, spread=1.5), blobs(60, 1, spread=1.5)
    tensors = [torch.as_tensor(value, device=device) for value in (x, y, t, u)]
    assert joint_error(*tensors, seed=0) == joint_error(x, y, t, u, seed=0)
    tensors[0].requires_grad_()
    assert joint_error(*tensors, seed=0).total > 0
    assert joint_error(x.tolist(), y.tolist(), t, u, seed=0) == joint_error(x, y, t, u, seed=0)


GOOD = {
    "source": np.random.default_rng(0).normal(size=(10, 3)),
    "source_labels": np.arange(10) % 2,
    "target": np.random.default_rng(1).normal(size=(8, 3)),
    "target_labels": np.arange(8) % 2,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": np.zeros((10, 3, 1))}, r"source の形は \(10, 3, 1\)"),
        ({"target": np.zeros((3, 3)), "target_labels": np.arange(3)}, r"target の形は \(3, 3\).*4 以上"),
        ({"target": np.zeros((8, 2))}, "source は 3 次元、target は 2 次元"),
        ({"source": np.full((10, 3), np.nan)}, "source に有限でない値"),
        ({"source_labels": np.arange(9)}, r"source_labels は形 \(9,\).*\(10,\) の整数"),
        ({"target_labels": np.zeros(8)}, r"target_labels は形 \(8,\)、dtype float64.*\(8,\) の整数"),
        ({"target_labels": np.zeros((8, 2), dtype=int)}, r"target_labels は形 \(8, 2\)"),
        ({"source_labels": np.zeros(10, dtype=int), "target_labels": np.zeros(8, dtype=int)}, "1 種類しかありません"),
    ],
)
def test_bad_input_says_what_came_and_what_is_wanted(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joint_error(**{**GOOD, **change}, seed=0)
