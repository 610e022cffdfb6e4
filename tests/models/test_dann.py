"""DANN: 形と次元、部品の構成、λ の効く所、ドメインごとのバッチ正規化、断り方。"""

import pytest
import torch
from torch import Tensor, nn

from tlkit.models import DANN

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SHAPES = {"rgb32": (32, 3200, 64, 128), "mnist28": (28, 768, 32, 48)}
CASES = [(network, norm) for network in SHAPES for norm in ("batch", "none")]


def build(network: str = "mnist28", norm: str = "batch", classes: int = 10) -> DANN:
    torch.manual_seed(0)
    return DANN(classes, network=network, norm=norm)


def images(n: int = 4, size: int = 28, seed: int = 0, **kwargs: object) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(**kwargs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("network", "norm"), CASES)
def test_shapes_of_every_output(network: str, norm: str, device: str) -> None:
    size, dimension, _, _ = SHAPES[network]
    model, x = build(network, norm, classes=7).to(device), images(5, size, device=device)
    assert model.num_features == dimension
    assert model.features(x).shape == (5, dimension)
    features, hidden, logits = model.activations(x)
    assert features.shape == (5, dimension) and hidden.shape == (5, 100) and logits.shape == (5, 7)
    class_logits, domain_logits = model(x)
    assert class_logits.shape == (5, 7) and domain_logits.shape == (5, 2)
    assert domain_logits.device.type == device


@pytest.mark.parametrize(("network", "norm"), CASES)
def test_maps_shrink_as_in_the_paper_and_parameters_add_up(network: str, norm: str) -> None:
    size, dimension, first, second = SHAPES[network]
    model, shapes = build(network, norm), []
    for module in model.extractor:
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    model.features(images(2, size))
    sides = (size - 4, (size - 4) // 2, (size - 4) // 2 - 4, ((size - 4) // 2 - 4) // 2)
    assert shapes == [(c, side, side) for c, side in zip((first, first, second, second), sides, strict=True)]
    assert shapes[-1] == {"rgb32": (128, 5, 5), "mnist28": (48, 4, 4)}[network]
    convolutions = 75 * first + first + 25 * first * second + second
    heads = 2 * (dimension * 100 + 100) + (100 * 100 + 100) + (100 * 10 + 10) + (100 * 2 + 2)
    scales = 2 * (first + second + 100) if norm == "batch" else 0
    assert sum(p.numel() for p in model.parameters()) == convolutions + heads + scales


def test_norms_differ_only_by_batch_normalisation() -> None:
    def layers(part: nn.Module) -> list[str]:
        return [type(module).__name__ for module in part.modules() if not isinstance(module, nn.Sequential)]

    normalised, plain = build(norm="batch"), build(norm="none")
    assert layers(normalised.extractor) == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"] * 2 + ["Flatten"]
    assert layers(plain.extractor) == ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Flatten"]
    assert layers(normalised.hidden) == ["Linear", "BatchNorm1d", "ReLU"] and layers(plain.hidden) == ["Linear", "ReLU"]
    for model in (normalised, plain):
        assert layers(model.label_classifier) == layers(model.domain_classifier) == ["Linear", "ReLU", "Linear"]


@pytest.mark.parametrize(("network", "norm"), CASES)
def test_the_parts_make_the_whole(network: str, norm: str) -> None:
    size = SHAPES[network][0]
    model, x = build(network, norm).double().eval(), images(4, size, dtype=torch.float64)
    features, hidden, logits = model.activations(x)
    class_logits, domain_logits = model(x, 0.3)
    assert class_logits.dtype == torch.float64
    assert torch.equal(features, model.features(x)) and torch.equal(features, model.extractor(x))
    assert torch.equal(hidden, model.hidden(features)) and torch.equal(logits, model.label_classifier(hidden))
    assert torch.equal(class_logits, logits) and torch.equal(domain_logits, model.domain_classifier(features))
    torch.testing.assert_close(model.features(x[1:2])[0], features[1], rtol=1e-10, atol=1e-12)


def gradients(model: DANN, x: Tensor, *arguments: float) -> tuple[Tensor, Tensor, Tensor | None]:
    model.zero_grad(set_to_none=True)
    model(x, *arguments)[1][:, 1].sum().backward()
    return (
        model.extractor[0].weight.grad,
        model.domain_classifier[0].weight.grad,
        model.label_classifier[0].weight.grad,
    )


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_lambda_reaches_only_the_extractor(norm: str) -> None:
    model, x = build(norm=norm).double(), images(6, dtype=torch.float64)
    unit_extractor, unit_domain, label = gradients(model, x)
    assert label is None and unit_extractor.abs().sum() > 0
    for lambda_ in (0.0, 0.25, 1.0, 4.0):
        extractor, domain, _ = gradients(model, x, lambda_)
        torch.testing.assert_close(extractor, lambda_ * unit_extractor, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(domain, unit_domain, rtol=1e-12, atol=0)
    (plain,) = torch.autograd.grad(model.domain_classifier(model.features(x))[:, 1].sum(), model.extractor[0].weight)
    torch.testing.assert_close(unit_extractor, -plain, rtol=1e-10, atol=1e-14)  # 既定の λ は 1


def test_each_domain_is_normalised_by_its_own_statistics() -> None:
    """別々に通せば、ソースの特徴はターゲットに左右されない。一つのバッチに混ぜれば、左右される。"""
    source, dark, bright = images(8), 0.1 * images(8, seed=1), 0.5 + 0.5 * images(8, seed=1)
    model = build().train()
    alone = model.features(source)
    for target in (dark, bright):
        model.features(target)
        assert torch.equal(model.features(source), alone)
        mixed = model.features(torch.cat([source, target]))[:8]
        assert (mixed - alone).abs().mean() > 0.05
    first = model.extractor[1]
    means = [model.extractor[0](x).mean((0, 2, 3)) for x in (source, bright)]
    assert (means[0] - means[1]).abs().max() > 0.1
    first.momentum = 1.0
    for x, mean in zip((source, bright), means, strict=True):
        model(x)
        torch.testing.assert_close(first.running_mean, mean)


def test_without_normalisation_the_batch_does_not_matter() -> None:
    model, x = build(norm="none").train(), images(6)
    torch.testing.assert_close(model(x)[0][:2], model(x[:2])[0])
    assert not dict(model.named_buffers())


def test_gradients_reach_every_parameter_and_weights_follow_the_seed() -> None:
    model, again = build(), build()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    class_logits, domain_logits = model(images(8))
    (class_logits.square().sum() + domain_logits.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        ("rgb32", (2, 3, 28, 28), [r"\(2, 3, 28, 28\)", r"\(N, 3, 32, 32\)", 'network="mnist28"']),
        ("mnist28", (2, 3, 32, 32), [r"\(2, 3, 32, 32\)", r"\(N, 3, 28, 28\)", 'network="rgb32"']),
        ("mnist28", (2, 1, 28, 28), [r"\(2, 1, 28, 28\)", r"expand\(-1, 3, -1, -1\)"]),
        ("mnist28", (3, 28, 28), [r"\(3, 28, 28\)", r"\(N, 3, 28, 28\)"]),
        ("mnist28", (2, 784), [r"\(2, 784\)"]),
    ],
)
def test_wrong_images_are_explained(network: str, shape: tuple[int, ...], words: list[str]) -> None:
    model = build(network)
    for call in (model, model.features, model.activations):
        for word in words:
            with pytest.raises(ValueError, match=word):
                call(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes に 0 が渡されました。1 以上の整数"),
        ({"num_classes": True}, "num_classes に True"),
        ({"num_classes": 2.0}, "num_classes に 2.0"),
        ({"network": "rgb28"}, "network に 'rgb28' が渡されました。rgb32、mnist28"),
        ({"norm": "layer"}, "norm に 'layer' が渡されました"),
        ({"norm": None}, "norm に None"),
    ],
)
def test_wrong_settings_are_explained(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DANN(**arguments)


def test_negative_lambda_is_refused() -> None:
    with pytest.raises(ValueError, match="lambda_ に -1"):
        build()(images(2), -1.0)
