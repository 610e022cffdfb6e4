"""演習 01-2: LEEP。問題、入力、答えの呼び方を置く。

入力の多くは、正しい値が手で分かる配置である。たとえば、どの画像にも同じ確率を付けるソースのモデルは、
ラベルについて何も教えない。だから C 個のラベルが同数なら LEEP = −log C になる。判定は `leep_judge.py` にある。
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlkit.course.checks.c01.leep_judge import RARE, judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Probs = NDArray[np.float64]
Labels = NDArray[np.int64]
Case = dict[str, Any]
FLOOR = 1e-9  # 「0 に近い」確率。0 そのものは、専用の場合（empty）でだけ使う


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    rng = np.random.default_rng(seed)
    return {"cases": _soft(rng) | _sure(rng) | _blind(rng) | _pairs() | _awkward(rng)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。"""
    return {name: trial(answer, case["source_probs"], case["labels"]) for name, case in inputs["cases"].items()}


def _case(source_probs: Probs, labels: Labels) -> Case:
    return {"source_probs": source_probs.copy(), "labels": labels.astype(np.int64)}


def _shuffled(probs: Probs, labels: Labels, rng: np.random.Generator) -> Case:
    order = rng.permutation(len(labels))
    return _case(probs[order], labels[order])


def _nearly(z: Labels, sources: int) -> Probs:
    """ソースのクラス z に、ほぼ 1 の確率を置く。"""
    return np.full((len(z), sources), FLOOR) + (1 - sources * FLOOR) * np.eye(sources)[z]


def _soft(rng: np.random.Generator) -> dict[str, Case]:
    """確率がばらけた場合と、値の変わらない書き換え。"""
    labels = np.array([2, 0, 1, 0, 0, 1, 2, 0, 1, 0, 2, 1])
    probs = 0.2 * np.eye(5)[labels] + 0.8 * rng.dirichlet(np.ones(5), len(labels))
    order = np.argsort(labels, kind="stable")[::-1]
    return {
        "soft": _case(probs, labels),
        "soft-columns": _case(np.roll(probs, 2, axis=1), labels),
        "soft-rows": _case(probs[order], labels[order]),
        "soft-renamed": _case(probs, (labels + 1) % 3),
        "soft-twice": _case(np.concatenate([probs, probs]), np.concatenate([labels, labels])),
    }


def _sure(rng: np.random.Generator) -> dict[str, Case]:
    """ソースの予測が一つに決まる場合。sharp と split ではラベルが分かり、merged では二つ、mixed-up では全部が混ざる。"""
    three = np.repeat(np.arange(3), 4)
    four = np.repeat(np.arange(4), 4)
    return {
        "mixed-up": _shuffled(_nearly((three + 1) % 3, 3), np.arange(12) % 3, rng),
        "sharp": _shuffled(_nearly((three + 1) % 3, 3), three, rng),
        "split": _shuffled(_nearly(four, 4), four // 2, rng),
        "merged": _shuffled(_nearly(three // 2, 3), three, rng),
    }


def _blind(rng: np.random.Generator) -> dict[str, Case]:
    """どの画像にも同じ確率が付く場合。ラベルについて何も分からない。"""

    def blind(row: list[float], labels: Labels) -> Case:
        return _shuffled(np.tile(np.array(row), (len(labels), 1)), labels, rng)

    flat = [0.25, 0.25, 0.25, 0.25]
    return {
        "blind-2": blind(flat, np.arange(12) % 2),
        "blind-4": blind(flat, np.arange(12) % 4),
        "blind-skew": blind([0.6, 0.2, 0.1, 0.1], np.arange(12) % 2),
        "blind-uneven": blind(flat, (np.arange(12) % 4 == 0).astype(np.int64)),
    }


def _pairs() -> dict[str, Case]:
    """確信の強さだけが違う二つの場合と、少数派の 1 枚を多数派の中に置いた場合。"""
    labels = np.arange(8) % 2
    cases = {
        f"certain-{name}": _case(np.where(labels[:, None] == np.arange(2), top, 1 - top), labels)
        for name, top in (("high", 0.9), ("low", 0.6))
    }
    for count in RARE:
        probs = np.concatenate([np.array([[0.5, 0.5]]), np.tile([FLOOR, 1 - FLOOR], (count, 1))])
        cases[f"rare-{count}"] = _case(probs, np.array([0] + [1] * count))
    return cases


def _awkward(rng: np.random.Generator) -> dict[str, Case]:
    """確率 0 のソースのクラス、現れないラベル、ソースより多いラベル、乱数。"""
    base = _soft(rng)["soft"]
    labels = base["labels"]
    many = np.arange(12) % 6
    faint = np.hstack([0.98 * base["source_probs"], np.full((len(labels), 1), 0.02)])
    cases = {
        "faint": _case(faint, labels),
        "empty": _case(np.insert(base["source_probs"], [0, 3], 0.0, axis=1), labels),
        "absent": _case(base["source_probs"], np.array([0, 2, 5])[labels]),
        "more-targets": _case(rng.dirichlet(np.ones(2), len(many)), many),
    }
    for n, sources, targets in ((9, 4, 2), (30, 7, 5), (40, 3, 3)):
        chosen = np.concatenate([np.arange(targets), rng.integers(targets, size=n - targets)])
        cases[f"random-{n}"] = _case(rng.dirichlet(np.full(sources, 0.5), n), chosen)
    return cases


LEEP = Question(
    id="01-2",
    points=10,
    title="LEEPで、ソースのモデルを選ぶ",
    goal="ソースのモデルの確率とターゲットのラベルから、LEEPを計算できる",
    minutes=25,
    difficulty=2,
    answers=("leep",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("transferability.leep",),
    hints=(
        "ソースのクラス z を仲立ちにして、ラベル y を予測します。まず、z のときに y がどれだけ出るか（条件付き確率）を、"
        "すべての画像から数えます。次に、それぞれの画像の z の確率で重みを付けて、正しいラベルの確率を求めます。最後に対数を平均します。",
        "P(y, z) = (1/N) Σ_{i: y_i = y} θ_iz、P(z) = Σ_y P(y, z)、P(y|z) = P(y, z) / P(z)\n"
        "画像 i の正しいラベルの確率は p_i = Σ_z P(y_i|z) θ_iz、LEEP = (1/N) Σ_i log p_i です。\n"
        "P(z) = 0 の z は、割り算の前に除きます。",
        "classes, index = np.unique(labels, return_inverse=True)\n"
        "joint は (C, Z)。行 c は source_probs[index == c].sum(axis=0) です。\n"
        "used = joint.sum(axis=0) > 0 で列を選び、conditional = joint[:, used] / joint[:, used].sum(axis=0) とします。\n"
        "conditional[index] は (N, Z) です。source_probs[:, used] と掛けて axis=1 で和を取り、np.log の平均を返します。",
    ),
)
