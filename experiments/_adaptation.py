"""ドメイン適応の実験で共有する部品: ドメインの組の作り方、手法ごとの学習、測り方。

MNIST-5k の数字 5,000 枚から、1,000 枚（クラスごとに 100 枚）を本番のテストに取り置く。設定の選択には一度も使わない。
写真も、本番用と開発用に分けてある（`tlkit/data/mnist_m.py`）。
学習の画像は論文と同じく、ソースとターゲットで同じ数字を使う。数字の対応は、どの手法にも見せない。
"""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tlkit import data
from tlkit.adapt import CORALLoss, DANNLoss, MMDLoss, SourceOnly, adapt_batchnorm, fit_adaptation, joint_error
from tlkit.adapt.methods import Method
from tlkit.data.domains import digit_domain
from tlkit.data.mnist_m import DEVELOPMENT_PHOTOS, TARGET_PHOTOS, blend
from tlkit.models import DANN
from tlkit.seeding import seed_everything
from tlkit.transferability import proxy_a_distance

RESERVED = 100  # 本番のテストに取り置く枚数（クラスごと）
STEPS, BATCH = 1500, 64
FIXED = {"steps": STEPS, "batch": BATCH, "momentum": 0.9, "network": "mnist28"}


@dataclass(frozen=True)
class Pair:
    """ソースとターゲットの組。ターゲットの train_labels は、target_only（上限の目安）の学習にだけ使う。"""

    source: Tensor
    source_labels: Tensor
    target: Tensor
    target_labels: Tensor
    source_test: Tensor
    source_test_labels: Tensor
    target_test: Tensor
    target_test_labels: Tensor


@functools.cache
def digit_regions() -> tuple[Tensor, Tensor]:
    """MNIST-5k の行番号を（学習と開発, 本番のテスト）に分ける。どの種でも同じ。"""
    labels = data.load("mnist5k").labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2027))
    reserved = torch.cat([order[labels[order] == c][:RESERVED] for c in range(10)])
    return order[~torch.isin(order, reserved)], reserved


def mnist_to_mnist_m(seed: int, *, development: bool) -> Pair:
    """MNIST-5k → MNIST-M。開発では、開発の写真を使い、学習の領域の中の 600 枚をテストにする。"""
    mnist = data.load("mnist5k")
    train, test = digit_regions()
    if development:
        order = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))]
        train, test = order[600:], order[:600]
    photos = data.photos(DEVELOPMENT_PHOTOS if development else TARGET_PHOTOS)

    def both(rows: Tensor, blend_seed: int) -> tuple[Tensor, Tensor]:
        digits = mnist.images[rows]
        return digits.expand(-1, 3, -1, -1).contiguous(), blend(digits, photos, seed=blend_seed)

    (source, target), (source_test, target_test) = both(train, 2 * seed), both(test, 2 * seed + 1)
    labels, test_labels = mnist.labels[train], mnist.labels[test]
    return Pair(source, labels, target, labels, source_test, test_labels, target_test, test_labels)


def digits_pair(source: str, target: str, seed: int, *, test: int = 500) -> Pair:
    """同梱の数字の二つのドメイン。種ごとに並べ替え、それぞれの終わりの test 枚をテストにする。"""
    parts = []
    for offset, name in enumerate((source, target)):
        domain = digit_domain(name)
        rows = digit_regions()[0] if name == "mnist5k" else torch.arange(len(domain.labels))
        order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(2 * seed + offset))]
        images, labels = domain.images[order], domain.labels[order]
        parts.append((images[:-test], labels[:-test], images[-test:], labels[-test:]))
    (xs, ys, us, vs), (xt, yt, ut, vt) = parts
    return Pair(xs, ys, xt, yt, us, vs, ut, vt)


def method_of(name: str, weight: float | None = None) -> Method:
    """手法の名前と重みから、損失の部品を作る。DANN の重みは λ の上限である。"""
    makers: dict[str, Callable[[], Method]] = {
        "source_only": SourceOnly,
        "target_only": SourceOnly,
        "dann": lambda: DANNLoss(lambda_max=weight or 1.0),
        "mmd": lambda: MMDLoss(weight=weight or 1.0),
        "coral": lambda: CORALLoss(weight=weight or 1.0),
    }
    return makers[name]()


def train(
    pair: Pair,
    method: Method,
    *,
    lr: float,
    seed: int,
    on_target: bool = False,
    norm: str = "batch",
    steps: int = STEPS,
) -> nn.Module:
    """1 回の学習。on_target なら、ターゲットのラベルで学習する（適応ではない。上限の目安）。"""
    seed_everything(seed)
    model = DANN(network="mnist28", norm=norm)
    images, labels = (pair.target, pair.target_labels) if on_target else (pair.source, pair.source_labels)
    generator = torch.Generator().manual_seed(seed)
    shuffled = {"batch_size": BATCH, "shuffle": True, "drop_last": True, "generator": generator}
    source, target = DataLoader(TensorDataset(images, labels), **shuffled), DataLoader(pair.target, **shuffled)
    options = {"steps": steps, "lr": lr, "device": "cpu", "channels_last": True, "progress": False}
    fit_adaptation(model, method, source, target, **options)
    return model.eval()


def with_statistics_of(model: nn.Module, images: Tensor) -> nn.Module:
    """バッチ正規化の統計を images で測り直した、モデルの写し。"""
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    adapted: nn.Module = adapt_batchnorm(copy.deepcopy(model), images.split(500))
    return adapted


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """評価モードでの正解率。"""
    logits = torch.cat([model.activations(x).logits for x in images.split(500)])
    return float((logits.argmax(1) == labels).float().mean())


@torch.inference_mode()
def features_of(model: nn.Module, images: Tensor) -> Tensor:
    """特徴 (N, D)。"""
    return torch.cat([model.features(x) for x in images.split(500)])


@torch.inference_mode()
def own_domain_accuracy(model: nn.Module, source: nn.Module, pair: Pair) -> float:
    """学習したドメイン識別器自身が、テストの画像のドメインを当てる割合（二つのドメインの平均）。"""
    ours = source(pair.source_test)[1].argmax(1) == 0
    theirs = model(pair.target_test)[1].argmax(1) == 1
    return float((ours.float().mean() + theirs.float().mean()) / 2)


def measure(model: nn.Module, pair: Pair, seed: int, *, adapted: bool) -> dict[str, float]:
    """ターゲットとソースの正解率と、特徴の上で見積もった Ben-David の上界の項。

    統計は、ドメインごとに学習の画像で測り直す。adapted でなければ、ターゲットにもソースの統計を使う。
    """
    on_source = with_statistics_of(model, pair.source)
    on_target = with_statistics_of(model, pair.target) if adapted else on_source
    source, target = features_of(on_source, pair.source_test), features_of(on_target, pair.target_test)
    joint = joint_error(source, pair.source_test_labels, target, pair.target_test_labels, seed=seed)
    return {
        "accuracy": accuracy(on_target, pair.target_test, pair.target_test_labels),
        "source_accuracy": accuracy(on_source, pair.source_test, pair.source_test_labels),
        "a_distance": proxy_a_distance(source, target, seed=seed),
        "own_domain_accuracy": own_domain_accuracy(on_target, on_source, pair),
        "joint_error": joint.total,
    }
