"""adapt を、紙の上の 1 次元の 2 次式、行列の式、中心差分と比べる。"""

import copy

import pytest
import torch
import torch.nn.functional as F
from meta_kit import F64, central_difference, conv_net, image_episode
from torch import Tensor, nn

from tlkit.meta import adapt, call_with, gradient_cosine, inner_parameters

A, B, C, D, W, ETA = 3.0, 2.0, 5.0, -1.0, 0.7, 0.1


def support(params: dict[str, Tensor]) -> Tensor:
    """L_s(w) = a/2 (w − b)²。"""
    return A / 2 * (params["w"] - B) ** 2


def query(params: dict[str, Tensor]) -> Tensor:
    """L_q(w) = c/2 (w − d)²。"""
    return C / 2 * (params["w"] - D) ** 2


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
class TestQuadraticOnPaper:
    """w_n = b + (1 − ηa)^n (w − b)。メタ勾配は c (w_n − d) (1 − ηa)^n で、一次近似では (1 − ηa)^n が 1 になる。"""

    def adapted(self, steps: int) -> float:
        return B + (1 - ETA * A) ** steps * (W - B)

    def test_adapted_parameter(self, steps: int) -> None:
        w = torch.tensor(W, dtype=F64, requires_grad=True)
        for first_order in (False, True):
            found = adapt({"w": w}, support, lr=ETA, steps=steps, first_order=first_order)
            assert found["w"].item() == pytest.approx(self.adapted(steps), rel=1e-14)

    @pytest.mark.parametrize("first_order", [False, True])
    def test_meta_gradient(self, steps: int, first_order: bool) -> None:
        w = torch.tensor(W, dtype=F64, requires_grad=True)
        loss = query(adapt({"w": w}, support, lr=ETA, steps=steps, first_order=first_order))
        (grad,) = torch.autograd.grad(loss, w)
        factor = 1 if first_order else (1 - ETA * A) ** steps
        assert grad.item() == pytest.approx(C * (self.adapted(steps) - D) * factor, rel=1e-14)

    def test_second_order_term_is_the_difference(self, steps: int) -> None:
        """1 回のとき、二階の項は −η a c (w′ − d)。"""
        w = torch.tensor(W, dtype=F64, requires_grad=True)
        full, first = (
            torch.autograd.grad(query(adapt({"w": w}, support, lr=ETA, steps=steps, first_order=f)), w)[0].item()
            for f in (False, True)
        )
        if steps == 1:
            assert full - first == pytest.approx(-ETA * A * C * (self.adapted(1) - D), rel=1e-13)
        assert (full == first) == (steps == 0)


def test_hessian_of_the_meta_loss_on_paper() -> None:
    """メタ損失の二階微分は c (1 − ηa)^{2n}。もう一度微分できることも確かめる。"""
    w = torch.tensor(W, dtype=F64, requires_grad=True)
    (first,) = torch.autograd.grad(query(adapt({"w": w}, support, lr=ETA, steps=3)), w, create_graph=True)
    (second,) = torch.autograd.grad(first, w)
    assert second.item() == pytest.approx(C * (1 - ETA * A) ** 6, rel=1e-13)


def test_matrix_form() -> None:
    """L_s = ½ θᵀHθ − bᵀθ のとき、メタ勾配は (I − ηH)ⁿ ∇L_q。H が対称でない向きの取り違えも見つかる。"""
    g = torch.Generator().manual_seed(0)
    m, b, theta, target = (torch.randn(*s, generator=g, dtype=F64) for s in ((4, 4), (4,), (4,), (4,)))
    h = m @ m.T
    theta.requires_grad_()
    found = adapt({"t": theta}, lambda p: p["t"] @ h @ p["t"] / 2 - b @ p["t"], lr=0.05, steps=3)["t"]
    (grad,) = torch.autograd.grad(((found - target) ** 2).sum() / 2, theta)
    step = torch.eye(4, dtype=F64) - 0.05 * h
    torch.testing.assert_close(grad, torch.linalg.matrix_power(step, 3) @ (found - target).detach())


class TestLearnedRates:
    def test_one_rate_gets_its_gradient(self) -> None:
        w, lr = torch.tensor(W, dtype=F64), torch.tensor(ETA, dtype=F64, requires_grad=True)
        found = adapt({"w": w}, support, lr=lr, steps=2)
        (grad,) = torch.autograd.grad(query(found), lr)
        wanted = C * (found["w"].item() - D) * 2 * (1 - ETA * A) * -A * (W - B)
        assert grad.item() == pytest.approx(wanted, rel=1e-13)

    @pytest.mark.parametrize("first_order", [False, True])
    def test_one_rate_per_step(self, first_order: bool) -> None:
        w, lr = torch.tensor(W, dtype=F64), torch.tensor([0.1, 0.2], dtype=F64, requires_grad=True)
        found = adapt({"w": w}, support, lr=lr, steps=2, first_order=first_order)["w"]
        assert found.item() == pytest.approx(B + (1 - 0.1 * A) * (1 - 0.2 * A) * (W - B), rel=1e-14)
        (grad,) = torch.autograd.grad(found, lr)
        last = -A * (1 - 0.1 * A) * (W - B)  # 最後の回の学習率には、その回の勾配だけが効く
        assert grad[1].item() == pytest.approx(last, rel=1e-13)
        before = -A * (W - B) * (1 if first_order else 1 - 0.2 * A)
        assert grad[0].item() == pytest.approx(before, rel=1e-13)

    def test_wrong_length(self) -> None:
        with pytest.raises(ValueError, match=r"lr の形が \(3,\) .*\(2,\)"):
            adapt({"w": torch.tensor(1.0)}, support, lr=torch.ones(3), steps=2)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c), lambda c: nn.Identity()])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_meta_gradient_matches_central_differences(norm: object, steps: int, training: bool) -> None:
    model, e = conv_net(norm).train(training), image_episode()

    def meta_loss() -> Tensor:
        def inner(params: dict[str, Tensor]) -> Tensor:
            return F.cross_entropy(call_with(model, params, e.support_x), e.support_y)

        adapted = adapt(dict(model.named_parameters()), inner, lr=0.4, steps=steps)
        return F.cross_entropy(call_with(model, adapted, e.query_x), e.query_y)

    slope, difference = central_difference(meta_loss, model.parameters())
    assert slope == pytest.approx(difference, rel=1e-6)
    assert abs(slope) > 1e-3


def test_first_order_differs_from_the_difference_quotient() -> None:
    """一次近似は、メタ損失の勾配ではない。上の検査が、二階の項の有無を見分けられることの裏付けでもある。"""
    model, e = conv_net(), image_episode()

    def gradient(first_order: bool) -> list[Tensor]:
        def inner(params: dict[str, Tensor]) -> Tensor:
            return F.cross_entropy(call_with(model, params, e.support_x), e.support_y)

        adapted = adapt(dict(model.named_parameters()), inner, lr=0.4, steps=1, first_order=first_order)
        loss = F.cross_entropy(call_with(model, adapted, e.query_x), e.query_y)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    cosine = gradient_cosine(gradient(False), gradient(True))
    assert 0.3 < cosine < 0.99
    assert gradient_cosine(gradient(False), gradient(False)) == pytest.approx(1)


class TestLeavesTheCallerAlone:
    def test_given_values_and_buffers_do_not_change(self) -> None:
        model, e = conv_net().train(), image_episode()
        before, given = copy.deepcopy(model.state_dict()), dict(model.named_parameters())
        kept = dict(given)
        adapt(given, lambda p: call_with(model, p, e.support_x).square().mean(), lr=0.1, steps=2)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert given == kept and all(p.grad is None for p in model.parameters())

    def test_same_values_without_recording_gradients(self) -> None:
        model, e = conv_net(), image_episode()

        def run() -> dict[str, Tensor]:
            return adapt(
                dict(model.named_parameters()),
                lambda p: F.cross_entropy(call_with(model, p, e.support_x), e.support_y),
                **{"lr": 0.3, "steps": 3},
            )

        with torch.no_grad():
            silent = run()
        for name, value in run().items():
            assert value.requires_grad and not silent[name].requires_grad
            torch.testing.assert_close(silent[name], value)

    def test_views_made_without_recording_are_adapted_too(self) -> None:
        """記録しない状態で作ったビューは、requires_grad が True に見えても、元とつながっていない。"""
        w = nn.Parameter(torch.full((1,), W))
        with torch.no_grad():
            found = adapt({"w": w.expand(3)}, lambda p: support({"w": p["w"]}).sum(), lr=ETA, steps=1)
        torch.testing.assert_close(found["w"], torch.full((3,), B + (1 - ETA * A) * (W - B)))

    def test_plain_tensors_can_be_adapted(self) -> None:
        found = adapt({"w": torch.tensor(W)}, support, lr=ETA, steps=1)
        assert found["w"].item() == pytest.approx(B + (1 - ETA * A) * (W - B))

    def test_unused_parameters_stay(self) -> None:
        w, unused = torch.tensor(W, requires_grad=True), torch.ones(3, requires_grad=True)
        found = adapt({"w": w, "unused": unused}, support, lr=ETA, steps=2)
        assert found["unused"] is unused

    def test_first_order_keeps_no_graph_of_the_gradients(self) -> None:
        """一次近似の結果は、渡した値に足し算だけでつながる。"""
        w = torch.tensor(W, requires_grad=True)
        found = adapt({"w": w}, lambda p: p["w"].sin().exp(), lr=ETA, steps=1, first_order=True)["w"]
        (grad,) = torch.autograd.grad(found, w)
        assert grad == 1


class TestErrors:
    @pytest.mark.parametrize("steps", [-1, 1.0, True])
    def test_steps(self, steps: object) -> None:
        with pytest.raises(ValueError, match="steps に"):
            adapt({"w": torch.tensor(1.0)}, support, lr=0.1, steps=steps)

    def test_empty_params(self) -> None:
        with pytest.raises(ValueError, match="params が空"):
            adapt({}, lambda p: torch.tensor(0.0), lr=0.1, steps=1)

    @pytest.mark.parametrize(
        "loss",
        [
            lambda p: p["w"].expand(2),
            lambda p: p["w"].detach(),
            lambda p: torch.tensor(1.0),
            lambda p: torch.ones((), requires_grad=True) * 2,
        ],
    )
    def test_losses_that_cannot_be_used(self, loss: object) -> None:
        with pytest.raises(ValueError, match="渡されたパラメータから計算した、0 次元"):
            adapt({"w": torch.tensor(1.0, requires_grad=True)}, loss, lr=0.1, steps=1)


class TestFunctional:
    def test_call_with_replaces_only_what_is_given(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        x, bias = torch.randn(3, 2), torch.tensor([5.0])
        before = model[1].bias.detach().clone()
        torch.testing.assert_close(call_with(model, {"1.bias": bias}, x), model(x) - before + 5)
        assert torch.equal(model[1].bias, before)

    def test_inner_parameters_of_a_part(self) -> None:
        model = conv_net()
        assert set(inner_parameters(model)) == {name for name, _ in model.named_parameters()}
        assert set(inner_parameters(model, "classifier")) == {"classifier.weight", "classifier.bias"}
        model.classifier.bias.requires_grad_(False)
        assert set(inner_parameters(model, "classifier")) == {"classifier.weight"}
        with pytest.raises(ValueError, match=r"inner='class' .*features、classifier"):
            inner_parameters(model, "class")
