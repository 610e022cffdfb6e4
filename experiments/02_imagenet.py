"""ImageNet の重みのファインチューニングは、どのデータで勝ち、どのデータで勝たないか。

EfficientNet-Lite0 を、色を除いた写真の切り抜きと、拡大した MNIST-5k に移す。学習する範囲を変え、乱数から学習した同じ構造と、
乱数から学習した小さな CNN（元の大きさの画像）と比べる。固定した特徴だけの比較は 01_imagenet_where.py にある。
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from _lite import LastBlock, below_last_block, hold_statistics, lite_input
from _record import Experiment, Row, Settings, chosen, main
from _scenes import CROP, crops
from _vision import Split, accuracy, mnist_split, predict, small_cnn, train
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from tlkit.finetune import fit_head, param_groups
from tlkit.models import EfficientNetLite0
from tlkit.seeding import seed_everything
from tlkit.training import fit

SIZES = {"photos_grey": 64, "mnist5k": 96}  # Lite0 に渡す画像の一辺
PER_CLASS = (2, 5, 10, 30)
DEVELOPED = {"few": 5, "many": 30}  # クラスごとに 5 枚以下には "few"、それより多い枚数には "many" で選んだ設定を使う
TEST = {True: {"photos_grey": 50, "mnist5k": 300}, False: {"photos_grey": 50, "mnist5k": 500}}  # 開発か → 枚数
STEPS = {"last_block": 60, "discriminative": 60, "scratch": 100, "small_cnn": 150}
BATCH = 16
NORMS = ("batch", "frozen")
TRIED = {
    "head": [{"l2": l2} for l2 in (1e-2, 1e-1, 1.0)],
    "last_block": [{"lr": lr, "norm": norm} for lr in (1e-3, 3e-3, 1e-2) for norm in NORMS],
    "discriminative": [
        {"lr": lr, "decay": decay, "norm": norm}
        for lr, decay in ((3e-3, 1.3), (3e-3, 2.6), (1e-2, 2.6))
        for norm in NORMS
    ],
    "scratch": [{"lr": lr} for lr in (1e-3, 3e-3)],
    "small_cnn": [{"lr": lr} for lr in (1e-3, 3e-3, 1e-2)],
}
# 上の候補を決める前に、開発用の画像で、種 110 から 112 だけで試したもの。結果のファイルには値を残していない
LOOKED_AT = {
    "size": [64, 96],
    "discriminative": [{"lr": 1e-2, "decay": 1.3}, {"lr": 3e-3, "decay": 1.0}],
    "scratch": [{"lr": 1e-2}, {"steps": 60}, {"steps": 200}],
    "small_cnn": [{"steps": 400}],
    "norm": ["running"],
}


@dataclass(frozen=True)
class Task:
    """一つのデータの、一つの種での分け方と、Lite0 に渡す画像の一辺。"""

    split: Split
    size: int
    seed: int

    @property
    def classes(self) -> int:
        """クラスの数。"""
        return int(self.split.train_labels.max()) + 1

    @functools.cached_property
    def test(self) -> Tensor:
        """Lite0 に渡すテストの画像。"""
        return lite_input(self.split.test, self.size)

    @functools.cached_property
    def frozen_test(self) -> Tensor:
        """テストの画像を、最後の段の手前まで通したもの。"""
        return below_last_block(self.network("default"), self.test)

    def network(self, weights: Literal["default"] | None) -> EfficientNetLite0:
        """ImageNet の重みか、乱数の重みの Lite0。分類の層は、いつも新しい乱数である。"""
        seed_everything(self.seed)
        return EfficientNetLite0(self.classes, weights=weights)


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、手法の設定ごとの正解率を測る。"""
    rows = []
    for name in SIZES:
        task = task_of(name, seed, development=True)
        for amount, per_class in settings["developed"].items():
            for method, grid in settings["tried"].items():
                for setting in grid:
                    found = measure(method, setting, task, per_class)
                    rows.append({"set": name, "amount": amount, "method": method, **setting, "score": found})
    return rows


def settings() -> Settings:
    """設定は、データ、枚数、手法ごとに、開発用の結果で選ぶ。"""
    picked = {
        f"{name}/{amount}/{method}": chosen("02_imagenet_dev", list(grid[0]), set=name, amount=amount, method=method)
        for name in SIZES
        for amount in DEVELOPED
        for method, grid in TRIED.items()
    }
    return {"picked": picked, "test": TEST[False], **fixed()}


def fixed() -> Settings:
    """開発でも本番でも同じもの。"""
    common = {"sizes": SIZES, "crop": CROP, "steps": STEPS, "batch": BATCH}
    return {"tried": TRIED, "looked_at": LOOKED_AT, "developed": DEVELOPED, **common}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    rows = []
    for name in SIZES:
        task = task_of(name, seed, development=False)
        for per_class in PER_CLASS:
            amount = "few" if per_class <= DEVELOPED["few"] else "many"
            for method in TRIED:
                start = time.process_time()
                found = measure(method, settings["picked"][f"{name}/{amount}/{method}"], task, per_class)
                row = {"set": name, "per_class": per_class, "n": per_class * task.classes, "method": method}
                rows.append({**row, "accuracy": found, "seconds": time.process_time() - start})
    return rows


def task_of(name: str, seed: int, *, development: bool) -> Task:
    """データ name の、その種での分け方。"""
    test = TEST[development][name]
    if name == "mnist5k":
        split = mnist_split(seed, development=development, test=test)
    else:
        split = crops(name, seed, development=development, train=max(PER_CLASS), test=test)
    return Task(split, SIZES[name], seed)


def measure(method: str, setting: Settings, task: Task, per_class: int) -> float:
    """一つの手法と設定の、テストでの正解率。"""
    images, labels = task.split.few(per_class * task.classes, task.seed)
    if method == "small_cnn":
        torch.manual_seed(task.seed)
        model: nn.Module = small_cnn(images.shape[1], task.classes)
        train(model, images, labels, steps=STEPS[method], lr=setting["lr"], seed=task.seed)
        return accuracy(model, task.split.test, task.split.test_labels)
    network = task.network(None if method == "scratch" else "default")
    x = lite_input(images, task.size)
    if method in ("head", "last_block"):
        x, held, model = below_last_block(network, x), task.frozen_test, LastBlock(network)
    else:
        held, model = task.test, network
    data = TensorDataset(x, labels)
    if method == "head":
        fit_head(model, DataLoader(data, batch_size=100), l2=setting["l2"])
    else:
        fine_tune(model, data, setting, STEPS[method], task.seed)
    return float((predict(model, held, chunk=100) == task.split.test_labels).float().mean())


def fine_tune(model: nn.Module, data: TensorDataset, setting: Settings, steps: int, seed: int) -> None:
    """Adam と 1 周期の学習率で steps 回更新する。最後の重みを使う。

    norm が "frozen" なら、バッチ正規化は初めから終わりまで、事前学習の移動統計を使う。
    "batch" なら、学習中はバッチの統計を使い、終わりに、訓練画像で移動統計を計算し直す（更新が少ないと、移動平均は重みの変化に遅れる）。
    """
    groups: list[dict[str, Any]] = [{"params": list(model.parameters()), "lr": setting["lr"]}]
    if "decay" in setting:
        groups = param_groups(model, setting["lr"], decay=setting["decay"])
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=steps)
    if setting.get("norm") == "frozen":
        hold_statistics(model)
    loader = _loader(data, seed)
    fit(
        model,
        loader,
        _loss,
        optimizer,
        steps=steps,
        scheduler=scheduler,
        device="cpu",
        channels_last=True,
        progress=False,
    )
    if setting.get("norm") != "frozen":
        update_bn(DataLoader(data, batch_size=100), model)


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def _loader(data: TensorDataset, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    order = RandomSampler(data, generator=torch.Generator().manual_seed(seed))
    return DataLoader(data, batch_size=None, sampler=BatchSampler(order, min(BATCH, len(data)), drop_last=True))


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="02_imagenet",
            title="ImageNet の重みのファインチューニングと、乱数から学習したネットワークの比較",
            description="クラスごとに 2、5、10、30 枚で学習する。head は分類の層だけ（L2 正則化、最小まで解く）、last_block は最後の段と分類の層、"
            "discriminative は全部の段を層別学習率で学習する。scratch は同じ構造を、small_cnn は小さな CNN を、乱数から学習する。"
            "写真の切り抜きは色を除き、画像の片方の半分で学習し、残りの半分でテストする（向きは種ごとに変わる）。"
            "Lite0 は拡大した画像、small_cnn は元の大きさの画像を受け取る。データ拡張は、どの手法でも使わない。更新の回数は設定にある。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(6)),
        ),
        Experiment(
            name="02_imagenet_dev",
            title="ImageNet の重みのファインチューニングの、設定の選択（開発用の画像）",
            description="写真は本番と別の画像、数字は開発用の画像だけを使う。",
            run=develop,
            settings=fixed,
            source=here,
            seeds=(100, 101),
            option="--dev",
        ),
    )
