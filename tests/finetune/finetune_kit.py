"""tests/finetune の共通の部品: 検査に使うモデル、学習、動いたパラメータの調べ方。"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import VisionTransformer, get_model

from tlkit.models import EfficientNetLite0, GlyphCNN, TransferModel

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "GlyphCNN": (lambda: GlyphCNN(4, width=4), (1, 28, 28)),
    "Lite0": (lambda: EfficientNetLite0(4, weights=None), (3, 32, 32)),
    "resnet18": (lambda: get_model("resnet18", weights=None, num_classes=4), (3, 32, 32)),
    "TransferModel": (lambda: TransferModel(4, "shufflenet_v2_x0_5", "none", weights=None), (3, 64, 64)),
}


def small_vit() -> nn.Module:
    """小さな ViT。クラストークンと位置の埋め込みは、どの部品にも属さないパラメータである。"""
    return VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=4)


class Tied(nn.Module):
    """二つの段が、同じパラメータと同じ部品を使うモデル。"""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(6, 6)
        self.first, self.second, self.third = nn.Linear(6, 6), shared, nn.Sequential(shared, nn.ReLU())
        self.fourth = nn.Linear(6, 6)
        self.fourth.weight = self.first.weight
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fourth(self.third(self.second(self.first(x)))))


def build(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return make(), torch.rand(6, *shape), torch.tensor([0, 1, 2, 3, 0, 1])


def glyph_loader(n: int = 10, batch_size: int = 4) -> tuple[DataLoader, Tensor, Tensor]:
    x = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 3
    return DataLoader(TensorDataset(x, y), batch_size=batch_size), x, y


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def train_steps(model: nn.Module, x: Tensor, y: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, (x, y)).backward()
        optimizer.step()


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}


def names_of(model: nn.Module, stages: list) -> set[str]:
    """段に入るパラメータと、段の部品のバッファの名前。"""
    inside = {id(p) for stage in stages for p in stage.parameters}
    inside |= {id(b) for stage in stages for module in stage.modules for b in module.buffers()}
    every = [*model.named_parameters(), *model.named_buffers()]
    return {name for name, value in every if id(value) in inside}


class Bare(nn.Module):
    """入力がそのまま特徴になるモデル。"""

    def __init__(self, width: int = 5, classes: int = 4, *, bias: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes, bias=bias)

    def features(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def blobs(n: int = 90, width: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    """重なり合うクラス。平均は 0 から離れ、次元ごとに大きさが違う。"""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    centres = torch.randn(classes, width, generator=g, dtype=torch.float64)
    x = centres[y] + torch.randn(n, width, generator=g, dtype=torch.float64)
    return 3 + x * torch.linspace(0.3, 3, width, dtype=torch.float64), y
