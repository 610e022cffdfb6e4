"""演習 01-6: 転移の曲線から、事前学習の利得が消える枚数を読む関数。問題、入力、答えの呼び方を置く。

どの場合も、種ごとの差の t 値（平均 ÷ 標準誤差）を決めてから正解率を作る。だから、区間に 0 が入るかどうかが手で分かる。
判定は `crossover_judge.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c01.crossover_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

SCALE = 0.002  # 種ごとの差の標準偏差
GAIN, NONE, LOSS = 20.0, 0.5, -20.0  # t 値。はっきりした利得、区間に 0 が入る、はっきりした損失
Case = dict[str, Any]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、曲線に名前をつけて並べる。"""
    rng = np.random.default_rng(seed)
    curves = {
        "falls": [GAIN, GAIN, NONE, NONE],
        "lasts": [GAIN, GAIN, GAIN],
        "never": [NONE, NONE, NONE],
        "harmful": [LOSS, LOSS],
        "turns": [GAIN, LOSS, LOSS],
        "dip": [GAIN, NONE, GAIN, NONE],
        "dip-lasts": [GAIN, NONE, GAIN],
        "single": [NONE],
    }
    curves |= {f"t={t}": [GAIN, t] for t in (2.05, 2.35, 2.53, 2.65, 2.9, 5.5)}
    cases = {name: _case(ratios, rng) for name, ratios in curves.items()}
    cases |= {"three": _case([GAIN, 3.5], rng, seeds=3), "ten": _case([GAIN, 2.5], rng, seeds=10)}
    cases |= {
        "common": _case(curves["falls"], rng, common=0.1),
        "noisy": _case([GAIN, GAIN], rng, scales=(0.02, 0.0002)),
    }
    return {"cases": cases | {"unsorted": _shuffled(_case(curves["falls"], rng))} | _without_spread(rng)}


def _case(
    ratios: list[float], rng: np.random.Generator, seeds: int = 5, common: float = 0.0, scales: Any = SCALE
) -> Case:
    """各枚数での t 値が ratios になる曲線。common は、両方の正解率を種ごとに同じだけ動かす大きさ。"""
    rows = len(ratios)
    differences = np.broadcast_to(scales, rows)[:, None] * (
        np.array(ratios)[:, None] / np.sqrt(seeds) + _standard(rng, rows, seeds)
    )
    scratch = 0.4 + 0.05 * np.arange(rows)[:, None] + common * _standard(rng, rows, seeds)
    sizes = np.sort(rng.choice(np.arange(20, 2000), rows, replace=False))
    return {"sizes": sizes, "pretrained": scratch + differences, "scratch": scratch}


def _standard(rng: np.random.Generator, rows: int, seeds: int) -> Any:
    """どの行も、平均 0、不偏分散 1 の (rows, seeds)。"""
    z = rng.normal(size=(rows, seeds))
    z -= z.mean(axis=1, keepdims=True)
    return z / z.std(axis=1, ddof=1, keepdims=True)


def _shuffled(case: Case) -> Case:
    order = [2, 0, 3, 1]
    return {name: values[order] for name, values in case.items()}


def _without_spread(rng: np.random.Generator) -> dict[str, Case]:
    """種ごとの差がどれも等しい曲線。差が 0 のものと、正のもの。"""
    equal, constant = _case([GAIN, NONE], rng), _case([NONE, NONE], rng)
    equal["pretrained"][1] = equal["scratch"][1]
    constant["scratch"] = np.full((2, 5), 0.5)
    constant["pretrained"] = np.full((2, 5), 0.625)  # 2 進法で割り切れる値。差の標準偏差がちょうど 0 になる
    return {"equal": equal, "constant": constant}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての曲線で答えを呼ぶ。"""
    return {
        name: trial(answer, case["sizes"], case["pretrained"], case["scratch"])
        for name, case in inputs["cases"].items()
    }


CROSSOVER = Question(
    id="01-6",
    points=10,
    title="転移の曲線を読む",
    goal="種を変えた実験の結果から、事前学習の利得がどの枚数で消えるかを、区間つきで判断できる",
    minutes=20,
    difficulty=2,
    answers=("crossover",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    none_ok=True,
    hints=(
        "同じ種の二つの正解率を引き算し、枚数ごとに、差の平均と95%信頼区間を求めます。"
        "区間の下端が0より大きい枚数では、利得が残っています。枚数の大きいほうから見ていくと、「それ以降ずっと」を調べやすくなります。",
        "種 k = 1, …, K について d_k = pretrained_k − scratch_k、\n"
        "下端 = mean(d) − t_{0.975, K−1} · s / √K（s は d の不偏分散の平方根）\n"
        "下端 ≤ 0 なら、その枚数では利得がありません。最大の枚数から順に下へ見て、利得のある枚数に初めて出会ったら止まります。",
        "order = np.argsort(sizes)[::-1]   # 大きい順\n"
        "d = (pretrained - scratch)[order]   # (S, K)\n"
        "half = stats.t.ppf(0.975, K - 1) * (d の axis=1、ddof=1 の標準偏差) / np.sqrt(K)\n"
        "found = None から始め、sizes[order] と d.mean(axis=1) - half を組にして見ていきます。\n"
        "下端が0より大きければ break、そうでなければ found = int(枚数) とします。",
    ),
)
