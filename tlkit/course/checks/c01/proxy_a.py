"""演習 01-4: プロキシ A 距離。問題、入力、答えの呼び方を置く。

入力の多くは、最もよい線形の識別器の誤り率が、作り方から分かる標本である。たとえば両ドメインとも
標本の 1/4 が相手の側にあれば ε = 1/4 で、プロキシ A 距離は 1 になる。判定は `proxy_a_judge.py` にある。
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlkit.course.checks.c01.proxy_a_judge import TINY, judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

Features = NDArray[np.float64]
Case = dict[str, Any]


def make_inputs(seed: int) -> dict[str, Any]:
    """種から、名前のついた場合の一式を作る。"""
    rng = np.random.default_rng(seed)
    return {"cases": _overlaps(rng) | _hard(rng) | _repeated(rng)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """すべての場合で答えを呼ぶ。tiny の場合は、同じ種でもう一度呼ぶ。"""
    cases = inputs["cases"]
    again = {f"{name}-again": case for name, case in cases.items() if name.startswith("tiny")}
    return {name: trial(answer, case["source"], case["target"], case["seed"]) for name, case in (cases | again).items()}


def _case(source: Features, target: Features, rng: np.random.Generator) -> Case:
    return {"source": source.copy(), "target": target.copy(), "seed": int(rng.integers(2**31))}


def _two_sided(count: int, crossed: float, home: float, rng: np.random.Generator) -> Features:
    """1 次元の標本。ちょうど crossed の割合だけが、自分の側 home の反対側にある。"""
    sides = np.where(np.arange(count) < round(crossed * count), -home, home)
    return rng.permutation(sides + 0.05 * rng.standard_normal(count))[:, None]


def _overlaps(rng: np.random.Generator) -> dict[str, Case]:
    """誤り率が分かる場合。lopsided では、ターゲットだけが反対側にもある（誤り率は 0 と 0.4）。"""

    def overlap(n: int, m: int, crossed: tuple[float, float]) -> Case:
        return _case(_two_sided(n, crossed[0], -1.0, rng), _two_sided(m, crossed[1], 1.0, rng), rng)

    return {
        "apart": overlap(60, 60, (0, 0)),
        "overlap": overlap(2000, 2000, (0.25, 0.25)),
        "overlap-uneven": overlap(1600, 200, (0.25, 0.25)),
        "lopsided": overlap(400, 400, (0, 0.4)),
        "lopsided-uneven": overlap(2700, 300, (0, 0.4)),
    }


def _hard(rng: np.random.Generator) -> dict[str, Case]:
    """線形では見分けられない市松の配置と、学習に使った点が反対のドメインでもう一度現れる場合。"""
    corners = np.array([[1.0, 1.0], [-1.0, -1.0]])
    noise = 0.1 * rng.standard_normal((2, 200, 2))
    places = corners[np.arange(200) % 2]
    unique = 3 * np.eye(60)
    return {
        "checker": _case(places + noise[0], places * [1, -1] + noise[1], rng),
        "twins": _case(rng.permutation(unique), rng.permutation(unique), rng),
    }


def _repeated(rng: np.random.Generator) -> dict[str, Case]:
    """種だけを変えて何度も測る場合。wide は次元が標本より多い同じ分布、tiny は 14 点ずつの小さな標本。"""
    wide = rng.standard_normal((2, 40, 120))
    tiny = rng.standard_normal((2, TINY, 1)) + np.array([[[0.0]], [[0.6]]])
    cases = {f"wide-{index}": _case(wide[0], wide[1], rng) for index in range(5)}
    return cases | {f"tiny-{index}": _case(tiny[0], tiny[1], rng) for index in range(10)}


PROXY_A = Question(
    id="01-4",
    points=10,
    title="プロキシA距離で、ドメインの違いを測る",
    goal="二つのドメインを見分ける識別器の誤り率から、ドメインの距離を偏りなく推定できる",
    minutes=30,
    difficulty=2,
    answers=("proxy_a_distance",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("transferability.proxy_a",),
    hints=(
        "ソースとターゲットを見分ける線形の識別器を学習し、学習に使わなかった標本での誤り率を測ります。"
        "ドメインごとに、乱数で並べ替えてから半分に分けてください。誤り率もドメインごとに求め、最後に平均します。",
        "ε_S = ソースのテスト用の半分で「ターゲット」と答えた割合、ε_T = ターゲットのテスト用の半分で「ソース」と答えた割合です。\n"
        "ε = (ε_S + ε_T) / 2、プロキシA距離 = 2(1 − 2ε) です。\n"
        "学習でも二つのドメインを同じ重みで扱います（LogisticRegression なら class_weight を指定します）。",
        "rng = np.random.default_rng(seed)\n"
        "source[rng.permutation(len(source))] として並べ替え、前半を学習に、後半をテストに使います（target も同じ）。\n"
        "学習用の二つを np.concatenate でつなぎ、ドメインの番号 0 と 1 を np.repeat で作ります。\n"
        'LogisticRegression(class_weight="balanced").fit(…) のあと、後半のそれぞれで np.mean(….predict(…) != 番号) を求めます。',
    ),
)
