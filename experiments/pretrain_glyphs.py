"""同梱の小さな重みを作る: `python experiments/pretrain_glyphs.py letters` と `... uci`。

letters はフォントの英字（数字は一枚も使わない）、uci は UCI の手書き数字で、GlyphCNN を学習する。
検証に回すのは、letters では系統ごと除いた書体（Computer Modern）、uci では無作為に選んだ 397 枚である。
重み（safetensors）と記録（json）を同じ名前で書く。

学習率は 1e-2、3e-3、1e-3 の 3 通りを試し、開発用の課題（letters の特徴で UCI の数字を 20〜100 枚から分類する）で選んだ。
除いた書体での検証の正解率は 1e-2 が最も高い。元の課題で最良の重みが、転移先でも最良とは限らない。
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from tlkit.data import uci_digits
from tlkit.data.files import sha256_of
from tlkit.data.glyph_augment import augment
from tlkit.data.glyphs import glyphs
from tlkit.data.labeled import LabeledImages
from tlkit.models.glyph_cnn import ASSETS, WEIGHTS, GlyphCNN
from tlkit.seeding import seed_everything
from tlkit.training import fit

HELD_OUT = "Computer Modern"
STEPS_PER_EPOCH = 100


def split(source: str, generator: torch.Generator) -> tuple[LabeledImages, Tensor]:
    """（データ集合, 検証に回すかどうかの (N,) の bool）。"""
    if source == "letters":
        letters = glyphs("letters")
        return letters, letters.of_family(HELD_OUT)
    digits = uci_digits()
    held_out = torch.zeros(len(digits.labels), dtype=torch.bool)
    held_out[torch.randperm(len(held_out), generator=generator)[:397]] = True
    return digits, held_out


def accuracy_on(images: Tensor, labels: Tensor) -> Callable[[nn.Module], float]:
    """検証の値を返す関数を作る。変形は 4 通りを一度だけ決めるので、エポックの間で問題が変わらない。"""
    fixed = augment(images.repeat(4, 1, 1, 1), torch.Generator().manual_seed(0))
    answers = labels.repeat(4)
    return lambda model: float((model(fixed).argmax(1) == answers).float().mean())


def train(source: str, seed: int, epochs: int, learning_rate: float, width: int) -> tuple[GlyphCNN, dict[str, Any]]:
    """学習し、検証で最良だった重みと、記録を返す。"""
    seeded = seed_everything(seed)
    dataset, held_out = split(source, seeded.generator)
    images, labels = dataset.images[~held_out], dataset.labels[~held_out]
    sampler = RandomSampler(
        labels.tolist(), replacement=True, num_samples=128 * STEPS_PER_EPOCH, generator=seeded.generator
    )
    loader = DataLoader(TensorDataset(images, labels), batch_size=128, sampler=sampler, generator=seeded.generator)
    model = GlyphCNN(len(dataset.classes), width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * STEPS_PER_EPOCH)

    def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        return F.cross_entropy(model(augment(batch[0], seeded.generator)), batch[1])

    started = time.process_time()
    validate = accuracy_on(dataset.images[held_out], dataset.labels[held_out])
    history = fit(model, loader, loss, optimizer, epochs=epochs, scheduler=schedule, validate=validate, device="cpu")
    return model, {
        "source": dataset.source,
        "classes": "".join(dataset.classes),
        "train_images": len(labels),
        "validation": f"系統 {HELD_OUT} の書体" if source == "letters" else "無作為に選んだ 397 枚",
        "validation_images": int(held_out.sum()),
        "validation_accuracy": round(history.best_score or 0.0, 4),
        "best_epoch": history.best_epoch,
        "loss_last_epoch": round(history.epochs[-1]["loss"], 4),
        "cpu_seconds": round(time.process_time() - started, 1),
        "threads": torch.get_num_threads(),
    }


def _flags(settings: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')} {value}" for name, value in settings.items()]


def main() -> None:
    """コマンドラインの入口。"""
    parser = argparse.ArgumentParser(description="同梱の GlyphCNN の重みと記録を作ります。")
    parser.add_argument("source", choices=sorted(WEIGHTS), help="学習に使うデータ")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12, help=f"1 エポックは {STEPS_PER_EPOCH} 回の更新")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--out", type=Path, default=ASSETS, help="書き込むフォルダ")
    options = parser.parse_args()
    torch.set_num_threads(1)  # スレッド数が変わると、末尾の桁が変わる
    settings = {name: getattr(options, name) for name in ("seed", "epochs", "learning_rate", "width")}
    model, record = train(options.source, **settings)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{WEIGHTS[options.source]}.safetensors"
    path.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    packages = ("torch", "numpy", "pillow", "matplotlib", "matplotlib-fontja", "scikit-learn", "safetensors")
    recipe = {
        "file": path.name,
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "command": " ".join(["python experiments/pretrain_glyphs.py", options.source, *_flags(settings)]),
        "settings": {
            **settings,
            "batch_size": 128,
            "steps_per_epoch": STEPS_PER_EPOCH,
            "optimizer": "AdamW, OneCycleLR",
        },
        **record,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    path.with_suffix(".json").write_text(json.dumps(recipe, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(f"{path.name}: 検証の正解率 {record['validation_accuracy']}、計算 {record['cpu_seconds']} 秒")


if __name__ == "__main__":
    main()
