"""知識蒸留は、生徒モデルが小さすぎると役に立つか。約 2,000 から約 1 万 3 千パラメータの、三つの生徒モデルで測る。

どの手法も、同じ 500 枚のラベルと、同じ変形をした同じ画像を使う。違うのは、正解の与え方だけである。
"""

from pathlib import Path
from typing import Any

from _distill import (
    ASSETS,
    FIXED,
    STEPS,
    _batches,
    augmented,
    compared,
    hard,
    logits_of,
    settings_grid,
    soft,
    task,
    teacher_of,
)
from _distill import DECAY as DEFAULT_DECAY
from _earlier import EARLIER
from _record import Experiment, Row, Settings, chosen, main
from _vision import accuracy
from torch import Tensor, nn

from tlkit.distill import count_parameters, fit_student
from tlkit.models.digit_mlp import DigitMLP
from tlkit.seeding import seed_everything

LABELLED, POOLED = 500, 10
HIDDEN = (3, POOLED, 16)
COMPARED = [("distill", "hard_augment"), ("distill", "smooth_augment"), ("smooth_augment", "hard_augment")]
DECAY, SMOOTHING, TEMPERATURE = "weight_decay", "smoothing", "temperature"
FAST, SLOW = (1e-2, 3e-2), (3e-3, 1e-2)  # 学習率
# 初めは 9 通りか 10 通り。端が選ばれたので、本番を測る前に端の外へ広げた。蒸留の候補は、対照より少なくない。
GRID = {
    "3/hard_augment": settings_grid(
        DECAY,
        FAST,
        (0.0, 0.01, 0.1),
        (3e-3, 0.01),
        (1e-1, 0.01),
        (3e-2, 0.3),
        (1e-3, 0.01),
        (3e-3, 0.1),
        (3e-3, 0.0),
        (5e-3, 0.01),
    ),
    "3/smooth_augment": settings_grid(
        SMOOTHING,
        FAST,
        (0.05, 0.1, 0.2),
        (3e-3, 0.1),
        (1e-1, 0.1),
        (3e-2, 0.4),
        (1e-3, 0.1),
        (3e-3, 0.3),
        (3e-3, 0.05),
        (5e-3, 0.1),
    ),
    "3/distill": settings_grid(
        TEMPERATURE,
        FAST,
        (1.0, 2.0, 4.0),
        (3e-3, 2.0),
        (1e-1, 2.0),
        (3e-2, 8.0),
        (3e-3, 4.0),
        (1e-2, 8.0),
        (3e-2, 16.0),
        (5e-2, 8.0),
    ),
    "10/hard_augment": settings_grid(
        DECAY, FAST, (0.01, 0.1, 0.3), (3e-3, 0.01), (1e-1, 0.01), (3e-2, 0.0), (1e-2, 1.0), (5e-2, 0.01), (3e-2, 0.03)
    ),
    "10/smooth_augment": settings_grid(
        SMOOTHING, FAST, (0.1, 0.2, 0.4), (3e-3, 0.2), (1e-1, 0.2), (1e-2, 0.05), (1e-2, 0.6), (3e-2, 0.05), (5e-2, 0.1)
    ),
    "10/distill": settings_grid(
        TEMPERATURE,
        FAST,
        (2.0, 4.0, 8.0),
        (3e-3, 4.0),
        (1e-1, 4.0),
        (1e-2, 1.0),
        (3e-2, 16.0),
        (3e-2, 1.0),
        (5e-2, 2.0),
        (5e-2, 1.0),
        (5e-2, 4.0),
        (7e-2, 2.0),
    ),
    "16/hard_augment": settings_grid(
        DECAY, SLOW, (0.01, 0.1, 0.3), (1e-3, 0.1), (3e-2, 0.1), (1e-2, 1.0), (1e-1, 0.1), (3e-2, 0.01), (3e-2, 0.3)
    ),
    "16/smooth_augment": settings_grid(
        SMOOTHING, SLOW, (0.1, 0.2, 0.4), (1e-3, 0.2), (3e-2, 0.2), (1e-2, 0.6), (1e-2, 0.8), (3e-2, 0.4), (3e-3, 0.6)
    ),
    "16/distill": settings_grid(
        TEMPERATURE,
        SLOW,
        (2.0, 4.0, 8.0),
        (1e-2, 1.0),
        (3e-2, 4.0),
        (1e-2, 16.0),
        (1e-1, 4.0),
        (3e-2, 2.0),
        (3e-2, 8.0),
    ),
}


def network(hidden: int) -> nn.Module:
    """生徒モデル。POOLED は、画像を 14×14 に縮めてから、隠れ層 1 枚（幅 10）で見分ける（約 2,000 パラメータ）。"""
    if hidden != POOLED:
        return DigitMLP(hidden)
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, POOLED), nn.ReLU(), nn.Linear(POOLED, 10))


def material(seed: int, *, development: bool) -> tuple[Any, Any, tuple[Tensor, ...]]:
    """分け方、教師モデル、（変形した画像, ラベル, 教師モデルのロジット）。"""
    split = task(seed, LABELLED, development=development)
    teacher = teacher_of(split.images, split.labels, seed)
    views, labels = augmented(split.images, split.labels, seed)
    return split, teacher, (views, labels, logits_of(teacher, views))


def score(case: str, split: Any, tensors: tuple[Tensor, ...], seed: int, setting: dict[str, Any]) -> float:
    """一つの生徒モデルと手法の、評価用の画像での正解率。case は "h/手法"。"""
    hidden, _, method = case.partition("/")
    distill = method == "distill"
    loss = soft(setting["temperature"]) if distill else hard(setting["smoothing"])
    decay = DEFAULT_DECAY if setting["weight_decay"] is None else setting["weight_decay"]
    seed_everything(seed)
    model = network(int(hidden))
    batches = _batches(tensors if distill else tensors[:2], seed)
    options = {"steps": STEPS, "lr": setting["lr"], "weight_decay": decay}
    fit_student(model, loss, batches, device="cpu", progress=False, **options)
    return accuracy(model, split.test, split.test_labels)


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、設定ごとの正解率を測る。"""
    split, _, tensors = material(seed, development=True)
    return [
        {**named(case), **setting, "score": score(case, split, tensors, seed, setting)}
        for case, candidates in settings["grid"].items()
        for setting in candidates
    ]


def named(case: str) -> Row:
    """行の見出し。パラメータ数も書く。"""
    hidden, _, method = case.partition("/")
    return {"hidden": int(hidden), "parameters": count_parameters(network(int(hidden))), "method": method}


def fixed() -> Settings:
    """開発と本番で共通の設定。"""
    return {"labelled": LABELLED, **FIXED}


def settings() -> Settings:
    """生徒モデルと手法ごとの設定は、開発用の結果で選ぶ。"""
    keys = ("lr", "weight_decay", "smoothing", "temperature")
    picked = {case: chosen("07_capacity_dev", keys, **named(case)) for case in GRID}
    count = sum(len(candidates) for candidates in GRID.values())
    return {"picked": picked, "tried": GRID, "tried_settings": count, "earlier_trials": EARLIER, **fixed()}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    split, teacher, tensors = material(seed, development=False)
    row = {"hidden": 0, "parameters": count_parameters(teacher), "method": "teacher"}
    rows = [{**row, "accuracy": accuracy(teacher, split.test, split.test_labels)}]
    for case, setting in settings["picked"].items():
        rows.append({**named(case), "accuracy": score(case, split, tensors, seed, setting)})
    return rows


def summarise(rows: list[Row]) -> list[Row]:
    """生徒モデルごとに、種で組にした差。"""
    return [row for hidden in HIDDEN for row in compared(rows, COMPARED, hidden=hidden)]


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="07_capacity",
            title="小さすぎる生徒モデルと知識蒸留（MNIST-5k の 500 枚）",
            description="隠れ層の幅 h が 3 と 16 の DigitMLP と、画像を 14×14 に縮めてから隠れ層 1 枚（幅 10）で見分けるネットワーク（hidden が 10 の行）。どの手法も、同じ 500 枚のラベル、同じ変形をした同じ画像、同じ初期値、"
            "同じ更新の回数を使う。distill は教師モデルのロジットだけから学ぶ（α = 1）。教師モデルは、同じ 500 枚で"
            "ファインチューニングした GlyphCNN。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(5, 15)),
            assets=ASSETS,
            summarise=summarise,
        ),
        Experiment(
            name="07_capacity_dev",
            title="小さすぎる生徒モデルの実験の、設定の選択（開発用の画像）",
            description="生徒モデルと手法ごとに、学習率ともう一つの設定（重み減衰、平滑化の ε、温度 T）を、同じ数だけ比べる。"
            "本番の画像は使わない。",
            run=develop,
            settings=lambda: {"grid": GRID, **fixed()},
            source=here,
            seeds=tuple(range(3)),
            option="--dev",
            assets=ASSETS,
        ),
    )
