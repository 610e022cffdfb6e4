"""tests/adapt の共通の部品: 小さなモデル、ドメインの違うデータ、ローダー、手法の一覧。"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit.adapt import CORALLoss, DANNLoss, MMDLoss, SourceOnly
from tlkit.nn import gradient_reversal

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
METHODS = {
    "source_only": SourceOnly(),
    "dann": DANNLoss(),
    "mmd": MMDLoss(weight=0.5),
    "coral": CORALLoss(weight=3.0),
}


class Activations(NamedTuple):
    features: Tensor
    hidden: Tensor
    logits: Tensor


class Tiny(nn.Module):
    """`DANN` と同じ口を持つ小さなモデル。linear なら、どの部分も一つの行列（とバイアス）だけになる。"""

    def __init__(
        self, inputs: int = 4, *, linear: bool = False, norm: bool = True, dropout: float = 0.0, width: int = 8
    ) -> None:
        super().__init__()
        self.extractor = nn.Linear(inputs, width, bias=not linear)
        self.hidden: nn.Module = nn.Identity()
        if not linear:
            first, second = (nn.BatchNorm1d(width), nn.BatchNorm1d(6)) if norm else (nn.Identity(), nn.Identity())
            self.extractor = nn.Sequential(self.extractor, first, nn.ReLU())
            self.hidden = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, 6), second, nn.ReLU())
        self.label_classifier = nn.Linear(width if linear else 6, 3)
        self.domain_classifier = nn.Linear(width, 2)

    def activations(self, x: Tensor) -> Activations:
        features = self.extractor(x)
        hidden = self.hidden(features)
        return Activations(features, hidden, self.label_classifier(hidden))

    def forward(self, x: Tensor, lambda_: float = 1.0) -> tuple[Tensor, Tensor]:
        features, _, logits = self.activations(x)
        return logits, self.domain_classifier(gradient_reversal(features, lambda_))


def tiny(seed: int = 0, **kwargs: object) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(**kwargs)


def random_pair(n: int = 12, m: int = 7, inputs: int = 4, dtype: torch.dtype = torch.float64) -> tuple:
    """件数の違う、一組のバッチ。"""
    g = torch.Generator().manual_seed(3)
    x, target = torch.randn(n, inputs, generator=g), 1 + 2 * torch.randn(m, inputs, generator=g)
    return (x.to(dtype), torch.arange(n) % 3), target.to(dtype)


def loaders(seed: int = 0, n: int = 40, m: int = 24, batch: int = 8, *, shared: bool = False) -> tuple:
    """ソース n 件とターゲット m 件（ラベルつき）の、並べ替えるローダー。"""
    (x, y), target = random_pair(n, m, dtype=torch.float32)
    first = torch.Generator().manual_seed(seed)
    second = first if shared else torch.Generator().manual_seed(seed + 100)
    return tuple(
        DataLoader(TensorDataset(inputs, labels), batch_size=batch, shuffle=True, generator=generator)
        for inputs, labels, generator in ((x, y, first), (target, torch.full((m,), -1), second))
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
