"""tests/distill の共通の部品: 小さなモデル、データ、ローダー。"""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
QUIET = {"device": "cpu", "progress": False}


def tiny(seed: int = 0, *, width: int = 8, dropout: float = 0.0, norm: bool = True) -> nn.Sequential:
    """(N, 4) → ロジット (N, 3)。バッチ正規化とドロップアウトがあるので、訓練と評価の状態で出力が変わる。"""
    torch.manual_seed(seed)
    middle = nn.BatchNorm1d(width) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(4, width), middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3))


def data(n: int = 40, seed: int = 0) -> TensorDataset:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    return TensorDataset(x, (x[:, :3] + 0.3 * torch.randn(n, 3, generator=g)).argmax(1))


def loader(dataset: object = None, *, seed: int = 0, batch: int = 8, shuffle: bool = True) -> DataLoader:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(dataset or data(), batch_size=batch, shuffle=shuffle, generator=generator)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
