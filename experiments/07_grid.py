"""温度 T と重み α の格子を検証で選び、選んだ設定を、新しい種で一度だけテストする。

データ、教師モデル、変形、生徒モデルは `07_pair` と同じで、distill は同じ 200 枚を変形した画像から学ぶ。
初めに、正解ラベルだけの学習（hard）のために、学習率と重み減衰を検証で選ぶ。T と α の格子では、重み減衰を既定値に固定し、
学習率は、その重み減衰で hard に最も良いものを使う。だから、格子の得を、学習率の得と取り違えない。
どの設定と種の組も、`tlkit.distill.sweep` で executor に送る。途中で止めても、終わった組は測り直さない。
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from _distill import ASSETS, DECAY, FIXED, augmented, compared, hard, logits_of, student, task, teacher_of
from _record import PARTIAL, Experiment, Row, Settings, chosen, main, own_code, used_assets
from _vision import accuracy
from torch import Tensor, nn

from tlkit.distill import FromTeacher
from tlkit.distill.sweep import Trial, sweep
from tlkit.losses import DistillationLoss

LABELLED, HIDDEN = 200, 64
SEEDS, FRESH = tuple(range(5)), tuple(range(5, 15))
TEMPERATURES, ALPHAS = (1.0, 3.0, 5.0, 10.0), (0.3, 0.5, 0.7, 0.9)
RATES, DECAYS = (1e-3, 3e-3, 1e-2, 3e-2), (DECAY, 0.1, 0.3, 1.0)
HARD = [{"temperature": None, "alpha": 0.0, "lr": lr, "weight_decay": decay} for lr in RATES for decay in DECAYS]
GRID = [{"temperature": t, "alpha": a} for t in TEMPERATURES for a in ALPHAS]
KEYS = ("temperature", "alpha", "lr", "weight_decay")


@functools.cache
def material(seed: int, development: bool) -> tuple[nn.Module, tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """一つの種の教師モデル、学習のテンソル（変形した画像、ラベル、教師モデルのロジット）、評価の画像とラベル。"""
    split = task(seed, LABELLED, development=development)
    teacher = teacher_of(split.images, split.labels, seed)
    views, labels = augmented(split.images, split.labels, seed)
    return teacher, (views, labels, logits_of(teacher, views)), (split.test, split.test_labels)


def measure(setting: dict[str, Any], seed: int) -> float:
    """一つの設定の、評価用の画像での正解率。初期値も、見せる画像も、その順も、種だけで決まる。"""
    teacher, (views, labels, logits), evaluation = material(seed, setting["development"])
    if setting["method"] == "teacher":
        return accuracy(teacher, *evaluation)
    options = {"hidden": HIDDEN, "lr": setting["lr"], "weight_decay": setting["weight_decay"], "seed": seed}
    if setting["method"] == "hard":
        return accuracy(student((views, labels), hard(), **options), *evaluation)
    loss = FromTeacher(None, DistillationLoss(setting["temperature"], setting["alpha"]))
    return accuracy(student((views, labels, logits), loss, **options), *evaluation)


@functools.cache
def code() -> dict[str, str]:
    """動いているコードの sha256。測っている間にファイルが変わっても、始めたときの値のまま。"""
    return own_code(Path(__file__))


def swept(name: str, tried: list[dict[str, Any]], seeds: tuple[int, ...], settings: Settings) -> list[Trial]:
    """すべての設定と種の結果。初めに呼ばれたときに並べて測り、後は記録を読むだけである。"""
    fingerprint = json.dumps([code(), used_assets(ASSETS), settings], sort_keys=True)
    store = PARTIAL / name / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.jsonl"
    return sweep(measure, tried, seeds=seeds, store=store, fingerprint=fingerprint)


def develop(seed: int, settings: Settings) -> list[Row]:
    """開発用の画像で、hard の格子と、そこで選んだ学習率での T と α の格子の、検証の正解率を測る。"""
    seeds = SEEDS if seed in SEEDS else (seed,)
    labels_only = [{"method": "hard", "development": True, **one} for one in settings["hard"]]
    first = swept("07_grid_dev", labels_only, seeds, settings)
    grid = [{"method": "distill", "development": True, **base(first), **one} for one in settings["grid"]]
    trials = [trial for trial in swept("07_grid_dev", grid, seeds, settings) + first if trial.seed == seed]
    return [
        {"method": trial.setting["method"], **{key: trial.setting[key] for key in KEYS}, "score": trial.result}
        for trial in trials
    ]


def base(hard_trials: list[Trial]) -> dict[str, float]:
    """既定の重み減衰と、それで hard の検証の平均が最も高い学習率。同点なら、先にあるほう。"""
    scores: dict[float, list[float]] = {}
    for trial in hard_trials:
        if trial.setting["weight_decay"] == DECAY:
            scores.setdefault(trial.setting["lr"], []).append(trial.result)
    return {"lr": max(scores, key=lambda lr: sum(scores[lr]) / len(scores[lr])), "weight_decay": DECAY}


def fixed() -> Settings:
    """開発と本番で共通の設定。"""
    return {"labelled": LABELLED, "hidden": HIDDEN, **{key: value for key, value in FIXED.items() if key != "alpha"}}


def settings() -> Settings:
    """開発用の結果で選んだ設定。"""
    picked = {method: chosen("07_grid_dev", KEYS, method=method) for method in ("distill", "hard")}
    return {"picked": picked, "tried_settings": len(HARD) + len(GRID), **fixed()}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定だけを測る。"""
    picked = {"teacher": dict.fromkeys(KEYS), **settings["picked"]}
    tried = [{"method": method, "development": False, **one} for method, one in picked.items()]
    trials = swept("07_grid", tried, FRESH if seed in FRESH else (seed,), settings)
    return [{"method": one.setting["method"], "accuracy": one.result} for one in trials if one.seed == seed]


if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment(
            name="07_grid",
            title="温度 T と重み α を検証で選んだ知識蒸留（MNIST-5k の 200 枚、DigitMLP h=64）",
            description="distill と hard は、同じ 200 枚のラベル、同じ変形をした同じ画像、同じ初期値、同じ更新の回数を使う。"
            "どちらも、開発用の画像で、同じ数の設定から検証の正解率の平均が最も高いものを選んだ。hard は学習率と重み減衰を選ぶ。"
            "distill は T と α を選び、重み減衰は既定値、学習率はその重み減衰で hard に最も良いものである。本番では、選んだ設定だけを、"
            "選択に使っていない画像と種で測る。",
            run=confirm,
            settings=settings,
            source=here,
            seeds=FRESH,
            assets=ASSETS,
            summarise=lambda rows: compared(rows, [("distill", "hard")]),
        ),
        Experiment(
            name="07_grid_dev",
            title="温度 T と重み α の格子（開発用の画像での検証）",
            description="score は検証の正解率。hard は正解ラベルだけの、学習率と重み減衰の格子。distill は T と α の格子で、"
            "重み減衰は既定値に、学習率はその重み減衰で hard に最も良いものに固定する。本番の画像は使わない。",
            run=develop,
            settings=lambda: {"hard": HARD, "grid": GRID, **fixed()},
            source=here,
            seeds=SEEDS,
            option="--dev",
            assets=ASSETS,
        ),
    )
