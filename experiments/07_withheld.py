"""見たことのない数字を、教師モデルのロジットだけから学べるか（Hinton らの、数字 3 を抜いた実験の小さな版）。

教師モデルは、3 を含む 1,500 枚で学習する。生徒モデルに見せる画像には、3 が 1 枚もない。
生徒モデルは 3 のロジットを低く学ぶので、3 のバイアスだけを後から直す。直し方は二つ測る。
"""

from pathlib import Path
from typing import Any

import torch
from _distill import ASSETS, FIXED, TEST, augmented, hard, logits_of, region, soft, student, teacher_of
from _record import Experiment, Row, Settings, chosen, main
from _vision import Split, shuffled_split
from torch import Tensor, nn

HIDDEN, WITHHELD = 64, 3
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # T = 4 が 0.03 を選んだので、0.1 を足した
TEMPERATURES = (None, 1.0, 2.0, 4.0, 8.0)  # None は正解ラベル（ハードラベル）
HINTON = {
    "threes": 1010,
    "errors_on_3": 133,
    "errors_on_3_corrected": 14,
    "errors": 206,
    "errors_corrected": 109,
    "bias": 3.5,
    "student": "784-800-800-10",
    "source": "arXiv:1503.02531, 3 節",
}


class Material:
    """一つの種のデータ。生徒モデルに見せるのは、3 でない画像だけである。"""

    def __init__(self, seed: int, *, development: bool) -> None:
        self.split: Split = shuffled_split(*region(development), seed, TEST)
        self.teacher: nn.Module = teacher_of(self.split.train, self.split.train_labels, seed)
        kept = self.split.train_labels != WITHHELD
        self.images, self.labels = augmented(self.split.train[kept], self.split.train_labels[kept], seed)
        self.logits = logits_of(self.teacher, self.images)

    def train(self, temperature: float | None, lr: float, seed: int) -> nn.Module:
        """一つの条件の生徒モデル。温度が None なら、正解ラベルだけで学習する。"""
        if temperature is None:
            return student((self.images, self.labels), hard(), hidden=HIDDEN, lr=lr, seed=seed)
        tensors = (self.images, self.labels, self.logits)
        return student(tensors, soft(temperature), hidden=HIDDEN, lr=lr, seed=seed)


def develop(seed: int, settings: Settings) -> list[Row]:
    """条件と学習率ごとに、3 でない評価用の画像の正解率を測る。選択にも、3 の画像を使わない。"""
    material = Material(seed, development=True)
    seen = material.split.test_labels != WITHHELD
    images, labels = material.split.test[seen], material.split.test_labels[seen]
    rows = []
    for temperature in settings["temperatures"]:
        for lr in settings["rates"]:
            model = material.train(temperature, lr, seed)
            found = float((logits_of(model, images).argmax(1) == labels).float().mean())
            rows.append({"temperature": temperature, "lr": lr, "score": found})
    return rows


def fixed() -> Settings:
    """開発と本番で共通の設定。"""
    return {"hidden": HIDDEN, "withheld": WITHHELD, "temperatures": TEMPERATURES, "rates": RATES, **FIXED}


def settings() -> Settings:
    """条件ごとの学習率は、開発用の結果で選ぶ。温度は選ばず、すべて測る。"""
    picked = [{"temperature": t, **chosen("07_withheld_dev", ["lr"], temperature=t)} for t in TEMPERATURES]
    return {"picked": picked, "tried_settings": len(TEMPERATURES) * len(RATES), "hinton": HINTON, **fixed()}


def confirm(seed: int, settings: Settings) -> list[Row]:
    """本番の画像で、選んだ設定のまま測る。"""
    material = Material(seed, development=False)
    share = float((logits_of(material.teacher, material.split.train).argmax(1) == WITHHELD).float().mean())
    rows = [{"model": "teacher", "temperature": None, **measured(material.teacher, material, share)}]
    for setting in settings["picked"]:
        model = material.train(**setting, seed=seed)
        temperature = setting["temperature"]
        kind = "hard" if temperature is None else "distill"
        rows.append({"model": kind, "temperature": temperature, **measured(model, material, share)})
    return rows


def measured(model: nn.Module, material: Material, share: float) -> dict[str, float]:
    """直す前、教師モデルの割合に合わせて直した後、テストの正解率が最大になるように直した後の正解率。

    三つめは論文と同じ直し方で、テストのラベルを使う。自分の方法の成績としては使えない。
    """
    logits, labels = logits_of(model, material.split.test), material.split.test_labels
    by_share = bias_for_share(logits_of(model, material.split.train), share)
    by_test = bias_for_accuracy(logits, labels)
    return {
        "bias": by_share,
        "bias_on_test": by_test,
        **rates(logits, labels, 0.0, ""),
        **rates(logits, labels, by_share, "_corrected"),
        **rates(logits, labels, by_test, "_on_test"),
    }


def rates(logits: Tensor, labels: Tensor, bias: float, ending: str) -> dict[str, float]:
    """3 のロジットに bias を足したときの、全体の正解率と、3 の画像の正解率。"""
    predicted = torch.where(margins(logits) < bias, WITHHELD, others(logits).argmax(1))
    right, threes = (predicted == labels).float(), labels == WITHHELD
    return {f"accuracy{ending}": float(right.mean()), f"accuracy_on_3{ending}": float(right[threes].mean())}


def others(logits: Tensor) -> Tensor:
    """3 のロジットを −∞ に替えたもの。"""
    return logits.index_fill(1, torch.tensor([WITHHELD]), -torch.inf)


def margins(logits: Tensor) -> Tensor:
    """ほかのクラスの最大のロジットと、3 のロジットの差 (N,)。bias がこれを超えた画像が、3 と予測される。"""
    return others(logits).amax(1) - logits[:, WITHHELD]


def bias_for_share(logits: Tensor, share: float) -> float:
    """3 と予測される画像の割合が share になる bias。ラベルは使わない。"""
    ordered = margins(logits).sort().values
    rank = min(max(round(share * len(ordered)), 1), len(ordered) - 1)
    return float(ordered[rank - 1 : rank + 1].mean())


def bias_for_accuracy(logits: Tensor, labels: Tensor) -> float:
    """正解率が最大になる bias。同点なら小さいほうを選ぶ。"""
    found, threes = margins(logits), labels == WITHHELD
    ordered = found.sort().values
    candidates = (ordered[:-1] + ordered[1:]) / 2
    right = others(logits).argmax(1) == labels
    above = candidates[:, None] > found
    return float(candidates[torch.where(above, threes, right).sum(1).argmax()])


if __name__ == "__main__":
    here = Path(__file__).resolve()
    common: dict[str, Any] = {"source": here, "assets": ASSETS}
    main(
        Experiment(
            name="07_withheld",
            title="数字 3 を一度も見せない知識蒸留（MNIST-5k、DigitMLP h=64）",
            description="教師モデルは 3 を含む 1,500 枚のラベルで学習し、生徒モデルは 3 を除いた画像だけで学習する。hard は正解ラベル、"
            "distill は教師モデルのロジットだけを使う（α = 1）。corrected は、学習用の 1,500 枚（3 を含む。ラベルは使わない）で 3 と"
            "予測される割合が教師モデルと同じになるように、3 のバイアスを直した値。on_test は、論文と同じく、テストの正解率が最大に"
            "なるように直した値。生徒モデルに見せる画像は、どの条件でも同じように変形してある。",
            run=confirm,
            settings=settings,
            seeds=tuple(range(5, 15)),
            **common,
        ),
        Experiment(
            name="07_withheld_dev",
            title="数字 3 を見せない実験の、学習率の選択（開発用の画像）",
            description="条件ごとに、3 でない評価用の画像の正解率で学習率を選ぶ。選択にも 3 の画像を使わない。",
            run=develop,
            settings=fixed,
            seeds=tuple(range(5)),
            option="--dev",
            **common,
        ),
    )
