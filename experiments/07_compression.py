"""小さくするほかの方法: 蒸留した生徒モデル、量子化、枝刈りで、正解率はどこまで保たれるか。

教師モデルは GlyphCNN、生徒モデルは DigitMLP。どちらも、同じ 2,000 枚のラベルと、同じ変形で学習する。
設定は前もって決めてあり、何も選ばない。学習率は、教師モデル、枝刈りの後、対照（小さい GlyphCNN を初めから学習する）で同じである。
速さは、ここでは測らない（`benchmarks/compression.py`）。
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _record import Experiment, Row, Settings, main
from _vision import accuracy, jitter, mnist_split, train
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from tlkit.distill import FromTeacher, HardLabels, count_flops, count_parameters, fit_student
from tlkit.distill.pruning import forget_masks, prune_magnitude, remove_channels
from tlkit.distill.quantization import LAYERS, quantize_weights
from tlkit.losses import DistillationLoss
from tlkit.models import DigitMLP, GlyphCNN
from tlkit.seeding import seed_everything
from tlkit.stats import mean_ci

WIDTH, WIDTHS, SPARSITIES, BITS = 16, (12, 8, 4), (0.5, 0.8, 0.9, 0.95), (8, 4, 2)
LABELS, TEST, STEPS, TUNE, RATE = 2000, 1000, 600, 200, 3e-3
STUDENT = {"hidden": 64, "steps": 1000, "lr": 3e-3, "batch": 64, "temperature": 4.0, "alpha": 0.9}
EXAMPLE = torch.zeros(1, 1, 28, 28)
SETTINGS: Settings = {
    "width": WIDTH, "widths": WIDTHS, "sparsities": SPARSITIES, "bits": BITS, "labels": LABELS, "test": TEST, "lr": RATE,
    "steps": STEPS, "tune_steps": TUNE, "batch": 32, "optimizer": "Adam, 1 周期", "augment": True, "student": STUDENT,
}  # fmt: skip


class Material:
    """一つの種の画像とラベル。学習は、いつも同じ枚数と同じ変形で行う。"""

    def __init__(self, seed: int) -> None:
        self.seed, self.split = seed, mnist_split(seed, development=False, test=TEST)
        self.images, self.labels = self.split.few(LABELS, seed)

    def trained(self, width: int, steps: int) -> GlyphCNN:
        """乱数の重みから学習した GlyphCNN。"""
        seed_everything(self.seed)
        model = GlyphCNN(10, width)
        train(model, self.images, self.labels, steps=steps, lr=RATE, seed=self.seed, augment=True)
        return model

    def tune(self, model: nn.Module) -> nn.Module:
        """枝刈りの後の学習。0 にした重みは 0 のままである。"""
        return train(model, self.images, self.labels, steps=TUNE, lr=RATE, seed=self.seed + 1, augment=True)

    def student(self, teacher: nn.Module | None) -> DigitMLP:
        """教師モデルから、または正解ラベルだけから学習した生徒モデル。変形、初期値、更新の回数は同じである。"""
        seed_everything(self.seed)
        model = DigitMLP(STUDENT["hidden"])
        loss = DistillationLoss(STUDENT["temperature"], STUDENT["alpha"])
        method = HardLabels(augment=jitter) if teacher is None else FromTeacher(teacher, loss, jitter)
        options = {"steps": STUDENT["steps"], "lr": STUDENT["lr"], "device": "cpu", "progress": False}
        fit_student(model, method, _batches(self.images, self.labels, self.seed), **options)
        return model

    def score(self, model: nn.Module) -> float:
        """テストの画像での正解率。"""
        return accuracy(model, self.split.test, self.split.test_labels)

    def row(self, model: nn.Module, /, **about: Any) -> Row:
        """一つのモデルの行。書かれていない条件は、元のままという意味である。"""
        parameters = count_parameters(model)
        defaults = {"scale": "", "tuned": 0, "bits": 32, "sparsity": 0.0, "width": 0, "weight_bytes": 4 * parameters}
        sizes = {"parameters": parameters, "nonzero": parameters, "flops": count_flops(model, EXAMPLE)}
        return {**defaults, **sizes, **about, "accuracy": self.score(model)}


def settings() -> Settings:
    """前もって決めた設定。"""
    return SETTINGS


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、すべての方法を測る。"""
    material = Material(seed)
    teacher = material.trained(settings["width"], settings["steps"])
    hard, student = material.student(None), material.student(teacher)
    return [
        material.row(teacher, model="teacher", method="none", width=WIDTH),
        material.row(hard, model="student", method="hard"),
        material.row(student, model="student", method="distilled"),
        *quantised(material, teacher, "teacher", WIDTH),
        *quantised(material, student, "student", 0),
        *unstructured(material, teacher),
        *structured(material, teacher),
    ]


def quantised(material: Material, model: nn.Module, name: str, width: int) -> Iterator[Row]:
    """重みを丸める。学習し直さない。"""
    for bits in BITS:
        for scale in ("tensor", "channel"):
            rounded = quantize_weights(model, bits, per_channel=scale == "channel")
            about = {"bits": bits, "scale": scale, "weight_bytes": _rounded_bytes(model, bits, scale)}
            yield material.row(rounded, model=name, method="quantised", width=width, **about)


def unstructured(material: Material, teacher: nn.Module) -> Iterator[Row]:
    """小さい重みを 0 にする。割合が 0 の行は、枝刈りなしで同じだけ更新した対照である。"""
    about = {"model": "teacher", "method": "unstructured", "width": WIDTH}
    for sparsity in (0.0, *SPARSITIES):
        pruned = prune_magnitude(teacher, sparsity)
        masks = [mask for name, mask in pruned.named_buffers() if name.endswith("_mask")]
        kept = count_parameters(pruned) - sum(int((mask == 0).sum()) for mask in masks)
        if sparsity:
            yield material.row(pruned, sparsity=sparsity, **about) | {"nonzero": kept}
        tuned = forget_masks(material.tune(pruned))
        yield material.row(tuned, sparsity=sparsity, tuned=1, **about) | {"nonzero": kept}


def structured(material: Material, teacher: GlyphCNN) -> Iterator[Row]:
    """チャネルを取り除く。対照は、同じ大きさのネットワークを、合計で同じ回数だけ、初めから更新したもの。"""
    for width in WIDTHS:
        about = {"model": "teacher", "width": width}
        smaller = remove_channels(teacher, width)
        yield material.row(smaller, method="structured", **about)
        yield material.row(material.tune(smaller), method="structured", tuned=1, **about)
        fresh = material.trained(width, STEPS + TUNE)
        yield material.row(fresh, method="scratch", **about)


def differences(rows: list[Row]) -> list[Row]:
    """種ごとに組にした正解率の差（one − other）の、平均と 95 % 信頼区間の両端。"""
    control = {"method": "unstructured", "sparsity": 0.0}
    pairs = [
        ({"method": "distilled"}, {"method": "hard"}),
        *(
            ({"method": "quantised", "model": model, "bits": bits, "scale": scale}, {"method": whole, "model": model})
            for model, whole in (("teacher", "none"), ("student", "distilled"))
            for bits in BITS
            for scale in ("tensor", "channel")
        ),
        *(({"method": "unstructured", "sparsity": s, "tuned": 1}, control) for s in SPARSITIES),
        *(({"method": "structured", "width": w, "tuned": 1}, {"method": "scratch", "width": w}) for w in WIDTHS),
    ]
    return [{"one": one, "other": other, **_difference(rows, one, other)} for one, other in pairs]


def _difference(rows: list[Row], one: dict[str, Any], other: dict[str, Any]) -> Row:
    a, b = (
        {row["seed"]: row["accuracy"] for row in rows if all(row[key] == value for key, value in wanted.items())}
        for wanted in (one, other)
    )
    mean, half = mean_ci([a[seed] - b[seed] for seed in a])
    return {"gain": mean, "low": mean - half, "high": mean + half}


def _rounded_bytes(model: nn.Module, bits: int, scale: str) -> int:
    """重みは bits ビット、ほかのパラメータと scale は 4 バイトで保存したときの大きさ。"""
    weights = [module.weight for module in model.modules() if isinstance(module, LAYERS)]
    rounded = sum(weight.numel() for weight in weights)
    scales = sum(len(weight) if scale == "channel" else 1 for weight in weights)
    return -(-rounded * bits // 8) + 4 * (count_parameters(model) - rounded + scales)


def _batches(images: Tensor, labels: Tensor, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    dataset = TensorDataset(images, labels)
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, STUDENT["batch"], drop_last=True))


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="07_compression",
            title="教師モデルを小さくする四つの方法（MNIST-5k の 2,000 枚、GlyphCNN と DigitMLP）",
            description="distilled は生徒モデル、quantised は重みの丸め、unstructured は小さい重みを 0 にする枝刈り、structured は"
            "チャネルの取り除き。tuned=1 は、枝刈りの後に同じ学習をもう少し続けたもの。scratch は、structured と同じ大きさの"
            "ネットワークを、合計で同じ回数だけ、乱数の重みから更新した対照。量子化は重みだけで、活性化は丸めない。"
            "weight_bytes では、0 の重みもほかの重みと同じ大きさに数える。教師モデルは種ごとに学習し直した。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(8)),
            summarise=differences,
        ),
    )
