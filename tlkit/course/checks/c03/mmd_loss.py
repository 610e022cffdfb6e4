"""演習 03-3: 損失としての MMD²。問題と入力を置く。

演習 01-1 と違い、帯域幅はデータから決め、勾配も調べる。入力の多くは、正しい値や、値のあいだの関係が手で分かる配置である。
たとえば、どの 2 点の距離も等しければ、カーネルが何であっても U 統計量は 0 になる。
どの配置でも、異なる 2 点の組の数を奇数にするか、中央の二つの距離をそろえてある。中央値の流儀（低いほうか、二つの平均か）を問わないためである。
判定は `mmd_loss_judge.py`、答えの呼び方は `two_samples.py` にある。
"""

import math
from typing import Any

import torch

from tlkit.course.checks.c03.mmd_loss_judge import RULER, judge
from tlkit.course.checks.c03.two_samples import Case, case, probe, randn
from tlkit.course.checks.question import Question

FAR = 100.0  # 2 点間の距離の中央値の何倍離せば、どのカーネルの値も 0 とみなせるか


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    g = torch.Generator().manual_seed(seed)
    return {"cases": _placed(g) | _rulers(g) | _moved(g) | _randoms(g), "gradients": _gradient_cases(g)}


def _side(g: torch.Generator) -> float:
    return 0.7 + 0.6 * float(torch.rand((), generator=g, dtype=torch.float64))


def _placed(g: torch.Generator) -> dict[str, Case]:
    """点の場所を決めた場合。"""
    side = _side(g)
    simplex = side / math.sqrt(2) * torch.eye(7, dtype=torch.float64) + 0.3 * randn(1, 7, g)  # どの 2 点も距離 side
    pair, three = simplex[:2], torch.zeros(3, dtype=torch.long)
    apart = torch.zeros(2, 7, dtype=torch.float64)
    apart[0, 0], apart[1, 1] = side, 2 * side
    return {
        "collapsed": case(simplex[three], simplex[[0, 0, 0, 0]]),
        "even": case(randn(3, 4, g), randn(3, 4, g) + 1),
        "equidistant": case(simplex[:3], simplex[3:]),
        "mixed": case(pair, pair),
        "clusters": case(simplex[three], simplex[three + 1]),
        "coincident": case(simplex[:1].repeat(5, 1), simplex[:1] + apart),  # 距離 0 の組が 10、side が 5、その上が 6
    }


def _rulers(g: torch.Generator) -> dict[str, Case]:
    """y は 9 点で、どの 2 点も距離 r。x は 2 点で、互いの距離は t·r、y からは遠い。

    中央値は t によらず r² なので、値から k(t) − k(0) が読める。
    """
    side, place = _side(g), 0.1 * randn(1, 12, g)

    def at(times: float, far: float) -> Case:
        x, y = torch.zeros(2, 12, dtype=torch.float64), torch.zeros(9, 12, dtype=torch.float64)
        y[:, :9] = side / math.sqrt(2) * torch.eye(9, dtype=torch.float64)
        x[:, 11] = far * side
        x[0, 10], x[1, 10] = times * side / 2, -times * side / 2
        return case(x + place, y + place)

    return {f"ruler-{times}": at(times, FAR) for times in RULER} | {"ruler-farther": at(1.0, 2 * FAR)}


def _moved(g: torch.Generator) -> dict[str, Case]:
    """値の変わらない動かし方。どれも base（奇数の組）と同じ値になる。"""
    x, y = randn(5, 4, g), 0.6 * randn(9, 4, g) + 0.7
    turn = torch.linalg.qr(randn(4, 4, g)).Q
    a, b = x[:3], y[:3]
    return {
        "base": case(x, y),
        "shifted": case(x + 2, y + 2),
        "scaled": case(10 * x, 10 * y),
        "scaled-more": case(1000 * x, 1000 * y),
        "swapped": case(y, x),
        "shuffled": case(x[[3, 0, 4, 1, 2]], y.flip(0)),
        "rotated": case(x @ turn, y @ turn),
        "square": case(a, b),
        "square-shuffled": case(a, b[[1, 2, 0]]),
    }


def _randoms(g: torch.Generator) -> dict[str, Case]:
    """乱数の場合。D = 1、N = 2、float32、高い次元も含む。"""
    cases = {}
    for n, m, d in ((5, 9, 3), (3, 3, 6), (8, 7, 1), (2, 5, 3), (12, 11, 40)):
        cases[f"random-{n}-{m}-{d}"] = case(randn(n, d, g), 0.7 * randn(m, d, g) + 0.5)
    return cases | {"random-float32": case(randn(6, 5, g).float(), (randn(8, 5, g) + 1).float())}


def _gradient_cases(g: torch.Generator) -> dict[str, Case]:
    x, y = randn(6, 4, g), 0.8 * randn(8, 4, g) + 0.6
    return {
        "base": case(x, y),
        "overlap": case(x, torch.cat([x[:3], y[:5]])),  # x と同じ点を含む（距離 0 の微分も有限であること）
        "high": case(randn(6, 512, g).float(), (randn(8, 512, g) + 0.2).float()),
        "collapsed": case(x[:1].repeat(3, 1), x[:1].repeat(4, 1)),
    }


MMD_LOSS = Question(
    id="03-3",
    points=12,
    title="MMDを、学習に使える損失にする",
    goal="帯域幅をデータから決める多重カーネルのMMD²を、正しい勾配の流れる損失として実装できる",
    minutes=30,
    difficulty=2,
    answers=("mmd_loss",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.mmd", "losses._rbf_sums"),
    hints=(
        "x と y を縦につなぎ、すべての点の間の距離の二乗を一つの行列にすると、後は切り分けるだけです。"
        "まず、対角より上の要素の中央値から帯域幅を決めます。ここだけは勾配を止めます。次に五つのカーネルを平均し、最後にU統計量の形に足し引きします。",
        "σ²_med = median{‖z_i − z_j‖² : i < j} / 2（勾配を止める）\n"
        "k(a, b) = (1/5) Σ_c exp(−‖a − b‖² / (2 c² σ²_med))、c = 0.5, 1/√2, 1, √2, 2\n"
        "損失 = Σ_{i≠j} k(x_i, x_j) / (N(N−1)) + Σ_{i≠j} k(y_i, y_j) / (M(M−1)) − (2/(NM)) Σ_ij k(x_i, y_j)\n"
        "対角の k(z_i, z_i) はちょうど1なので、全体の和から N（または M）を引けば、i ≠ j の和になります。",
        "z = torch.cat([x, y])\n"
        "squared = (z[:, None, :] - z[None, :, :]).square().sum(dim=2)   # (N+M, N+M)。平方根は取らない\n"
        "i, j = torch.triu_indices(len(z), len(z), offset=1)\n"
        "variance = squared[i, j].detach().median() / 2 に、.clamp(min=1e-12) を付けます。\n"
        "kernel は、五つの torch.exp(-squared / (2 * c**2 * variance)) の平均です。\n"
        "kernel[:N, :N]、kernel[N:, N:]、kernel[:N, N:] の三つから、損失を作ります。",
    ),
)
