"""手法ごとの損失: 閉じた形の勾配、二つの最適化との一致、数値微分、値、ドメインごとのバッチ正規化、再現性。"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from adapt_kit import DEVICES, METHODS, random_pair, tiny
from torch import Tensor, nn

from tlkit.adapt import CORALLoss, DANNLoss, MMDLoss, SourceOnly
from tlkit.losses.coral import coral
from tlkit.losses.mmd import median_bandwidth, mmd2
from tlkit.models import DANN
from tlkit.nn import dann_lambda

LAMBDA = 0.7


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """全パラメータの勾配。損失が届かないパラメータは 0。"""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def closed_form(model: nn.Module, x: np.ndarray, y: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
    """線形の特徴 f = xWᵀ、線形の分類器と識別器での、DANN の 1 回の更新の向き。自動微分を使わない。"""
    w, v, u = (getattr(model, name).weight.detach().numpy() for name in PARTS)
    b, c = (getattr(model, name).bias.detach().numpy() for name in PARTS[1:])

    def error(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:  # 平均の交差エントロピーの、ロジットでの微分
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return (p - np.eye(logits.shape[1])[labels]) / len(labels)

    fs, ft = x @ w.T, t @ w.T
    gy = error(fs @ v.T + b, y)
    gs = error(fs @ u.T + c, np.zeros(len(x), dtype=int)) / 2
    gt = error(ft @ u.T + c, np.ones(len(t), dtype=int)) / 2
    return {
        "extractor.weight": (gy @ v - LAMBDA * gs @ u).T @ x - LAMBDA * (gt @ u).T @ t,
        "label_classifier.weight": gy.T @ fs,
        "label_classifier.bias": gy.sum(0),
        "domain_classifier.weight": gs.T @ fs + gt.T @ ft,
        "domain_classifier.bias": gs.sum(0) + gt.sum(0),
    }


PARTS = ("extractor", "label_classifier", "domain_classifier")


@pytest.mark.parametrize("sizes", [(12, 12), (12, 7), (5, 30)])
def test_dann_step_equals_the_closed_form(sizes: tuple[int, int]) -> None:
    model = tiny(linear=True).double()
    (x, y), t = pair = random_pair(*sizes)
    want = closed_form(model, x.numpy(), y.numpy(), t.numpy())
    found = gradients(model, DANNLoss(fixed=LAMBDA)(model, pair, 0.3)["loss"])
    assert found.keys() == want.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient.numpy(), want[name], rtol=0, atol=1e-10, err_msg=name)
        assert np.abs(want[name]).max() > 1e-3


def plain_losses(model: DANN, pair: tuple) -> tuple[Tensor, Tensor]:
    """勾配反転層を通さない、クラスの損失 L_y とドメインの損失 L_d。"""
    (x, y), t = pair
    source, target = model.activations(x), model.activations(t)
    domains = [model.domain_classifier(part.features) for part in (source, target)]
    own = [F.cross_entropy(logits, torch.full((len(logits),), d)) for d, logits in enumerate(domains)]
    return F.cross_entropy(source.logits, y), (own[0] + own[1]) / 2


def images_pair() -> tuple:
    g = torch.Generator().manual_seed(0)
    source, target = (torch.rand(n, 3, 28, 28, generator=g, dtype=torch.float64) for n in (6, 4))
    return (source, torch.arange(6) % 10), target.square()


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_one_backward_equals_two_separate_problems(norm: str) -> None:
    """θ_y は L_y を、θ_d は L_d を小さくし、θ_f は L_y − λ L_d を小さくする（L_d については大きくする）。"""
    torch.manual_seed(0)
    model, pair = DANN(network="mnist28", norm=norm).double().train(), images_pair()
    found = gradients(model, DANNLoss(fixed=LAMBDA)(model, pair, 0.0)["loss"])
    class_loss, domain_loss = plain_losses(model, pair)
    by_class, by_domain = gradients(model, class_loss), gradients(model, domain_loss)
    for name, gradient in found.items():
        features = name.startswith("extractor")
        want = by_class[name] - LAMBDA * by_domain[name] if features else by_class[name] + by_domain[name]
        torch.testing.assert_close(gradient, want, rtol=1e-10, atol=1e-12, msg=name)
        parts = {"extractor": (True, True), "domain_classifier": (False, True)}
        reached = bool(by_class[name].any()), bool(by_domain[name].any())
        assert reached == parts.get(name.split(".")[0], (True, False))


def test_extractor_gradient_of_the_domain_loss_is_minus_lambda_times_central_differences() -> None:
    """損失の値を数値微分すると、識別器では自動微分と一致し、特徴抽出器では −1/λ 倍になる。"""
    model, pair, h = tiny().double().train(), random_pair(), 1e-6
    method = DANNLoss(fixed=LAMBDA)
    found = gradients(model, method(model, pair, 0.0)["domain"])
    for name, factor in (("extractor.0.weight", -LAMBDA), ("domain_classifier.weight", 1.0)):
        weight, numeric = model.get_parameter(name), torch.zeros_like(found[name])
        for index in np.ndindex(*weight.shape):
            values = []
            for sign in (1, -1):
                moved = copy.deepcopy(model)
                with torch.no_grad():
                    moved.get_parameter(name)[index] += sign * h
                    values.append(method(moved, pair, 0.0)["domain"])
            numeric[index] = (values[0] - values[1]) / (2 * h)
        torch.testing.assert_close(found[name], factor * numeric, rtol=1e-6, atol=1e-9)
        assert numeric.abs().max() > 1e-3


def test_dann_weighs_both_domains_equally_whatever_the_batch_sizes() -> None:
    model = tiny(linear=True).double()
    (x, y), t = random_pair(6, 6)
    one, uneven = ((x, y), t), ((x, y), t.repeat(9, 1))
    values = [DANNLoss(fixed=0.5)(model, pair, 0.0) for pair in (one, uneven)]
    torch.testing.assert_close(values[0]["domain"], values[1]["domain"], rtol=1e-12, atol=0)
    first, second = (gradients(model, value["loss"]) for value in values)
    assert all(torch.allclose(first[name], second[name], rtol=1e-10, atol=1e-14) for name in first)


def test_source_is_domain_zero_and_target_is_domain_one() -> None:
    model, pair = tiny(linear=True).double(), random_pair()
    with torch.no_grad():
        model.domain_classifier.weight.zero_()
        model.domain_classifier.bias.copy_(torch.tensor([3.0, 1.0]))
    value = DANNLoss()(model, pair, 0.0)["domain"].item()
    assert value == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) / 2, rel=1e-12)
    (x, y), t = pair
    model.domain_classifier.load_state_dict({"weight": torch.ones(2, 8).double(), "bias": torch.zeros(2).double()})
    with torch.no_grad():
        model.domain_classifier.weight[0] *= -1
        model.extractor.weight.fill_(1.0)
    separated = DANNLoss()(model, ((-t.abs(), torch.zeros(len(t), dtype=torch.long)), t.abs()), 0.0)
    assert separated["domain"].item() < 1e-3  # ソースが負、ターゲットが正なら、見分けがつく
    swapped = DANNLoss()(model, ((x.abs(), y), -t.abs()), 0.0)
    assert swapped["domain"].item() > 5


@pytest.mark.parametrize("progress", [0.0, 0.01, 0.37, 1.0])
def test_lambda_follows_the_progress(progress: float) -> None:
    assert DANNLoss().lambda_at(progress) == dann_lambda(progress)
    assert DANNLoss(gamma=3.0, lambda_max=0.2).lambda_at(progress) == 0.2 * dann_lambda(progress, 3.0)
    assert DANNLoss(fixed=0.0).lambda_at(progress) == 0.0 and DANNLoss(fixed=0.4).lambda_at(progress) == 0.4
    model, pair = tiny(linear=True).double(), random_pair()
    got, fixed = (
        gradients(model, method(model, pair, progress)["domain"])["extractor.weight"]
        for method in (DANNLoss(lambda_max=0.5), DANNLoss(fixed=0.5 * dann_lambda(progress)))
    )
    assert torch.equal(got, fixed) and bool(got.any()) == (progress > 0)


def test_values_are_the_class_loss_plus_the_weighted_sum_over_layers() -> None:
    model, ((x, y), t) = tiny().double().train(), random_pair()
    a, b = model.activations(x), model.activations(t)
    ce = F.cross_entropy(a.logits, y)
    layers = [(a.features, b.features), (a.hidden, b.hidden)]

    def mmd(p: Tensor, q: Tensor) -> Tensor:
        sigma = median_bandwidth(p, q)
        return sum(mmd2(p, q, bandwidth=sigma * 2**k) for k in (-1, -0.5, 0, 0.5, 1)) / 5

    for method, measure, w in ((MMDLoss(weight=0.3), mmd, 0.3), (CORALLoss(weight=40.0), coral, 40.0)):
        found = method(model, ((x, y), t), 0.5)
        gap = sum(measure(p, q) for p, q in layers)
        assert found.keys() == {"loss", "class", "discrepancy"}
        torch.testing.assert_close(found["discrepancy"], gap, rtol=1e-10, atol=0)
        torch.testing.assert_close(found["loss"], ce + w * gap, rtol=1e-10, atol=0)
        torch.testing.assert_close(found["class"], ce)
        ours, theirs = gradients(model, found["loss"]), gradients(model, ce + w * gap)
        assert all(torch.allclose(ours[n], theirs[n], rtol=1e-8, atol=1e-12) for n in ours)
    narrow = MMDLoss(scales=(0.25,))(model, ((x, y), t), 0.0)["discrepancy"]
    want = sum(mmd2(p, q, bandwidth=0.25 * median_bandwidth(p, q)) for p, q in layers)
    torch.testing.assert_close(narrow, want, rtol=1e-10, atol=0)


def test_source_only_never_looks_at_the_target() -> None:
    model, ((x, y), t) = tiny().double().train(), random_pair()
    before = copy.deepcopy(model)
    found = SourceOnly()(model, ((x, y), torch.full_like(t, float("nan"))), 0.5)
    assert found.keys() == {"loss", "class"}
    torch.testing.assert_close(found["loss"], F.cross_entropy(before.activations(x).logits, y))
    assert all(b.isfinite().all() for b in model.buffers())


@pytest.mark.parametrize("name", METHODS)
def test_each_domain_goes_through_the_network_alone(name: str) -> None:
    model, pair, seen = tiny().train(), random_pair(12, 7, dtype=torch.float32), {}
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d):
            module.register_forward_hook(lambda _m, inputs, _o, key=key: seen.setdefault(key, []).append(inputs[0]))
    METHODS[name](model, pair, 0.5)
    sizes = [12] if name == "source_only" else [12, 7]
    assert [[len(x) for x in inputs] for inputs in seen.values()] == [sizes, sizes]
    first = model.extractor[0](pair[0][0])
    assert torch.equal(seen["extractor.1"][0], first)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_real_networks(name: str, device: str) -> None:
    torch.manual_seed(0)
    model = DANN(network="mnist28").to(device).train()
    (x, y), t = images_pair()
    pair = ((x.float().to(device), y.to(device)), t.float().to(device))
    found = METHODS[name](model, pair, 0.5)
    found["loss"].backward()
    assert all(value.ndim == 0 and value.device.type == device for value in found.values())
    assert model.extractor[0].weight.grad.isfinite().all() and model.extractor[0].weight.grad.any()
