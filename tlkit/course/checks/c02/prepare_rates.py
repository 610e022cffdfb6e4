"""演習 02-8 の判定のうち、段ごとの学習率。"""

import itertools
import math

from tlkit.course.checks.c02.prepare_model import STAGES, TRAINED
from tlkit.course.checks.findings import Finding


def rates(method: str, found: dict[str, set[float]], base_lr: float, decay: float) -> Finding:
    """段の名前 → 学習率の集まりが、手法のとおりか。"""
    stages = TRAINED[method][::-1]  # 出力側から
    if mixed := [stage for stage in stages if max(found[stage]) - min(found[stage]) > 1e-9]:
        yield (
            "rate-within-stage",
            f"{method} で、段 {mixed[0]} の中に違う学習率があります。学習率は段ごとに決めます。",
        )
    values = [next(iter(found[stage])) for stage in stages]
    wanted = [base_lr / decay**k if method == "discriminative" else base_lr for k in range(len(stages))]
    if _same(values, wanted):
        return
    shown = "、".join(f"{stage} {value:.2g}" for stage, value in zip(stages, values, strict=True))
    seen = f"{method}（base_lr = {base_lr}、decay = {decay}）の学習率が、{shown} になりました。"
    if method == "discriminative":
        yield from _layerwise(values, wanted, seen)
    elif _same(values, values[:1] * len(values)):
        yield "base-rate", f"{seen}この手法の学習率は、base_lr そのものです。"
    yield (
        "decay-elsewhere",
        f"{seen}decay を使うのは discriminative だけです。ほかの手法では、どの段も base_lr にしてください。",
    )


def _layerwise(values: list[float], wanted: list[float], seen: str) -> Finding:
    """層別学習率の誤り。値は出力側から並ぶ。"""
    if _same(values, values[:1] * len(values)):
        yield "rates-equal", f"{seen}入力に近い段ほど、学習率を小さくしてください。1段ごとに decay で割ります。"
    if values[0] < values[-1]:
        yield (
            "rates-reversed",
            f"{seen}入力に近い段ほど大きくなっています。一般的な特徴を持つ入力側を、小さい学習率で守ります。",
        )
    ratios = [math.log(a / b) for a, b in itertools.pairwise(values) if a > 0 and b > 0]
    step = math.log(wanted[0] / wanted[1])
    if len(ratios) == len(values) - 1 and all(abs(ratio - step) < 1e-3 for ratio in ratios):
        yield "rate-offset", f"{seen}段ごとの比は正しいのに、全体がずれています。分類層の学習率が base_lr です。"
    if values[STAGES[::-1].index("stages.0")] == values[STAGES[::-1].index("stages.1")]:
        yield (
            "stages-merged",
            f"{seen}stages.0 と stages.1 は、別の段です。model.stages の中身を一つずつ数えてください。",
        )
    yield "rate-ratio", f"{seen}1段ごとに decay で割り、出力側から k 段目を base_lr / decay**k にしてください。"


def _same(values: list[float], wanted: list[float]) -> bool:
    return all(math.isclose(value, want, rel_tol=1e-6) for value, want in zip(values, wanted, strict=True))
