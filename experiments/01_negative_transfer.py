"""負の転移: 上下逆さまの数字（ラベルはそのまま）をソースにすると、ソースを使わないときより悪くなるか。

対照は、ターゲットだけで学習したもの（target_only）と、逆さまにしていないソース（upright）である。
同じソースを、混ぜて学習する（pool）場合と、先に学習してから全体を学習し直す（finetune）場合の、両方を測る。
"""

from pathlib import Path

import torch
from _record import Experiment, Row, Settings, chosen, main
from _vision import Split, mlp, mnist_split, predict, train
from torch import Tensor

SIZES = (20, 50, 100, 200)
METHODS = ("target_only", "pool_upright", "pool_rotated", "finetune_upright", "finetune_rotated")
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STEPS = 300
TARGET = 500  # 訓練の候補のうち、初めの 500 枚がターゲット、残りがソース。両者は重ならない


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、学習率ごとの正解率を測る（N = 100 だけ）。"""
    split = mnist_split(seed, development=True, test=400)
    n = settings["n"]
    return [
        {"method": method, "lr": lr, "n": n, "score": _recalls(method, split, n, lr, seed)["accuracy"]}
        for method in METHODS
        for lr in RATES
    ]


def settings() -> Settings:
    """手法ごとの学習率は、開発用の結果で選ぶ。"""
    rates = {method: chosen("01_negative_transfer_dev", ["lr"], method=method)["lr"] for method in METHODS}
    return {"lr": rates, "lr_tried": list(RATES), "steps": STEPS, "batch": 32, "source_images": 1000, "test": 2000}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ学習率のまま測る。"""
    split = mnist_split(seed, development=False, test=settings["test"])
    return [
        {"method": method, "n": n, **_recalls(method, split, n, settings["lr"][method], seed)}
        for n in SIZES
        for method in METHODS
    ]


def _recalls(method: str, split: Split, n: int, lr: float, seed: int) -> Row:
    target = Split(split.train[:TARGET], split.train_labels[:TARGET], split.test, split.test_labels)
    images, labels = target.few(n, seed)
    source, source_labels = split.train[TARGET:], split.train_labels[TARGET:]
    if method.endswith("rotated"):
        source = source.rot90(2, dims=(2, 3))
    model = mlp_for(seed)
    if method.startswith("pool"):
        images, labels = torch.cat([images, source]), torch.cat([labels, source_labels])
    if method.startswith("finetune"):
        train(model, source, source_labels, steps=STEPS, lr=lr, seed=seed)
    train(model, images, labels, steps=STEPS, lr=lr, seed=seed)
    return _scores(predict(model, split.test), split.test_labels)


def mlp_for(seed: int) -> torch.nn.Module:
    """種で決まる初期値の MLP。手法の間で、初期値をそろえる。"""
    torch.manual_seed(seed)
    return mlp()


def _scores(predicted: Tensor, labels: Tensor) -> Row:
    right = (predicted == labels).float()
    recalls = {f"recall_{digit}": float(right[labels == digit].mean()) for digit in range(10)}
    six_or_nine = (labels == 6) | (labels == 9)
    return {"accuracy": float(right.mean()), "accuracy_6_9": float(right[six_or_nine].mean()), **recalls}


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="01_negative_transfer",
            title="逆さまのソースによる負の転移（MNIST-5k）",
            description="ターゲットは正立の数字 N 枚。ソースは別の数字 1000 枚で、正立（upright）か 180 度回転（rotated、"
            "ラベルはそのまま）。同じ種は、同じ分け方と同じ初期値を使う。テストは正立の数字。",
            run=confirm,
            settings=settings,
            source=here,
        ),
        Experiment(
            name="01_negative_transfer_dev",
            title="負の転移の実験の、学習率の選択（開発用の画像）",
            description="手法ごとに学習率を比べる。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"n": 100, "lr_tried": list(RATES), "steps": STEPS},
            source=here,
            seeds=tuple(range(100, 105)),
            option="--dev",
        ),
    )
