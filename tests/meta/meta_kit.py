"""tests/meta の共通の部品: 小さなモデル、課題、中心差分。どれも float64。"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tlkit.fewshot import Episode

F64 = torch.float64


def conv_net(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, classes: int = 3, seed: int = 0) -> nn.Module:
    """畳み込み 2 段（正規化、tanh、平均プーリング）と線形層。8×8 の白黒を受け取る。どこでも何度でも微分できる。"""
    torch.manual_seed(seed)

    def block(inside: int, outside: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, padding=1), norm(outside), nn.Tanh(), nn.AvgPool2d(2)]

    features = nn.Sequential(*block(1, 4), *block(4, 4), nn.Flatten())
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("classifier", nn.Linear(16, classes))
    with torch.no_grad():  # 初めの 1 と 0 のままだと、γ と β の扱いの誤りが見えない
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(F64)


def image_episode(seed: int = 0, classes: int = 3) -> Episode:
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(classes)
    support, query = (torch.randn(classes * n, 1, 8, 8, generator=g, dtype=F64) for n in (2, 3))
    return Episode(support, y.repeat(2), query, y.repeat(3))


def central_difference(
    value: Callable[[], Tensor], parameters: Iterable[Tensor], eps: float = 1e-5
) -> tuple[float, float]:
    """でたらめな方向についての、（勾配との内積, 中心差分）。"""
    parameters = list(parameters)
    gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
    g = torch.Generator().manual_seed(1)
    direction = [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in parameters]
    slope = sum(float((a * d).sum()) for a, d in zip(gradients, direction, strict=True) if a is not None)

    def moved(sign: int) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(sign * eps * d)
        found = float(value().detach())
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(sign * eps * d)
        return found

    return slope, (moved(1) - moved(-1)) / (2 * eps)
