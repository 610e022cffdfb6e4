"""実験で共有する部品: データの分け方、小さなネットワーク、学習と正解率。

MNIST-5k は、設定を選ぶための「開発」と、結果を測るための「本番」に、初めに一度だけ分ける。
開発の画像は、本番では学習にもテストにも使わない。学習の本体は `tlkit.training.fit` である。
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from tlkit import data
from tlkit.finetune import extract_features
from tlkit.seeding import seed_everything
from tlkit.training import fit

DEVELOPMENT = 1500  # MNIST-5k の 5,000 枚のうち、設定を選ぶために使う枚数


@dataclass(frozen=True)
class Split:
    """一つの種での分け方。test は学習にも設定の選択にも使わない。"""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def few(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """訓練の候補から、クラスごとに同じ枚数を取り出した n 枚。n が大きいほうは、小さいほうを含む。"""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        classes = int(self.train_labels.max()) + 1
        kept = torch.cat([order[self.train_labels[order] == c][: n // classes] for c in range(classes)])
        if len(kept) < n // classes * classes:
            raise ValueError(f"訓練の候補 {len(order)} 枚からは、クラスごとに {n // classes} 枚を取り出せません。")
        return self.train[kept], self.train_labels[kept]


@functools.cache
def mnist_region(development: bool) -> tuple[Tensor, Tensor]:
    """MNIST-5k のうち、開発用か本番用の画像とラベル。"""
    mnist = data.load("mnist5k")
    order = torch.randperm(len(mnist.images), generator=torch.Generator().manual_seed(2026))
    kept = order[:DEVELOPMENT] if development else order[DEVELOPMENT:]
    return mnist.images[kept], mnist.labels[kept]


def mnist_split(seed: int, *, development: bool, test: int) -> Split:
    """開発用か本番用の画像を、種ごとに並べ替え、終わりの test 枚をテストにする。"""
    images, labels = mnist_region(development)
    return shuffled_split(images, labels, seed, test)


def shuffled_split(images: Tensor, labels: Tensor, seed: int, test: int) -> Split:
    """並べ替えて、終わりの test 枚をテストにする。"""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 + seed))
    train, held = order[:-test], order[-test:]
    return Split(images[train], labels[train], images[held], labels[held])


def small_cnn(channels: int, classes: int, width: int = 16) -> nn.Sequential:
    """3 段の小さな畳み込みネットワーク。大きさの違う画像も受け取る。"""
    layers: list[nn.Module] = []
    for step in range(3):
        out = width * 2**step
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(channels * 9, classes))


def mlp(classes: int = 10) -> nn.Sequential:
    """28×28 の画像を受け取る、隠れ層 1 枚のネットワーク。"""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, classes))


def jitter(images: Tensor) -> Tensor:
    """小さな回転（±12 度）、拡大（±10 %）、平行移動（±2 画素ほど）を、画像ごとに乱数で加える。"""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * (12 * torch.pi / 180)
    scale = 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2) * 2 - 1) * 0.15
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(n, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(
    model: nn.Module, images: Tensor, labels: Tensor, *, steps: int, lr: float, seed: int, augment: bool = False
) -> nn.Module:
    """Adam と 1 周期の学習率で steps 回更新する。検証も途中の選択もしない（最後の重みを使う）。"""
    seed_everything(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(net(jitter(x) if augment else x), y)

    loader = _loader(images, labels, min(32, len(images)), seed)
    fit(model, loader, loss, optimizer, steps=steps, scheduler=scheduler, device="cpu", progress=False)
    return model.eval()


def _loader(images: Tensor, labels: Tensor, batch: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """まとめて取り出すので、1 枚ずつ取り出すより速い。"""
    dataset = TensorDataset(images, labels)
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, batch, drop_last=True))


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, chunk: int = 500) -> Tensor:
    """評価モードでの予測ラベル。"""
    model.eval()
    return torch.cat([model(part).argmax(1) for part in images.split(chunk)])


def features_of(model: nn.Module, images: Tensor) -> np.ndarray:
    """固定した特徴 (N, D)。model は `features(x)` を持つもの。"""
    unused = torch.zeros(len(images), dtype=torch.long)
    return extract_features(model, DataLoader(TensorDataset(images, unused), batch_size=100))[0].numpy()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """正解率。"""
    return float((predict(model, images) == labels).float().mean())


def linear_probe(train_x: np.ndarray, train_y: Tensor, test_x: np.ndarray, test_y: Tensor, c: float) -> float:
    """標準化した特徴の上のロジスティック回帰（L2 正則化）の、テストでの正解率。

    重みは訓練標本の張る空間に収まる。特徴の次元が標本の数より多いときは、その空間へ回してから解く（同じ解が速く求まる）。
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_x.astype(np.float64))
    x, held = scaler.transform(train_x), scaler.transform(test_x)
    if x.shape[1] > len(x):
        basis = np.linalg.svd(x, full_matrices=False)[2].T
        x, held = x @ basis, held @ basis
    classifier = LogisticRegression(C=c, max_iter=3000).fit(x, train_y.numpy())
    return float(classifier.score(held, test_y.numpy()))
