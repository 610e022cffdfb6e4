"""線形プローブ: scikit-learn との一致、最小解での勾配、ほかを変えないこと、欠けたクラス。"""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from finetune_kit import DEVICES, MODELS, Bare, blobs, glyph_loader, moved
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tlkit.finetune import fit_head, set_freeze
from tlkit.models import GlyphCNN, TransferModel


def slopes(model: nn.Module, x: Tensor, y: Tensor, l2: float) -> tuple[float, list[Tensor]]:
    """目的関数の値と、分類の層についての勾配。"""
    head = list(model.children())[-1]
    logits = head(model.eval().features(x).detach())
    value = F.cross_entropy(logits, y) + l2 / 2 * head.weight.square().sum()
    return float(value.detach()), list(torch.autograd.grad(value, list(head.parameters())))


def sklearn_at(c: float, **options: bool) -> LogisticRegression:
    """違う解き方（ニュートン法）で、同じ目的関数を解くもの。"""
    return LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=10_000, **options)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-3])
@pytest.mark.parametrize("classes", [2, 4])
def test_equals_scikit_learn(l2: float, classes: int) -> None:
    x, y = blobs(classes=classes)
    model = fit_head(Bare(classes=classes).double(), [(x[:50], y[:50]), (x[50:], y[50:])], l2=l2)
    weight, bias = model.fc.weight.detach(), model.fc.bias.detach() - model.fc.bias.detach().mean()
    share = 1.0
    if classes == 2:  # 2 クラスの scikit-learn は、差 w₁ − w₀ だけを学習する。差への罰則は半分になる
        weight, bias, share = weight[1:] - weight[:1], bias[1:] - bias[:1], 2.0
    reference = sklearn_at(share / (l2 * len(x))).fit(x.numpy(), y.numpy())
    intercept = reference.intercept_ - (reference.intercept_.mean() if classes > 2 else 0)
    np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), intercept, atol=1e-5)


def test_equals_scikit_learn_without_a_bias() -> None:
    x, y = blobs()
    model = fit_head(Bare(bias=False).double(), [(x, y)], l2=1e-2)
    reference = sklearn_at(1 / (1e-2 * len(x)), fit_intercept=False).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(model.fc.weight.detach().numpy(), reference.coef_, atol=1e-5)


@pytest.mark.parametrize("l2", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("shape", [(90, 5), (12, 40)])
def test_gradient_vanishes_and_any_step_away_costs(l2: float, shape: tuple[int, int]) -> None:
    x, y = blobs(*shape)
    model = Bare(shape[1]).double()
    start, gradients = slopes(model, x, y, l2)
    assert max(float(g.abs().max()) for g in gradients) > 1e-2
    fit_head(model, [(x, y)], l2=l2)
    best, gradients = slopes(model, x, y, l2)
    assert best < start and max(float(g.abs().max()) for g in gradients) < 1e-6
    for seed in range(20):
        other = copy.deepcopy(model)
        with torch.no_grad():
            g = torch.Generator().manual_seed(seed)
            for p in other.parameters():
                p += 1e-2 * torch.randn(p.shape, generator=g, dtype=p.dtype)
        assert slopes(other, x, y, l2)[0] > best


def test_the_start_and_the_random_state_do_not_matter() -> None:
    x, y = blobs()
    heads = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = Bare().double()
        with torch.no_grad():
            model.fc.weight.mul_(100)
        state = torch.get_rng_state()
        heads.append(fit_head(model, [(x, y)]).fc)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0].weight, heads[1].weight) and torch.equal(heads[0].bias, heads[1].bias)


def test_the_split_into_batches_does_not_matter() -> None:
    x, y = blobs()
    one = fit_head(Bare().double(), [(x, y)])
    many = fit_head(Bare().double(), list(zip(x.split(7), y.split(7), strict=True)))
    assert torch.equal(one.fc.weight, many.fc.weight)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_large_and_small_features_are_solved_too(scale: float) -> None:
    """特徴を s 倍し、罰則を s² 倍すると、同じ問題になる。"""
    x, y = blobs()
    plain, scaled = Bare().double(), Bare().double()
    fit_head(plain, [(x, y)], l2=1e-2)
    fit_head(scaled, [(x * scale, y)], l2=1e-2 * scale**2)
    torch.testing.assert_close(scaled.fc.weight * scale, plain.fc.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["GlyphCNN", "Lite0", "TransferModel"])
@pytest.mark.parametrize("freeze", ["all", "partial", "none"])
def test_only_the_head_changes(name: str, freeze: str, device: str) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = set_freeze(make(), freeze).to(device).train()
    model.classifier.eval()
    x, y = torch.rand(12, *shape), torch.arange(12) % 4
    before = copy.deepcopy(model.state_dict())
    flags = [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()]
    assert fit_head(model, [(x[:8], y[:8]), (x[8:], y[8:])], device=device) is model
    assert moved(before, model) == {"classifier.weight", "classifier.bias"}
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()] == flags
    assert all(p.grad is None and p.device.type == device and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_the_whole_network_sits_at_the_minimum(device: str) -> None:
    """特徴ではなく、ネットワークの出力から計算しても、分類の層の勾配は 0 になる。"""
    batches, x, y = glyph_loader(30, batch_size=30)  # GPU では、バッチの大きさが違うと、畳み込みの末尾の桁も違う
    torch.manual_seed(0)
    model = fit_head(GlyphCNN(3), batches, l2=1e-2, device=device).eval()
    value = F.cross_entropy(model(x.to(device)), y.to(device)) + 5e-3 * model.classifier.weight.square().sum()
    value.backward()
    assert model.stem[0].weight.grad.abs().max() > 1e-4  # 対照: 下の段の勾配は 0 ではない
    assert max(float(p.grad.abs().max()) for p in model.classifier.parameters()) < 1e-4


def test_letters_features_separate_digits_at_once() -> None:
    from tlkit import data

    digits = data.mnist5k()
    x, y = digits.images.float(), torch.as_tensor(digits.labels).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:200], order[200:1200]
    model = GlyphCNN(10, weights="letters")

    def accuracy() -> float:
        with torch.inference_mode():
            return float((model.eval()(x[test]).argmax(1) == y[test]).float().mean())

    before = accuracy()
    fit_head(model, [(x[train], y[train])])
    assert before < 0.3 and accuracy() > 0.85


def test_absent_classes_are_never_predicted_and_do_not_disturb() -> None:
    x, y = blobs()
    few = y.remainder(2) * 2  # クラス 0 と 2 だけ
    model = fit_head(Bare(classes=4).double(), [(x, few)])
    small = fit_head(Bare(classes=2).double(), [(x, few // 2)])
    torch.testing.assert_close(model.fc.weight[[0, 2]], small.fc.weight)
    torch.testing.assert_close(model.fc.bias[[0, 2]], small.fc.bias)
    p = model(x).softmax(1).detach()
    assert (model.fc.weight[[1, 3]] == 0).all() and p[:, [1, 3]].max() < math.exp(-19.9)
    assert max(float(g.abs().max()) for g in slopes(model, x, few, 1e-3)[1]) < 1e-6


def test_a_single_class_is_answered_with_that_class() -> None:
    x, _ = blobs()
    model = fit_head(Bare().double(), [(x, torch.full((len(x),), 2))])
    assert (model.fc.weight == 0).all() and (model(x).argmax(1) == 2).all()


def test_a_transfer_model_of_torchvision_works() -> None:
    model = TransferModel(2, "mobilenet_v3_small", "all", weights=None)
    x = torch.rand(6, 3, 32, 32)
    fit_head(model, [(x, torch.tensor([0, 1] * 3))])
    assert (model.classifier.weight != 0).any()


def test_features_of_very_different_sizes_are_solved() -> None:
    x, y = blobs(width=8)
    x = x * torch.logspace(-3, 3, 8, dtype=torch.float64)
    model = fit_head(Bare(8).double(), [(x, y)], l2=1e-3)
    assert max(float(g.abs().max()) for g in slopes(model, x, y, 1e-3)[1]) < 1e-4
