"""`finetune.py` の部品: 乱数のデータ、損失、最適化手法と、`training.fit` を素の PyTorch のくり返しと比べる測定。"""

from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from _timing import Call, compare, interleave, spread
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from tlkit.models import GlyphCNN
from tlkit.training import fit

BARE = "素の PyTorch のくり返し"
CLASSES = 10
Batches = DataLoader[tuple[Tensor, ...]]


def images(count: int, px: int, channels: int = 3) -> TensorDataset:
    """乱数の画像とラベル。速さは画素の値によらない。"""
    g = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(count, channels, px, px, generator=g), torch.arange(count) % CLASSES)


def loss(model: nn.Module, batch: Any) -> Tensor:
    """交差エントロピー。"""
    return F.cross_entropy(model(batch[0]), batch[1])


def sgd(module: nn.Module) -> torch.optim.SGD:
    """学習するパラメータだけを持つ最適化手法。"""
    return torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)


def baseline(result: dict[str, Any]) -> dict[str, Any]:
    """相手が、別の実装ではなく、同じ環境での別のやり方であることを書き添える。"""
    for peer in result["peers"].values():
        peer["kind"] = "baseline"
    return result


def loop_cases(batch: int, px: int, *, tiny: bool) -> list[tuple[str, nn.Module, Batches, int]]:
    """くり返しを比べるモデルとデータ。軽いモデルほどくり返しそのものの時間が目立つので、回数を増やして揺れをならす。"""
    torch.manual_seed(0)
    few, more = (2, 1) if tiny else (16, 20)
    vectors = TensorDataset(torch.randn(few * 32, 512), torch.arange(few * 32) % CLASSES)
    photos, letters = images((1 if tiny else 3) * batch, px), images(few * 32, 28, channels=1)
    return [
        ("ResNet-18", resnet18(weights=None, num_classes=CLASSES), DataLoader(photos, batch, shuffle=True), 1),
        ("GlyphCNN", GlyphCNN(CLASSES), DataLoader(letters, 32, shuffle=True), more),
        ("特徴の上の線形層だけ", nn.Linear(512, CLASSES), DataLoader(vectors, 32, shuffle=True), more),
    ]


def loop(name: str, model: nn.Module, loader: Batches, rounds: int) -> dict[str, Any]:
    """`fit` と素のくり返しの、1 エポックの時間。同じ初めの重みとデータの順から、同じ重みになることも確かめる。"""
    ours, theirs = (_trained(runner(deepcopy(model), loader)) for runner in (_fit_loop, _bare_loop))
    title = f"fit で 1 エポック: {name}"
    calls: dict[str, Call] = {title: _fit_loop(deepcopy(model), loader), BARE: _bare_loop(deepcopy(model), loader)}
    seconds = interleave(calls, rounds)
    pairs = list(zip(seconds[title], seconds[BARE], strict=True))
    return {
        "name": title,
        "size": {"batch": loader.batch_size or 0, "steps": len(loader)},
        **baseline(compare(title, seconds)),
        "throughput": spread([b / a for a, b in pairs]),
        "extra_microseconds_per_step": 1e6 * median(a - b for a, b in pairs) / len(loader),
        "weights_changed": difference(ours, [p.detach() for p in model.parameters()]),
        "weights_difference": difference(ours, theirs),
    }


def _fit_loop(model: nn.Module, loader: Batches) -> Callable[[], nn.Module]:
    optimizer = sgd(model)

    def run() -> nn.Module:
        fit(model, loader, loss, optimizer, epochs=1, device="cpu", progress=False)
        return model

    return run


def _bare_loop(model: nn.Module, loader: Batches) -> Callable[[], nn.Module]:
    """損失の記録も、発散の検査もしない、いちばん短い書き方。"""
    optimizer = sgd(model)

    def run() -> nn.Module:
        model.train()
        for x, y in loader:
            value = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        return model

    return run


def _trained(run: Callable[[], nn.Module]) -> list[Tensor]:
    torch.manual_seed(1)  # データの順をそろえる
    return [parameter.detach() for parameter in run().parameters()]


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """要素の差の絶対値の最大。"""
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(ours, theirs, strict=True))
