"""08 章のクイズの数値を計算し直して確かめる。文の中の数は test_quiz_08_text.py、コードの問題は test_quiz_08_code.py。

正しい選択肢の数値は `computed_by` も確かめる。ここでは torch で独立に求め、誤りの数値も、理由に書かれた誤りから求める。
"""

import math
import re
from typing import Any

import pytest
import torch
from quiz_08_values import (
    AFTER04,
    AFTER05,
    AFTER17,
    BEFORE09,
    EXACT09,
    FIRST09,
    ITEMS,
    LR04,
    LR05,
    LR17,
    MEAN19,
    POOLED19,
    POOLED_SPREAD19,
    Q04,
    Q05,
    QUERIES02,
    S04,
    S05,
    S17,
    SEEDS19,
    SHOTS02,
    SPREAD19,
    START04,
    START05,
    START17,
    STEPS04,
    STEPS05,
    STUCK17,
    WAYS02,
    curvature,
    d,
    exact,
    numbers,
    slope,
    stepped,
)
from quiz_computed import fits
from scipy import stats

from tlkit.fewshot import ClassSplit, EpisodeSampler, prototypes, prototypical_logits
from tlkit.stats import mean_ci

CASES: dict[str, dict[str, Any]] = {
    # 選択肢の順に、誤り（または正しい手順）の名前と、それで求めた値
    "q08-02": {
        "エピソード一つ分": (WAYS02 * SHOTS02, WAYS02 * QUERIES02),
        "クエリの15枚を全体とみなす": (WAYS02 * SHOTS02 * 4, QUERIES02 * 4),
        "wayとshotを取り違える": (SHOTS02 * WAYS02 * 4, SHOTS02 * QUERIES02 * 4),
        "正しい手順": (WAYS02 * SHOTS02 * 4, WAYS02 * QUERIES02 * 4),
    },
    "q08-04": {
        "正しい手順": exact(S04, Q04, START04, LR04, STEPS04),
        "二階微分を1とみなす": (1 - LR04) * slope(Q04, AFTER04),
        "一次近似": slope(Q04, AFTER04),
        "更新する前で微分する": slope(Q04, START04),
    },
    "q08-05": {
        "初期値での勾配を3回引く": (1 - STEPS05 * LR05 * curvature(S05)) * slope(Q05, AFTER05),
        "正しい手順": exact(S05, Q05, START05, LR05, STEPS05),
        "1回分だけ掛ける": (1 - LR05 * curvature(S05)) * slope(Q05, AFTER05),
        "一次近似": slope(Q05, AFTER05),
    },
    "q08-09": {
        "平均せずに足す": (EXACT09, FIRST09),
        "正しい手順": (EXACT09 / 2, FIRST09 / 2),
        "逆に並べる": (FIRST09 / 2, EXACT09 / 2),
        "更新する前で微分する": (EXACT09 / 2, BEFORE09 / 2),
    },
    "q08-12": {
        "負号を付けない": d(1, 4).softmax(0)[0],
        "2乗しない": d(-1, -2).softmax(0)[0],
        "逆数の比": 1 / (1 + 1 / 4),
        "正しい手順": prototypical_logits(d(0, 0)[None], torch.stack([d(1, 0), d(0, 2)])).softmax(1)[0, 0],
    },
    "q08-17": {
        "正しい手順": (STUCK17, AFTER17),
        "逆に並べる": (AFTER17, STUCK17),
        "1回しか効かないとみなし、直すと同じ勾配を5回引くとみなす": (stepped(S17, START17, LR17), STUCK17),
        "1回しか効かないとみなす": (stepped(S17, START17, LR17), AFTER17),
    },
    "q08-19": {
        "エピソードを独立とみなす": (MEAN19, stats.norm.ppf(0.975) * POOLED_SPREAD19 / POOLED19**0.5),
        "正規分布を使う": (MEAN19, stats.norm.ppf(0.975) * SPREAD19 / 5**0.5),
        "正しい手順": mean_ci(SEEDS19.numpy()),
        "種の数の平方根で割らない": (MEAN19, stats.t.ppf(0.975, 4) * SPREAD19),
    },
}


@pytest.mark.parametrize("name", CASES)
def test_every_choice_is_what_its_reason_computes(name: str) -> None:
    item = ITEMS[name]
    assert list(CASES[name]).index("正しい手順") == item.answer
    for choice, (way, value) in zip(item.choices, CASES[name].items(), strict=True):
        values = [round(float(v), 8) for v in torch.as_tensor(value, dtype=torch.float64).ravel()]
        assert fits(values, choice), (choice, way, value)


def test_given_approximations_are_enough() -> None:
    twelve, seventeen, nineteen = (ITEMS[name].choices for name in ("q08-12", "q08-17", "q08-19"))
    assert fits(1 / (1 + 0.05), twelve[3]) and fits(1 / (1 + 0.37), twelve[1])
    assert fits((math.exp(-1), math.exp(-3), 0.6**5), "0.37、0.05、0.078")
    assert fits((-4, 1 + 5 * 0.078), seventeen[0])
    halves = [1.96 * 0.20 / 2000**0.5, 1.96 * 0.0158, 2.78 * 0.0158, 2.78 * 0.00125**0.5]
    assert all(fits((0.04, half), choice) for half, choice in zip(halves, nineteen, strict=True))
    assert fits((stats.t.ppf(0.975, 4), stats.norm.ppf(0.975)), "2.78、1.96")


def test_signs_told_in_the_reasons() -> None:
    assert EXACT09 > 0 > FIRST09
    assert [mean < half for mean, half in (numbers(c) for c in ITEMS["q08-19"].choices)][:3] == [False, False, True]


def test_nearest_prototype_and_three_mistakes() -> None:
    item = ITEMS["q08-11"]
    points = re.findall(r"\((−?\d+), (\d+)\)", item.stem)
    z, *rest = (d(*(float(v.replace("−", "-")) for v in point)) for point in points)
    support = torch.stack(rest).unflatten(0, (3, 2))
    means = prototypes(support.flatten(0, 1), torch.arange(3).repeat_interleave(2))
    far = -prototypical_logits(z[None], means)[0]
    torch.testing.assert_close(means, torch.stack([d(1, 0), d(5, 3), d(10, 4)]))
    torch.testing.assert_close(far, d(10, 5, 45))
    told = [[tuple(map(int, pair)) for pair in re.findall(r"\((\d+), (\d+)\)", why)] for why in item.why]
    assert told == [[(4, 0)], [(2, 0), (1, 0)], [(1, 0), (5, 3), (10, 4)], []]
    assert support[0, 1].tolist() == [4, 0] and support[0].sum(0).tolist() == [2, 0]
    single = (support - z).square().sum(2).min(1).values  # 最も近い1枚
    summed = (support.sum(1) - z).square().sum(1)  # 平均の代わりに和
    chosen = [(single.argmin(), single), (summed.argmin(), summed), (far.argmin(), far), ((means @ z).argmax(), far)]
    assert [f"クラス{'ABC'[int(k)]}、{values[k]:.0f}" for k, values in chosen] == item.choices


def test_sampler_draws_the_counted_images() -> None:
    split = ClassSplit(train=tuple(range(8)), val=(), test=(8,))
    images, labels = torch.arange(9 * 20)[:, None], torch.arange(9).repeat_interleave(20)
    sampler = EpisodeSampler(images, labels, split, ways=5, shots=3, queries=15, episodes=4, seed=0)
    sizes = torch.tensor([(len(e.support_x), len(e.query_x)) for e in sampler]).sum(0).tolist()
    assert sizes == numbers(ITEMS["q08-02"].choices[ITEMS["q08-02"].answer])
