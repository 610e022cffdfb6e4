"""転移可能性の実験のソース（学習済みのネットワーク）とターゲット（データ）。

ソースごとに、そのソースの学習に使った画像も返す（ドメインの近さの指標が使う）。手に入らないときは None。
ターゲットの画像を学習に使ったソースとの組は `OVERLAPS` に挙げ、測らない。
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _imagenet import ImageNetFeatures
from _scenes import crops
from _vision import Split, mnist_region, shuffled_split, train
from torch import Tensor, nn

from tlkit import data
from tlkit.data.glyphs import glyphs
from tlkit.models.glyph_cnn import GlyphCNN

TARGETS = ("mnist5k", "uci_digits", "font_digits", "textures", "photos")
OVERLAPS = {("uci_digits", "uci_digits"), ("textures", "textures"), ("photos", "photos")}
PER_CLASS = 10


@dataclass(frozen=True)
class Source:
    """学習済みのネットワーク（`features` と `forward` を持つ）と、その学習に使った画像。"""

    network: nn.Module
    images: Tensor | None


class Grey28(nn.Module):
    """どの大きさの画像も、1 チャネルの 28×28 画素にしてから GlyphCNN に渡す。"""

    def __init__(self, network: GlyphCNN) -> None:
        super().__init__()
        self.network = network

    def features(self, x: Tensor) -> Tensor:
        """(N, 1 か 3, H, W) → 特徴 (N, 128)。"""
        return self.network.features(grey28(x))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 か 3, H, W) → ソースのクラスのロジット。"""
        logits: Tensor = self.network(grey28(x))
        return logits


def grey28(images: Tensor) -> Tensor:
    """1 チャネルの 28×28 画素にする。"""
    grey = images.mean(1, keepdim=True)
    if grey.shape[-1] == 28:
        return grey
    return F.interpolate(grey, 28, mode="bilinear", antialias=True, align_corners=False)


def sources(seed: int, steps: int, lr: float) -> dict[str, Source]:
    """すべてのソース。種ごとに学習するものと、同梱の重み（種によらない）がある。"""
    digits, labels = mnist_region(development=True)  # ターゲットの mnist5k とは重ならない画像
    made = {
        "imagenet": Source(_imagenet(), None),
        "letters": Source(Grey28(GlyphCNN.pretrained("letters")), glyphs("letters").images),
        "uci_digits": Source(Grey28(GlyphCNN.pretrained("uci")), data.load("uci_digits").images),
        "mnist": _trained(digits, labels, seed, steps, lr),
        "mnist_rotated": _trained(digits.rot90(2, dims=(2, 3)), labels, seed, steps, lr),
        "mnist_parity": _trained(digits, labels % 2, seed, steps, lr),
        "random": Source(Grey28(_calibrated(seed, digits)), None),
    }
    for name in ("textures", "photos"):
        split = crops(name, seed, development=False, train=100, test=1)
        made[name] = _trained(split.train, split.train_labels, seed, steps, lr)
    return made


def target(name: str, seed: int) -> Split:
    """ターゲットの分け方。訓練はクラスごとに PER_CLASS 枚。"""
    split = _candidates(name, seed)
    classes = int(split.train_labels.max()) + 1
    images, labels = split.few(PER_CLASS * classes, seed)
    return Split(images, labels, split.test, split.test_labels)


def _candidates(name: str, seed: int) -> Split:
    if name in ("textures", "photos"):
        return crops(name, seed, development=False, train=PER_CLASS, test=30)
    if name == "mnist5k":
        images, labels = mnist_region(development=False)
        return shuffled_split(images[:700], labels[:700], seed, test=400)
    if name == "uci_digits":
        uci = data.load("uci_digits")
        order = torch.randperm(len(uci.labels), generator=torch.Generator().manual_seed(2026))[:700]
        return shuffled_split(uci.images[order], uci.labels[order], seed, test=400)
    return _unseen_faces(seed)


def _unseen_faces(seed: int) -> Split:
    """書体の半分で学習し、残りの半分でテストする。"""
    digits = glyphs("digits")
    order = torch.randperm(len(digits.faces), generator=torch.Generator().manual_seed(1000 + seed))
    held = torch.isin(digits.face_ids, order[: len(order) // 2])
    return Split(digits.images[~held], digits.labels[~held], digits.images[held], digits.labels[held])


def _trained(images: Tensor, labels: Tensor, seed: int, steps: int, lr: float) -> Source:
    torch.manual_seed(seed)
    small = grey28(images)
    network = GlyphCNN(int(labels.max()) + 1)
    train(network, small, labels, steps=steps, lr=lr, seed=seed, augment=True)
    return Source(Grey28(network), small)


def _calibrated(seed: int, images: Tensor) -> GlyphCNN:
    """乱数の重み。バッチ正規化の統計だけは、画像から求める（求めないと、層を重ねるほど値が崩れる）。"""
    torch.manual_seed(seed)
    network = GlyphCNN(10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # 単純な平均にする
    with torch.no_grad():
        network.train()(images)
    return network.eval()


@functools.cache
def _imagenet() -> ImageNetFeatures:
    return ImageNetFeatures(96)
