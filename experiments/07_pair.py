"""知識蒸留は、同じラベルの学習より正解率を上げるか。上がるなら、何が効いているのか。

ラベルは、どの手法も同じ 200 枚である。教師モデルは、その 200 枚でファインチューニングした GlyphCNN、生徒モデルは DigitMLP。
比べる相手は、正解ラベルだけ、教師モデルと同じ変形、ラベル平滑化（同じ変形）である。
ラベルなしの画像も使う蒸留には、もう一つ、教師モデルの答えをハードラベルにした学習（疑似ラベル）を並べる。
"""

from pathlib import Path
from typing import Any

import torch
from _distill import (
    ASSETS,
    FIXED,
    Task,
    augmented,
    compared,
    hard,
    logits_of,
    settings_grid,
    soft,
    student,
    task,
    teacher_of,
)
from _earlier import EARLIER
from _record import Experiment, Row, Settings, chosen, main
from _vision import accuracy
from torch import Tensor

LABELLED, HIDDEN = 200, 64
RATES = (3e-3, 1e-2)
DECAYS, SMOOTHINGS, TEMPERATURES = (0.01, 0.1, 0.3, 1.0), (0.1, 0.2, 0.4, 0.6), (1.0, 2.0, 4.0, 8.0)
# 初めは 10 通り。端が選ばれかけたので、端の外へ 2 通りずつ足し、まだ端だった二つの対照には、さらに 3 通りを足した。
GRID = {
    "hard": settings_grid(
        "weight_decay",
        RATES,
        DECAYS,
        (1e-3, 0.1),
        (3e-2, 0.1),
        (3e-4, 0.1),
        (1e-3, 1.0),
        (1e-4, 0.1),
        (3e-4, 0.01),
        (3e-4, 1.0),
    ),
    "hard_augment": settings_grid(
        "weight_decay",
        RATES,
        DECAYS,
        (1e-3, 0.1),
        (3e-2, 0.1),
        (3e-2, 0.01),
        (3e-2, 0.3),
        (3e-2, 1.0),
        (1e-2, 3.0),
        (3e-2, 3.0),
    ),
    "smooth_augment": settings_grid("smoothing", RATES, SMOOTHINGS, (1e-3, 0.2), (3e-2, 0.2), (3e-3, 0.8), (1e-3, 0.6)),
    "distill": settings_grid("temperature", RATES, TEMPERATURES, (1e-3, 2.0), (3e-2, 2.0), (1e-2, 16.0), (3e-2, 8.0)),
    "distill_unlabelled": settings_grid(
        "temperature", RATES, TEMPERATURES, (1e-3, 2.0), (3e-2, 2.0), (1e-2, 0.5), (3e-2, 1.0)
    ),
    "pseudo_unlabelled": settings_grid(
        "weight_decay", RATES, DECAYS, (1e-3, 0.1), (3e-2, 0.1), (3e-2, 0.3), (1e-1, 0.1)
    ),
}
CONTROLS = ("hard", "hard_augment", "smooth_augment")
COMPARED = [
    *(("distill_unlabelled", control) for control in (*CONTROLS, "pseudo_unlabelled", "distill")),
    *(("distill", control) for control in CONTROLS),
    *(("pseudo_unlabelled", control) for control in CONTROLS),
]


class Material:
    """一つの種のデータ。手法ごとに、学習に使うテンソルの組を取り出す。"""

    def __init__(self, seed: int, *, development: bool) -> None:
        self.task: Task = task(seed, LABELLED, development=development)
        self.teacher = teacher_of(self.task.images, self.task.labels, seed)
        self.few = self._with_logits(self.task.images, self.task.labels, seed)
        unknown = torch.full((len(self.task.unlabelled),), -1)
        everything = torch.cat([self.task.images, self.task.unlabelled])
        self.all = self._with_logits(everything, torch.cat([self.task.labels, unknown]), seed)

    def _with_logits(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """変形した画像、ラベル、教師モデルのロジット。ラベルのない画像（−1）では、教師モデルの答えをラベルにする。"""
        views, known = augmented(images, labels, seed)
        logits = logits_of(self.teacher, views)
        return views, torch.where(known < 0, logits.argmax(1), known), logits

    def of(self, method: str) -> tuple[Tensor, ...]:
        """手法に見せるもの。ロジットは、蒸留だけに渡す。"""
        if method == "hard":
            return self.task.images, self.task.labels
        found = self.all if method.endswith("unlabelled") else self.few
        return found if method.startswith("distill") else found[:2]


def score(method: str, material: Material, seed: int, setting: dict[str, Any]) -> float:
    """一つの手法の、評価用の画像での正解率。初期値は種だけで決まる。"""
    loss = soft(setting["temperature"]) if method.startswith("distill") else hard(setting["smoothing"])
    options = {"hidden": HIDDEN, "lr": setting["lr"], "weight_decay": setting["weight_decay"], "seed": seed}
    return accuracy(student(material.of(method), loss, **options), material.task.test, material.task.test_labels)


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、設定ごとの正解率を測る。"""
    material = Material(seed, development=True)
    return [
        {"method": method, **setting, "score": score(method, material, seed, setting)}
        for method, candidates in settings["grid"].items()
        for setting in candidates
    ]


def fixed() -> Settings:
    """開発と本番で共通の設定。"""
    return {"labelled": LABELLED, "hidden": HIDDEN, **FIXED}


def settings() -> Settings:
    """手法ごとの設定は、開発用の結果で選ぶ。"""
    keys = ("lr", "weight_decay", "smoothing", "temperature")
    picked = {method: chosen("07_pair_dev", keys, method=method) for method in GRID}
    count = sum(len(candidates) for candidates in GRID.values())
    return {"picked": picked, "tried": GRID, "tried_settings": count, "earlier_trials": EARLIER, **fixed()}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    material = Material(seed, development=False)
    rows = [{"method": m, "accuracy": score(m, material, seed, s)} for m, s in settings["picked"].items()]
    right = accuracy(material.teacher, material.task.test, material.task.test_labels)
    return [{"method": "teacher", "accuracy": right}, *rows]


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="07_pair",
            title="知識蒸留と、同じラベルの学習（MNIST-5k の 200 枚、DigitMLP h=64）",
            description="どの手法も、同じ 200 枚のラベル、同じ初期値、同じ更新の回数を使う。hard は変形なし、hard_augment と "
            "smooth_augment と distill は、同じ変形をした同じ画像を使う。名前が unlabelled で終わる手法は、ラベルのない 1,300 枚も"
            "使う。distill は教師モデルのロジットだけから学び（α = 1）、pseudo は教師モデルが選んだクラスを正解とする。"
            "教師モデルの事前学習は、英字のフォントで 1 回だけ行ったもので、種は変えていない。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=tuple(range(5, 15)),
            assets=ASSETS,
            summarise=lambda rows: compared(rows, COMPARED),
        ),
        Experiment(
            name="07_pair_dev",
            title="知識蒸留の実験の、設定の選択（開発用の画像）",
            description="手法ごとに、学習率ともう一つの設定（重み減衰、平滑化の ε、温度 T）を比べる。候補の端が選ばれた対照は、候補を外側へ広げた。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"grid": GRID, **fixed()},
            source=here,
            seeds=tuple(range(5)),
            option="--dev",
            assets=ASSETS,
        ),
    )
