"""ImageNet の特徴は、どこで勝ち、どこで勝たないか。

固定した EfficientNet-Lite0 の特徴の上のロジスティック回帰を、画素の上の同じ分類器と、乱数から学習した小さな CNN と比べる。
データは、写真の切り抜き、質感の切り抜き、MNIST-5k、UCI の数字。切り抜きは、同じ場所が学習とテストに入らないように分ける。
"""

import functools
from pathlib import Path

import numpy as np
import torch
from _imagenet import ImageNetFeatures
from _record import Experiment, Row, Settings, chosen, main
from _scenes import CROP, crops
from _vision import Split, accuracy, features_of, linear_probe, mnist_region, shuffled_split, small_cnn, train
from torch import Tensor

from tlkit import data

SETS = ("photos", "photos_grey", "textures", "mnist5k", "uci_digits")
PER_CLASS = (2, 30)
TEST = {"mnist5k": 1000, "uci_digits": 600}
STEPS = 150
SIZE = 96  # Lite0 に渡す画像の一辺。64 と 128 も開発用の画像で試し、64 は低く、128 はほぼ同じだった
TRIED = {
    "imagenet_frozen": [{"c": c} for c in (0.001, 0.01, 0.1)],
    "pixels": [{"c": c} for c in (0.001, 0.01, 0.1, 1.0)],
    "scratch_cnn": [{"lr": lr} for lr in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)],
}


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、手法の設定ごとの正解率を測る。"""
    rows = []
    for name in SETS:
        split = split_of(name, seed, development=True)
        for per_class in PER_CLASS:
            for method, grid in settings["tried"].items():
                for setting in grid:
                    score = measure(method, setting, split, per_class, seed)
                    rows.append({"set": name, "per_class": per_class, "method": method, **setting, "score": score})
    return rows


def settings() -> Settings:
    """設定は、データ、枚数、手法ごとに、開発用の結果で選ぶ。"""
    picked = {
        f"{name}/{per_class}/{method}": chosen(
            "01_imagenet_where_dev", list(grid[0]), set=name, per_class=per_class, method=method
        )
        for name in SETS
        for per_class in PER_CLASS
        for method, grid in TRIED.items()
    }
    return {
        "picked": picked,
        "tried": TRIED,
        "steps": STEPS,
        "size": SIZE,
        "crop": CROP,
        "test_per_class": 50,
        "test_digits": TEST,
    }


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    rows = []
    for name in SETS:
        split = split_of(name, seed, development=False)
        for per_class in PER_CLASS:
            for method in TRIED:
                setting = settings["picked"][f"{name}/{per_class}/{method}"]
                score = measure(method, setting, split, per_class, seed)
                n = per_class * (int(split.train_labels.max()) + 1)
                rows.append({"set": name, "n": n, "per_class": per_class, "method": method, "accuracy": score})
    return rows


def split_of(name: str, seed: int, *, development: bool) -> Split:
    """データ name の、その種での分け方。"""
    if name in ("photos", "photos_grey", "textures"):
        return crops(name, seed, development=development, train=max(PER_CLASS), test=50)
    return shuffled_split(*_digits(name, development), seed, test=300 if development else TEST[name])


def measure(method: str, setting: Settings, split: Split, per_class: int, seed: int) -> float:
    """一つの手法と設定の、テストでの正解率。"""
    classes = int(split.train_labels.max()) + 1
    images, labels = split.few(per_class * classes, seed)
    if method == "scratch_cnn":
        torch.manual_seed(seed)
        model = small_cnn(images.shape[1], classes)
        train(model, images, labels, steps=STEPS, lr=setting["lr"], seed=seed)
        return accuracy(model, split.test, split.test_labels)
    x, test_x = (_vectors(method, part) for part in (images, split.test))
    return linear_probe(x, labels, test_x, split.test_labels, setting["c"])


def _vectors(method: str, images: Tensor) -> np.ndarray:
    if method == "pixels":
        return images.flatten(1).numpy()
    return _imagenet_features(images)


_SEEN: dict[bytes, np.ndarray] = {}


def _imagenet_features(images: Tensor) -> np.ndarray:
    """固定した特徴。同じ画像は一度だけ計算し、使い回す。"""
    keys = [image.numpy().tobytes() for image in images]
    new = [index for index, key in enumerate(keys) if key not in _SEEN]
    if new:
        found = features_of(_imagenet(), images[new])
        _SEEN.update({keys[index]: vector for index, vector in zip(new, found, strict=True)})
    return np.stack([_SEEN[key] for key in keys])


@functools.cache
def _imagenet() -> ImageNetFeatures:
    return ImageNetFeatures(SIZE)


@functools.cache
def _digits(name: str, development: bool) -> tuple[Tensor, Tensor]:
    if name == "mnist5k":
        images, labels = mnist_region(development)
        return images[:2000], labels[:2000]
    uci = data.load("uci_digits")
    order = torch.randperm(len(uci.images), generator=torch.Generator().manual_seed(2026))
    kept = order[:700] if development else order[700:]
    return uci.images[kept], uci.labels[kept]


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="01_imagenet_where",
            title="固定した ImageNet の特徴と、画素、乱数から学習した CNN の比較",
            description="クラスごとに 2 枚か 30 枚で学習する。写真の切り抜きは、画像の片方の半分で学習し、残りの半分でテストする（分ける向きは"
            "種ごとに 4 通りを順に使う）。photos_grey は、同じ写真から色を除いたもの。質感は左半分で学習し、右半分でテストする。数字のテストは、学習に使わない画像（枚数は設定にある）。CNN と画素は元の大きさの画像、Lite0 は拡大した画像を受け取る。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(8)),
        ),
        Experiment(
            name="01_imagenet_where_dev",
            title="ImageNet の特徴の実験の、設定の選択（開発用の画像）",
            description="写真は本番と別の画像、質感は左半分の中だけ、数字は開発用の画像だけを使う。",
            run=develop,
            settings=lambda: {"tried": TRIED, "steps": STEPS},
            source=here,
            seeds=(100, 101),
            option="--dev",
        ),
    )
