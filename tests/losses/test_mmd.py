"""mmd2 を、定義どおりの二重ループ、閉じた式、中心差分と比べる。"""

import math
import tracemalloc

import pytest
import torch
from torch import Tensor

from tlkit.losses import mmd2
from tlkit.losses._rbf_sums import TILE
from tlkit.losses.mmd import median_bandwidth

ESTIMATORS = ("biased", "unbiased")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def samples(n: int, m: int, d: int, *, shift: float = 0.7, offset: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = torch.randn(m, d, generator=g, dtype=torch.float64) * 1.3 + shift
    return x + offset, y + offset


def naive_mmd2(x: Tensor, y: Tensor, sigmas: list[float], estimator: str) -> float:
    """定義の式を、添字のままのループで計算する。"""

    def k(a: Tensor, b: Tensor) -> float:
        d2 = math.fsum((p - q) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True))
        return math.fsum(math.exp(-d2 / (2 * s * s)) for s in sigmas) / len(sigmas)

    def within(z: Tensor) -> float:
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if estimator == "biased" or i != j]
        return math.fsum(k(z[i], z[j]) for i, j in pairs) / len(pairs)

    cross = math.fsum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * cross


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sigmas", [[0.9], [0.5, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("sizes", [(7, 5, 3), (2, 9, 1), (4, 4, 6)])
def test_equals_the_definition_by_loops(
    sizes: tuple[int, int, int], sigmas: list[float], estimator: str, device: str
) -> None:
    x, y = samples(*sizes)
    value = mmd2(x.to(device), y.to(device), bandwidth=sigmas, estimator=estimator)
    assert value.shape == () and value.dtype == torch.float64 and value.device.type == device
    assert value.item() == pytest.approx(naive_mmd2(x, y, sigmas, estimator), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_several_tiles_give_the_same_as_one(estimator: str) -> None:
    x, y = samples(TILE + 30, TILE // 2 + 7, 4)
    gram = torch.cat([x, y])
    k = torch.exp(-torch.cdist(gram, gram, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * 1.5**2))
    n, m = len(x), len(y)
    kxx, kyy, kxy = k[:n, :n], k[n:, n:], k[:n, n:]
    if estimator == "biased":
        want = kxx.mean() + kyy.mean() - 2 * kxy.mean()
    else:
        want = (kxx.sum() - n) / (n * (n - 1)) + (kyy.sum() - m) / (m * (m - 1)) - 2 * kxy.mean()
    assert mmd2(x, y, bandwidth=1.5, estimator=estimator).item() == pytest.approx(want.item(), rel=1e-11)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_agree_with_central_differences(estimator: str, kernel: str, device: str) -> None:
    x, y = (z.to(device).requires_grad_() for z in samples(6, 4, 3))
    assert torch.autograd.gradcheck(
        lambda a, b: mmd2(a, b, kernel=kernel, bandwidth=[0.7, 1.9], estimator=estimator), (x, y), atol=1e-8, rtol=1e-6
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_over_several_tiles_agree_with_plain_autograd(estimator: str) -> None:
    x, y = (z.requires_grad_() for z in samples(TILE + 5, 40, 3))
    mmd2(x, y, bandwidth=1.1, estimator=estimator).backward()
    a, b = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()

    def gram(p: Tensor, q: Tensor) -> Tensor:
        return torch.exp(-(p[:, None] - q[None]).square().sum(2) / (2 * 1.1**2))

    n, m, own = len(a), len(b), 0 if estimator == "biased" else 1
    within = (gram(a, a).sum() - own * n) / (n * (n - own)) + (gram(b, b).sum() - own * m) / (m * (m - own))
    (within - 2 * gram(a, b).mean()).backward()
    torch.testing.assert_close(x.grad, a.grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(y.grad, b.grad, rtol=1e-10, atol=1e-14)


def test_only_one_side_may_need_a_gradient() -> None:
    x, y = samples(5, 6, 2)
    x.requires_grad_()
    mmd2(x, y, bandwidth=1.0).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0 and y.grad is None


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_second_derivatives_agree_with_central_differences(estimator: str) -> None:
    x, y = (z.requires_grad_() for z in samples(4, 3, 2))
    assert torch.autograd.gradgradcheck(lambda a, b: mmd2(a, b, bandwidth=[0.7, 1.9], estimator=estimator), (x, y))


def test_linear_biased_is_the_squared_difference_of_means() -> None:
    x, y = samples(8, 5, 3)
    want = (x.mean(0) - y.mean(0)).square().sum().item()
    assert mmd2(x, y, kernel="linear", estimator="biased").item() == pytest.approx(want, rel=1e-12)
    hand = mmd2(torch.tensor([[0.0, 2.0], [2.0, 2.0]]), torch.tensor([[3.0, 1.0]]), kernel="linear", estimator="biased")
    assert hand.item() == pytest.approx(5.0, rel=1e-6)  # 平均 (1, 2) と (3, 1)


def test_linear_unbiased_equals_the_loop() -> None:
    x, y = samples(5, 4, 2)
    xx = sum((x[i] @ x[j]).item() for i in range(5) for j in range(5) if i != j) / 20
    yy = sum((y[i] @ y[j]).item() for i in range(4) for j in range(4) if i != j) / 12
    want = xx + yy - 2 * (x @ y.T).mean().item()
    assert mmd2(x, y, kernel="linear").item() == pytest.approx(want, rel=1e-11)


def test_median_is_that_of_the_off_diagonal_pooled_squared_distances() -> None:
    x, y = samples(6, 5, 3)
    squared = torch.pdist(torch.cat([x, y])).square().numpy()
    import numpy as np

    sigma = math.sqrt(np.median(squared) / 2)
    assert median_bandwidth(x, y) == pytest.approx(sigma, rel=1e-12)
    assert mmd2(x, y).item() == pytest.approx(mmd2(x, y, bandwidth=sigma).item(), rel=1e-12)


def test_median_bandwidth_is_detached() -> None:
    x, y = samples(6, 5, 3)
    sigma = median_bandwidth(x, y)
    grads = []
    for bandwidth in ("median", sigma):
        leaf = x.clone().requires_grad_()
        mmd2(leaf, y, bandwidth=bandwidth).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_identical_points_are_finite_and_zero(estimator: str) -> None:
    x = torch.ones(4, 3, requires_grad=True)
    value = mmd2(x, torch.ones(5, 3), estimator=estimator)
    value.backward()
    assert value.item() == 0 and torch.equal(x.grad, torch.zeros(4, 3))


def test_mostly_repeated_points_use_the_mean_distance_instead_of_a_zero_median() -> None:
    x = torch.zeros(6, 2)
    x[0] = 3.0
    assert median_bandwidth(x, torch.zeros(6, 2)) == pytest.approx(math.sqrt(18 * 11 / 66 / 2))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_keeps_its_digits_far_from_the_origin(offset: float) -> None:
    x, y = samples(200, 150, 64, shift=0.1)
    exact = mmd2(x, y, bandwidth=8.0).item()
    single = mmd2((x + offset).float(), (y + offset).float(), bandwidth=8.0).item()
    rounded = mmd2((x + offset).float().double(), (y + offset).float().double(), bandwidth=8.0).item()
    assert single == pytest.approx(rounded, rel=1e-5)
    assert single == pytest.approx(exact, rel=1e-3)  # 入力を float32 に丸めた誤差も含む


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows_the_input(dtype: torch.dtype) -> None:
    x, y = (z.to(dtype) for z in samples(20, 15, 8))
    value = mmd2(x, y, bandwidth=2.0)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(
        mmd2(x.double(), y.double(), bandwidth=2.0).item(), rel=2 * torch.finfo(dtype).eps + 1e-5
    )


def test_biased_is_positive_and_unbiased_averages_to_zero_under_the_same_law() -> None:
    g = torch.Generator().manual_seed(1)
    draws = [(torch.randn(16, 2, generator=g), torch.randn(16, 2, generator=g)) for _ in range(400)]
    biased = torch.tensor([mmd2(x, y, bandwidth=1.0, estimator="biased").item() for x, y in draws])
    unbiased = torch.tensor([mmd2(x, y, bandwidth=1.0).item() for x, y in draws])
    assert biased.min() > 0 and unbiased.min() < 0
    assert unbiased.mean().abs() < 3 * unbiased.std() / 20 < biased.mean()


def test_distance_to_itself_is_exactly_zero_in_float32() -> None:
    """桁落ちで自分との距離が 0 からずれると、狭いカーネルでは対角の 1 が消える。"""
    x, y = (z.float() for z in samples(300, 40, 200, offset=3.0))
    assert mmd2(x, y, bandwidth=1e-3, estimator="biased").item() == pytest.approx(1 / 300 + 1 / 40, rel=1e-6)
    assert mmd2(x, y, bandwidth=1e-3).item() == pytest.approx(0, abs=1e-9)


def test_a_far_too_small_bandwidth_gives_a_gradient_of_exactly_zero() -> None:
    """自分との対の勾配を足して引くと、丸め誤差が残り、「勾配が 0」に見えない。"""
    x, y = (z.float() for z in samples(64, 64, 256))
    x.requires_grad_()
    mmd2(x, y, bandwidth=1.0).backward()
    assert x.grad is not None and x.grad.abs().max().item() == 0


def test_properties_of_a_distance() -> None:
    x, y = samples(30, 20, 4)
    value = mmd2(x, y, bandwidth=1.5).item()
    assert mmd2(y, x, bandwidth=1.5).item() == pytest.approx(value, rel=1e-12)
    assert mmd2(x.flip(0), y.roll(3, 0), bandwidth=1.5).item() == pytest.approx(value, rel=1e-12)
    assert mmd2(x - 5, y - 5, bandwidth=1.5).item() == pytest.approx(value, rel=1e-11)
    assert mmd2(3 * x, 3 * y, bandwidth=4.5).item() == pytest.approx(value, rel=1e-11)
    assert mmd2(x, x, bandwidth=1.5, estimator="biased").item() == pytest.approx(0, abs=1e-15)


def test_arguments_are_not_changed() -> None:
    x, y = samples(9, 8, 2, offset=3.0)
    before = x.clone(), y.clone()
    mmd2(x, y)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


def test_never_builds_an_n_m_d_array() -> None:
    """(N, M, D) を作れば 256·256·4096·4 バイト = 1 GiB になる入力で、最大の確保を数える。"""
    sizes: list[int] = []
    x, y = torch.randn(256, 4096, requires_grad=True), torch.randn(256, 4096)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                sizes.append(out.untyped_storage().nbytes())
            return out

    with Watch():
        mmd2(x, y, bandwidth=[1.0, 64.0]).backward()
    assert sizes and max(sizes) <= 3 * 512 * 4096 * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(3, 2, 2)}, ["(3, 2, 2)", "flatten"]),
        ({"x": torch.zeros(3, 5)}, ["(3, 5)", "D がそろって"]),
        ({"x": torch.zeros(1, 2)}, ["(1, 2)", "2 件以上"]),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, ["torch.int64", "浮動小数点"]),
        ({"x": torch.zeros(3, 2, dtype=torch.float64)}, ["torch.float64", "同じ浮動小数点"]),
        ({"kernel": "laplace"}, ["'laplace'", '"rbf"']),
        ({"estimator": "v"}, ["'v'", '"biased"']),
        ({"bandwidth": 0.0}, ["0.0", "正の"]),
        ({"bandwidth": []}, ["[]", "正の"]),
        ({"bandwidth": [1.0, float("nan")]}, ["nan", "正の"]),
        ({"bandwidth": "mean"}, ["'mean'", '"median"']),
    ],
)
def test_bad_input_says_what_came_and_what_is_wanted(change: dict, words: list[str]) -> None:
    arguments = {"x": torch.zeros(3, 2), "y": torch.ones(4, 2), **change}
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(ValueError, match="。") as caught:
        mmd2(x, y, **arguments)
    for word in words:
        assert word in str(caught.value)


def test_one_point_is_enough_for_the_biased_estimate() -> None:
    value = mmd2(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), bandwidth=5.0, estimator="biased")
    assert value.item() == pytest.approx(2 - 2 * math.exp(-0.5), rel=1e-6)


def test_gram_is_cheap_in_python_memory() -> None:
    """組の数だけの Python オブジェクトを作らない（大きな標本で遅くなる書き方を防ぐ）。"""
    x, y = samples(600, 600, 2)
    tracemalloc.start()
    mmd2(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
