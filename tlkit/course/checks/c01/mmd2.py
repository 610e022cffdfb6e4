"""演習 01-1: MMD² の偏りのある推定と偏りのない推定。問題、入力、答えの呼び方を置く。

入力の多くは、正しい値が手で分かる配置である。たとえば x の全点が一か所、y の全点が距離 d の別の一か所にあれば、
MMD² = 2 − 2k(d) となり、学習者の使ったカーネルの値 k(d) がそのまま読める。判定は `mmd2_judge.py` にある。
"""

import math
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c01.mmd2_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Case = dict[str, Any]
FAR = 60.0  # σ の何倍離せばカーネルが 0 とみなせるか
NEAR = 0.1
COUNT = 3  # 一か所に重ねる点の数


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    sigma = 0.7 + 0.6 * float(torch.rand((), generator=g, dtype=torch.float64))
    cases = _clusters(sigma, g) | _spreads(sigma, g) | _uneven(sigma, g) | _randoms(g)
    return {"sigma": sigma, "cases": cases, "gradients": _gradient_cases(g)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。勾配の場合では、x と y の写しで微分もする。"""
    values = {name: trial(answer, *_arguments(case)) for name, case in inputs["cases"].items()}
    gradients = {}
    for name, case in inputs["gradients"].items():
        x, y = (case[key].clone().requires_grad_() for key in ("x", "y"))
        gradients[name] = trial(answer, x, y, case["sigma"], case["estimator"], wrt=(x, y))
    return {"values": values, "gradients": gradients}


def _arguments(case: Case) -> tuple[Tensor, Tensor, float, str]:
    return case["x"], case["y"], case["sigma"], case["estimator"]


def _case(x: Tensor, y: Tensor, sigma: float, estimator: str = "biased") -> Case:
    return {"x": x.clone(), "y": y.clone(), "sigma": sigma, "estimator": estimator}


def _randn(rows: int, columns: int, g: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=g, dtype=torch.float64)


def _clusters(sigma: float, g: torch.Generator) -> dict[str, Case]:
    """x の COUNT 点が一か所、y の COUNT 点が距離 d の別の一か所にある場合。"""
    place = 0.3 * _randn(1, 3, g)
    axis = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    slant = torch.full((1, 3), 1 / math.sqrt(3), dtype=torch.float64)

    def at(times: float, direction: Tensor = axis, scale: float = 1.0, estimator: str = "biased") -> Case:
        half = times * sigma / 2 * direction  # 真ん中を原点の近くに置き、桁落ちを小さくする
        return _case((place - half).repeat(COUNT, 1), (place + half).repeat(COUNT, 1), scale * sigma, estimator)

    one = at(0.8)
    x_padded, y_padded = (torch.cat([one[key], torch.zeros_like(one[key])], dim=1) for key in ("x", "y"))
    return {
        "zero": at(0.0),
        "nearer": at(NEAR / 2),
        "near": at(NEAR),
        "one": one,
        "two": at(1.6),
        "wide": at(0.8, scale=2.0),
        "shifted": _case(one["x"] + 1.5, one["y"] + 1.5, sigma),
        "scaled": _case(3 * one["x"], 3 * one["y"], sigma),
        "slant": at(0.8, direction=slant),
        "padded": _case(x_padded, y_padded, sigma),
        "far": at(FAR),
        "farther": at(2 * FAR),
        "far-u": at(FAR, estimator="unbiased"),
    }


def _spreads(sigma: float, g: torch.Generator) -> dict[str, Case]:
    """どの 2 点も遠く離れた場合と、同じ点の集まりを x と y に並べた場合（N = M = 4）。"""
    points = 8 * sigma * torch.eye(8, dtype=torch.float64) + 0.3 * _randn(1, 8, g)
    x, y = points[:4], points[4:]
    pair = points[[0, 0, 1, 1]]
    return {
        "spread-b": _case(x, y, sigma),
        "spread-u": _case(x, y, sigma, "unbiased"),
        "twin-b": _case(x, x, sigma),
        "twin-u": _case(x, x, sigma, "unbiased"),
        "mixed-u": _case(pair, pair.flip(0), sigma, "unbiased"),
    }


def _uneven(sigma: float, g: torch.Generator) -> dict[str, Case]:
    """N = 2、M = 5 の場合。"""
    points = 8 * sigma * torch.eye(8, dtype=torch.float64) + 0.3 * _randn(1, 8, g)
    same, other = points[:1], points[1:2]
    cases = {}
    for mark, estimator in (("b", "biased"), ("u", "unbiased")):
        cases[f"uneven-same-{mark}"] = _case(same.repeat(2, 1), same.repeat(5, 1), sigma, estimator)
        cases[f"uneven-far-{mark}"] = _case(same.repeat(2, 1), other.repeat(5, 1), sigma, estimator)
        cases[f"uneven-spread-{mark}"] = _case(points[:2], points[2:7], sigma, estimator)
    return cases


def _randoms(g: torch.Generator) -> dict[str, Case]:
    """乱数の場合。float32、引数の入れ替え、D = 1 も含む。"""
    cases: dict[str, Case] = {}
    for n, m, d in ((4, 4, 3), (5, 3, 3), (3, 6, 1), (7, 7, 6)):
        x, y = _randn(n, d, g), 0.7 * _randn(m, d, g) + 0.5
        sigma = 0.7 + float(torch.rand((), generator=g, dtype=torch.float64))
        for estimator in ("biased", "unbiased"):
            cases[f"random-{n}-{m}-{d}-{estimator}"] = _case(x, y, sigma, estimator)
    a = cases["random-5-3-3-unbiased"]
    cases["swapped"] = _case(a["y"], a["x"], a["sigma"], "unbiased")
    cases["float32"] = _case(a["x"].float(), a["y"].float(), a["sigma"], "unbiased")
    return cases


def _gradient_cases(g: torch.Generator) -> dict[str, Case]:
    x, y = _randn(5, 3, g), _randn(4, 3, g) + 0.5
    overlap = torch.cat([x[:2], y[:2]])  # x と同じ点を含む（距離 0 の微分も有限であること）
    return {
        "biased": _case(x, y, 1.1, "biased"),
        "unbiased": _case(x, y, 0.9, "unbiased"),
        "overlap": _case(x, overlap, 1.0, "biased"),
    }


MMD2 = Question(
    id="01-1",
    points=10,
    title="MMD²を二通りに推定する",
    goal="RBFカーネルのMMD²を、偏りのある推定と偏りのない推定の両方で実装できる",
    minutes=25,
    difficulty=2,
    answers=("mmd2",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.mmd", "losses._rbf_sums"),
    hints=(
        "xどうし、yどうし、xとyの三つのカーネル行列を作り、それぞれを平均して足し引きします。"
        "偏りのない推定で変わるのは、xどうしとyどうしの平均の取り方だけです。自分自身との組を数えません。",
        "距離の二乗は ‖a − b‖² = Σ_d (a_d − b_d)²、カーネルは k = exp(−‖a − b‖² / (2σ²)) です。\n"
        "biased:   (1/N²) Σ_ij k(x_i, x_j) + (1/M²) Σ_ij k(y_i, y_j) − (2/NM) Σ_ij k(x_i, y_j)\n"
        "unbiased: 初めの二つの和から i = j を除き、N(N−1) と M(M−1) で割ります。三つ目は変えません。",
        "def kernel(a, b):\n"
        "    squared = (a[:, None, :] - b[None, :, :]).pow(2).sum(-1)   # (N, M)\n"
        "    return torch.exp(-squared / (2 * sigma**2))\n"
        "k_xx, k_yy, k_xy = kernel(x, x), kernel(y, y), kernel(x, y)\n"
        'estimator が "biased" なら、三つの .mean() を組み合わせます。\n'
        '"unbiased" なら、k_xx の平均を (k_xx.sum() - k_xx.diagonal().sum()) / (N * (N - 1)) に替えます（k_yy も同じ）。',
    ),
)
