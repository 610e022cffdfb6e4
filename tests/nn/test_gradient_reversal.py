"""勾配反転層: 値、−λ 倍の勾配、2 階微分、dtype、形、λ の変わり方、断り方。"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from tlkit.nn import GradientReversal, gradient_reversal

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def leaf(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0, 3.25])
def test_value_is_kept_and_the_gradient_is_multiplied_by_minus_lambda(
    lambda_: float, dtype: torch.dtype, device: str
) -> None:
    x = leaf(3, 4, dtype=dtype).detach().to(device).requires_grad_()
    upstream = leaf(3, 4, seed=1, dtype=dtype).detach().to(device)
    for reverse in (lambda z: gradient_reversal(z, lambda_), GradientReversal(lambda_)):
        y = reverse(x)
        assert torch.equal(y, x) and y.dtype == dtype and y.device == x.device
        (gradient,) = torch.autograd.grad(y, x, upstream)
        assert gradient.dtype == dtype and torch.equal(gradient, -lambda_ * upstream)


def test_gradient_is_minus_lambda_times_central_differences() -> None:
    """R_λ の下流の関数 f を、R_λ なしで数値微分した値の −λ 倍になる。f を通る λ の影響は、値には出ない。"""
    x, weight, lambda_, h = leaf(5), leaf(5, 5, seed=1).detach(), 0.7, 1e-5

    def downstream(z: Tensor) -> Tensor:
        return torch.tanh(weight @ z).square().sum() + z.prod()

    (gradient,) = torch.autograd.grad(downstream(gradient_reversal(x, lambda_)), x)
    steps = h * torch.eye(5, dtype=torch.float64)
    numeric = torch.stack([(downstream(x + e) - downstream(x - e)) / (2 * h) for e in steps]).detach()
    torch.testing.assert_close(gradient, -lambda_ * numeric, rtol=1e-8, atol=1e-9)
    assert numeric.abs().min() > 1e-3


def test_it_is_not_the_derivative_of_any_function() -> None:
    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(lambda z: gradient_reversal(z, 0.5), leaf(3))


def test_double_backward() -> None:
    """f(x) = Σ R(x)³ の 1 階は −3λx²。その 1 階をもう一度微分すると、逆伝播が R を 2 回通るので 6λ²x になる。"""
    x, lambda_ = leaf(6), 0.4
    (first,) = torch.autograd.grad(gradient_reversal(x, lambda_).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, -3 * lambda_ * x.square(), rtol=1e-12, atol=0)
    torch.testing.assert_close(second, 6 * lambda_**2 * x, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("transposed", lambda z: z.T),
        ("strided", lambda z: z[::2, 1::2]),
        ("expanded", lambda z: z[:1].expand(5, 6)),
        ("channels_last", lambda z: z.reshape(2, 2, 3, 2).contiguous(memory_format=torch.channels_last)),
        ("empty", lambda z: z[:0]),
        ("scalar", lambda z: z.sum()),
    ],
)
def test_any_layout(name: str, view: object) -> None:
    x = leaf(4, 6)
    viewed = view(x)
    y = gradient_reversal(viewed, 0.5)
    assert torch.equal(y, viewed) and y.shape == viewed.shape and y.stride() == viewed.stride()
    weight = leaf(*viewed.shape, seed=2).detach()
    (ours,) = torch.autograd.grad((y * weight).sum(), x)
    (plain,) = torch.autograd.grad((view(x) * weight).sum(), x)
    torch.testing.assert_close(ours, -0.5 * plain, rtol=1e-12, atol=0)


def test_no_copy_is_made_and_the_input_is_not_changed() -> None:
    x = leaf(3, 4)
    before = x.detach().clone()
    y = gradient_reversal(x, 2.0)
    assert y.data_ptr() == x.data_ptr() and y is not x
    y.sum().backward()
    assert torch.equal(x.detach(), before)


def test_inputs_without_gradients_pass_through() -> None:
    x = torch.ones(3)
    assert not gradient_reversal(x, 1.0).requires_grad
    tracked = leaf(3)
    with torch.no_grad():
        assert gradient_reversal(tracked, 1.0).grad_fn is None
        assert not (2 * gradient_reversal(tracked, 1.0)).requires_grad
    with torch.inference_mode():
        assert torch.equal(gradient_reversal(tracked, 1.0), tracked)


def test_each_call_keeps_its_own_lambda_until_the_backward() -> None:
    x = leaf(3)
    layer = GradientReversal(0.3)
    first = layer(x)
    layer.lambda_ = 2.0
    second = layer(x)
    layer.lambda_ = 50.0
    (5 * first + 7 * second).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, -(5 * 0.3 + 7 * 2.0)), rtol=1e-12, atol=0)


def test_twice_reversed_is_multiplied_by_the_product() -> None:
    x = leaf(3)
    gradient_reversal(gradient_reversal(x, 0.5), 3.0).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1.5), rtol=1e-12, atol=0)


def test_only_what_lies_before_the_layer_is_reversed() -> None:
    torch.manual_seed(0)
    before, after = nn.Linear(4, 3).double(), nn.Linear(3, 2).double()
    x = leaf(5, 4).detach()
    plain = torch.autograd.grad(after(before(x)).square().sum(), [before.weight, after.weight])
    ours = torch.autograd.grad(after(gradient_reversal(before(x), 0.25)).square().sum(), [before.weight, after.weight])
    torch.testing.assert_close(ours[0], -0.25 * plain[0], rtol=1e-12, atol=0)
    assert torch.equal(ours[1], plain[1])


def test_the_layer_has_no_state_and_shows_its_lambda() -> None:
    layer = GradientReversal()
    assert layer.lambda_ == 1.0 and not list(layer.parameters()) and not layer.state_dict()
    assert "lambda_=0.25" in repr(GradientReversal(0.25))


@pytest.mark.parametrize("lambda_", [-0.1, math.nan, math.inf, "1", None, torch.tensor(1.0)])
def test_bad_lambda_is_refused_when_made_and_when_used(lambda_: object) -> None:
    for call in (lambda: gradient_reversal(leaf(2), lambda_), lambda: GradientReversal(lambda_)):
        with pytest.raises(ValueError, match=r"lambda_ に .* が渡されました。0 以上の有限な数"):
            call()
    layer = GradientReversal()
    layer.lambda_ = lambda_
    with pytest.raises(ValueError, match="0 以上の有限な数"):
        layer(leaf(2))
