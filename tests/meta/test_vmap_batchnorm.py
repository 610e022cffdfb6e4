"""vmap の中で grad を取ると、正規化の層のある MAML の二階の勾配を誤る。事実として記録し、tlkit が避けていることを確かめる。

PyTorch の中の誤りで、functorch の issue 534 に報告がある。直った版では、初めの検査が知らせる。
そのときは、この検査と `tlkit/meta/stacked.py` の説明を改める。
"""

import pytest
import torch
import torch.nn.functional as F
from meta_kit import central_difference, conv_net, image_episode
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tlkit.fewshot import Episode
from tlkit.meta import MAML, StackedMAML, gradient_cosine
from tlkit.nn import batch_statistics

LR = 0.4


def stacked_episodes(count: int = 3) -> Episode:
    return Episode(*(torch.stack(parts) for parts in zip(*(image_episode(i) for i in range(count)), strict=True)))


def by_vmap(model: nn.Module, e: Episode) -> Tensor:
    """課題の軸の vmap の中で、内側の勾配を torch.func.grad で求める、よくある書き方。"""

    def task(params: dict[str, Tensor], sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        inner = grad(lambda p: F.cross_entropy(functional_call(model, p, (sx,)), sy))(params)
        adapted = {name: value - LR * inner[name] for name, value in params.items()}
        return F.cross_entropy(functional_call(model, adapted, (qx,)), qy)

    with batch_statistics(model):
        return vmap(task, (None, 0, 0, 0, 0))(dict(model.named_parameters()), *e).mean()


def by_loop(model: nn.Module, e: Episode) -> Tensor:
    method = MAML(LR, 1)
    return torch.stack([method.task_loss(model, Episode(*parts))["loss"] for parts in zip(*e, strict=True)]).mean()


def by_stack(model: nn.Module, e: Episode) -> Tensor:
    return StackedMAML(LR, 1, criterion=F.cross_entropy).loss(model, e)


def meta_gradient(loss: Tensor, model: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def error(way: object, model: nn.Module) -> float:
    e = stacked_episodes()
    right = meta_gradient(by_loop(model, e), model)
    return float((meta_gradient(way(model, e), model) - right).norm() / right.norm())


WRONG = {"batch": nn.BatchNorm2d, "instance": lambda c: nn.InstanceNorm2d(c, affine=True)}
RIGHT = {"group": lambda c: nn.GroupNorm(2, c), "none": lambda c: nn.Identity()}


@pytest.mark.parametrize("norm", WRONG)
def test_vmap_of_grad_is_wrong_although_its_loss_is_right(norm: str) -> None:
    model, e = conv_net(WRONG[norm]), stacked_episodes()
    assert by_vmap(model, e).item() == pytest.approx(by_loop(model, e).item(), rel=1e-12)
    assert error(by_vmap, model) > 1e-5, "PyTorch の誤りが直りました。この検査と stacked.py の説明を改めてください"


@pytest.mark.parametrize("norm", RIGHT)
def test_vmap_of_grad_is_right_without_those_layers(norm: str) -> None:
    assert error(by_vmap, conv_net(RIGHT[norm])) < 1e-12


@pytest.mark.parametrize("norm", WRONG | RIGHT)
def test_stacking_outside_the_derivative_is_right_with_every_layer(norm: str) -> None:
    assert error(by_stack, conv_net((WRONG | RIGHT)[norm])) < 1e-12


def test_central_differences_side_with_the_loop() -> None:
    model, e = conv_net(), stacked_episodes()
    slope, difference = central_difference(lambda: by_loop(model, e), model.parameters())
    assert slope == pytest.approx(difference, rel=1e-6)
    stacked, _ = central_difference(lambda: by_stack(model, e), model.parameters())
    assert stacked == pytest.approx(difference, rel=1e-6)
    wrong, _ = central_difference(lambda: by_vmap(model, e), model.parameters())
    assert wrong != pytest.approx(difference, rel=1e-5)


def test_the_error_hides_in_the_direction() -> None:
    """向きはほとんど同じなので、学習が進むかどうかを見るだけでは気づけない。"""
    model, e = conv_net(), stacked_episodes()
    right, wrong = meta_gradient(by_loop(model, e), model), meta_gradient(by_vmap(model, e), model)
    assert gradient_cosine([wrong], [right]) > 0.9
