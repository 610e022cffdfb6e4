"""演習 08-6 の判定のうち、内側の損失と更新。

1 回の更新で動いた量を、KL の項と交差エントロピーの項の勾配に分解し、係数と、温度や α や件数を変えたときの変わり方を見る。
ほかの判定は `meta_distillation_step_judge.py`、項ごとの勾配は `meta_distillation_step_reference.py` にある。
"""

from dataclasses import dataclass

import numpy as np

from tlkit.course.checks.c08.meta_distillation_step_model import Scene
from tlkit.course.checks.c08.meta_distillation_step_reference import (
    TERMS,
    Array,
    adapted,
    factors,
    flat,
    term_gradients,
)
from tlkit.course.checks.findings import Finding

NEAR = 1e-6
SINGLE = ("unit", "plain", "hot", "soft", "hard", "more")  # 内側が 1 回の場面


@dataclass(frozen=True)
class Fit:
    """1 回の更新の勾配 = soft·∇KL + hard·∇CE と置いたときの係数と、説明できない部分の割合 rest。want は正しい係数。"""

    soft: float
    hard: float
    rest: float
    want: tuple[float, float]
    label: str


def inner_findings(points: dict[str, Array], scenes: dict[str, Scene]) -> Finding:
    """項の有無、符号、速さ、向き、係数、2 回目からの更新の順に調べる。"""
    fits = {name: _fit(points[name], scenes[name]) for name in SINGLE}
    yield from _contents(fits)
    yield from _present(fits)
    yield from _rate(fits)
    yield from _counts(fits)
    yield from _hard(fits)
    yield from _soft(fits)
    yield from _later(points["deep"], scenes["deep"])
    yield from _later(points["five"], scenes["five"])


def _fit(point: Array, scene: Scene) -> Fit:
    start = flat(scene["student"])
    moved = ((start - point) / scene["inner_lr"])[0]
    terms = term_gradients(scene, start, flat(scene["teacher"]))
    basis = np.stack([terms[term][0] for term in TERMS], axis=1)
    (soft, hard), *_ = np.linalg.lstsq(basis, moved, rcond=None)
    rest = float(np.linalg.norm(moved - basis @ np.array([soft, hard]))) / max(float(np.linalg.norm(moved)), 1e-6)
    label = f"T = {scene['temperature']}、α = {scene['alpha']}、サポート{len(scene['support'][0])}件"
    return Fit(float(soft), float(hard), rest, factors(scene), label)


def _contents(fits: dict[str, Fit]) -> Finding:
    """動いた向きが、二つの項の勾配の組み合わせで書けるか。"""
    if fits["hard"].rest > NEAR:
        yield (
            "hard-other",
            f"α = 0 なのに、サポートの正解ラベルの交差エントロピーの勾配と違う向きに動きました（違う部分の割合は {fits['hard'].rest:.2g}）。"
            "cross_entropy には、温度で割らないロジットと、support_y を渡します。",
        )
    if fits["unit"].rest < NEAR < fits["hot"].rest:
        yield (
            "temperature-uneven",
            "T = 1 では正しい向きの更新が、T = 5 では違う向きになります。教師モデルと生徒モデルのロジットを、どちらも T で割ってください。",
        )
    for fit in fits.values():
        if fit.rest > NEAR:
            yield (
                "soft-other",
                f"{fit.label}のとき、内側の1回の更新が、KL(教師 ‖ 生徒) と交差エントロピーの勾配の組み合わせで書けません（違う部分の割合は "
                f"{fit.rest:.2g}）。サポートだけを使っているか、F.kl_div の引数が（生徒の対数の確率, 教師の確率）の順かを確かめてください。",
            )


def _present(fits: dict[str, Fit]) -> Finding:
    if all(abs(fit.hard) < NEAR for fit in fits.values()):
        yield (
            "labels-unused",
            "内側の更新に、サポートの正解ラベルの項がありません。α = 0 のときは、パラメータがまったく動きません。"
            "(1 − α) 倍の交差エントロピーを加えてください。",
        )
    if all(abs(fit.soft) < NEAR for fit in fits.values()):
        yield "teacher-unused", "内側の更新に、教師モデルのソフトターゲットの項がありません。"
    if fits["plain"].soft < 0 and fits["plain"].hard < 0:
        yield (
            "inner-ascends",
            "内側の更新が、損失の大きくなる向きに進んでいます。学習率を掛けた勾配を、引いてください。",
        )
    for key, title in (("soft", "ソフトターゲット"), ("hard", "正解ラベル")):
        if getattr(fits["plain"], key) < 0:
            yield f"{key}-sign", f"{title}の項だけ、符号が逆です。その項が大きくなる向きに、更新しています。"
    if fits["soft"].soft < NEAR < fits["soft"].hard:
        yield (
            "alpha-swapped",
            "α = 1 で、正解ラベルの項だけが残りました。α は、教師モデルのソフトターゲットの項の重みです。",
        )
    if fits["soft"].hard > NEAR and _near(fits["soft"].hard, fits["hard"].hard):
        yield "alpha-ignored", "正解ラベルの項の重みが、α = 1 でも α = 0 でも同じです。1 − α を掛けてください。"


def _rate(fits: dict[str, Fit]) -> Finding:
    """二つの係数が、どの場面でも同じ割合で違うなら、損失でなく、進む幅の違いである。"""
    ratios = [
        value / want
        for fit in fits.values()
        for value, want in zip((fit.soft, fit.hard), fit.want, strict=True)
        if want
    ]
    if max(ratios) - min(ratios) < NEAR and not _near(ratios[0], 1):
        yield (
            "inner-rate",
            f"内側の更新の幅が、いつも正しい値の {ratios[0]:.4g} 倍です。損失の勾配に inner_lr を1回だけ掛けて、引いてください。",
        )


def _counts(fits: dict[str, Fit]) -> Finding:
    few, many = fits["plain"], fits["more"]
    for key, title in (("soft", "ソフトターゲット"), ("hard", "正解ラベル")):
        a, b = getattr(few, key), getattr(many, key)
        if not _near(a, b):
            yield (
                f"{key}-batch-size",
                f"{title}の項の重みが、サポートが6件のとき {a:.3g}、9件のとき {b:.3g} です。標本で平均してください"
                "（F.kl_div では reduction='batchmean'）。",
            )


def _hard(fits: dict[str, Fit]) -> Finding:
    if not _near(fits["hot"].hard, fits["unit"].hard):
        yield (
            "hard-temperature",
            f"正解ラベルの項の重みが、T = 1 で {fits['unit'].hard:.3g}、T = 5 で {fits['hot'].hard:.3g} です。"
            "T² を掛けるのは、ソフトターゲットの項だけです。",
        )
    for fit in fits.values():
        if not _near(fit.hard, fit.want[1]):
            yield (
                "hard-weight",
                f"{fit.label}のとき、正解ラベルの項の重みが {fit.hard:.3g} です。1 − α = {fit.want[1]:.3g} にしてください。",
            )


def _soft(fits: dict[str, Fit]) -> Finding:
    unit, hot = fits["unit"], fits["hot"]
    if _near(unit.soft, unit.want[0]) and not _near(hot.soft, hot.want[0]):
        yield (
            "temperature-squared",
            f"ソフトターゲットの項の重みは、T = 1 では正しいのに、T = 5 では、本来の {hot.soft / hot.want[0]:.3g} 倍です。"
            "温度で割るとKLの勾配は約 1/T² に縮むので、T² を掛けて釣り合いを保ちます。",
        )
    for fit in fits.values():
        if not _near(fit.soft, fit.want[0]):
            yield (
                "soft-weight",
                f"{fit.label}のとき、ソフトターゲットの項の重みが {fit.soft:.3g} です。α·T² = {fit.want[0]:.3g} にしてください。"
                "KLは、クラスについて足し、標本について平均します。",
            )


def _later(point: Array, scene: Scene) -> Finding:
    """2 回目からの更新。ここまでに、1 回の更新は正しいと分かっている。"""
    start, teacher, count = flat(scene["student"]), flat(scene["teacher"]), scene["inner_steps"]
    if np.abs(point - adapted(scene, start, teacher)).max() < NEAR:
        return
    for other in range(1, 2 * count + 1):
        if np.abs(point - adapted(scene, start, teacher, other)).max() < NEAR:
            yield "inner-count", f"inner_steps = {count} なのに、{other} 回だけ更新した点に着きました。"
    yield (
        "inner-later",
        f"1回の更新は正しいのですが、{count} 回の更新で、正しい点に着きません。どの回も、前の回に得たパラメータで予測し、"
        "そのパラメータについて微分し、そのパラメータから引いているか確かめてください。",
    )


def _near(a: float, b: float) -> bool:
    return abs(a - b) < NEAR * max(1.0, abs(b))
