"""演習 07-6 の判定のうち、更新に使われた勾配の中身。

観測した勾配を、KL の項と交差エントロピーの項に分解し、係数と、温度や α や件数を変えたときの変わり方から、診断を選ぶ。
ほかの判定は `distill_step_judge.py`、項ごとの勾配の計算は `distill_step_terms.py` にある。
"""

from functools import cached_property

import torch
from torch import Tensor

from tlkit.course.checks.c07.distill_step_model import RATE, Scene
from tlkit.course.checks.c07.distill_step_terms import Fit, Grads, expected, factors, fit, gradients
from tlkit.course.checks.findings import Finding

NEAR = 1e-4
CLEAN = ("unit", "plain", "hot", "soft", "hard", "more")  # 古い勾配のない場面


class Seen:
    """一つの場面で使われた勾配と、その分解。"""

    def __init__(self, record: Scene, scene: Scene) -> None:
        self.scene, self.terms = scene, gradients(scene)
        likes = self.terms["hard"]
        self.absent = all(grad is None for grad in record["grads"].values())
        self.grads = {name: _tensor(record["grads"].get(name), like) for name, like in likes.items()}
        self.moved = {name: _tensor(record["moved"].get(name), like) for name, like in likes.items()}

    @cached_property
    def fit(self) -> Fit:
        """KL と交差エントロピーの係数。"""
        return fit(self.grads, self.terms)

    @property
    def want(self) -> tuple[float, float]:
        """正しい係数 (α·T², 1 − α)。"""
        return factors(self.scene)

    @property
    def label(self) -> str:
        """場面の条件。"""
        return f"T = {self.scene['temperature']}、α = {self.scene['alpha']}、{len(self.scene['x'])}件"


def gradient_findings(found: dict[str, Seen]) -> Finding:
    """更新の順番、項の中身、係数、古い勾配、動いた量の順に調べる。"""
    values = (value for seen in found.values() for value in (*seen.grads.values(), *seen.moved.values()))
    if not all(bool(value.isfinite().all()) for value in values):
        yield "not-finite", "勾配かパラメータに、NaN か無限大が入りました。"
    if any(found[name].absent for name in CLEAN):
        yield (
            "no-gradients",
            "optimizer.step() のとき、生徒モデルのどのパラメータにも勾配がありません。zero_grad、backward、step の順に呼んでください。",
        )
    clean = {name: found[name] for name in CLEAN}
    yield from _stale(found)
    yield from _contents(clean)
    yield from _present(clean)
    yield from _counts(clean)
    yield from _hard(clean)
    yield from _soft(clean)
    yield from _rest(found)


def _stale(found: dict[str, Seen]) -> Finding:
    gap, place = _farthest(found["stale"].grads, found["plain"].grads)
    if gap > NEAR:
        yield (
            "stale-gradients",
            f"呼ぶ前から残っていた勾配が、更新に混ざりました（{place} で {gap:.2g}）。backward は、勾配に足し込みます。"
            "何回も更新すると、古い画像の勾配がたまり続けます。backward の前に消してください。",
        )


def _contents(clean: dict[str, Seen]) -> Finding:
    """勾配が、二つの項の組み合わせで書けるか。"""
    if clean["hard"].fit.rest > NEAR:
        yield (
            "hard-other",
            f"α = 0 なのに、勾配が、正解ラベルの交差エントロピーの勾配と向きの違うものです（違う部分の割合は {clean['hard'].fit.rest:.2g}）。"
            "cross_entropy には、温度で割らない生徒モデルのロジットと、ラベルを渡します。",
        )
    if clean["unit"].fit.rest < NEAR < clean["hot"].fit.rest:
        yield (
            "temperature-uneven",
            "T = 1 では正しい向きの勾配が、T = 5 では違う向きになります。教師モデルと生徒モデルのロジットを、どちらも T で割ってから、"
            "softmax と log_softmax に渡してください。交差エントロピーのほうは割りません。",
        )
    for seen in clean.values():
        if seen.fit.rest > NEAR:
            yield (
                "soft-other",
                f"{seen.label}のとき、勾配が、KL(教師 ‖ 生徒) と交差エントロピーの勾配の組み合わせで書けません（違う部分の割合は "
                f"{seen.fit.rest:.2g}）。F.kl_div の引数は、（生徒の対数の確率, 教師の確率）の順です。reduction も確かめてください。",
            )


def _present(clean: dict[str, Seen]) -> Finding:
    fits = {name: seen.fit for name, seen in clean.items()}
    for key, title in (("soft", "教師モデルのソフトターゲット"), ("hard", "正解ラベル")):
        if all(abs(getattr(each, key)) < NEAR for each in fits.values()):
            yield f"{key}-missing", f"更新の勾配に、{title}の項がありません。"
        if getattr(fits["plain"], key) < -NEAR:
            yield f"{key}-sign", f"{title}の項の符号が逆です。その損失が大きくなる向きに、更新しています。"
    if fits["soft"].soft < NEAR < fits["soft"].hard:
        yield (
            "alpha-swapped",
            "α = 1 で、正解ラベルの項だけが残りました。α は、教師モデルのソフトターゲットの項の重みです。",
        )
    if _near(fits["soft"].soft, fits["hard"].soft) and _near(fits["soft"].hard, fits["hard"].hard):
        yield "alpha-ignored", "α を 0 から 1 に変えても、更新が変わりません。二つの項を α と 1 − α で混ぜてください。"


def _counts(clean: dict[str, Seen]) -> Finding:
    """件数を変えたときの係数。"""
    few, many = clean["plain"].fit, clean["more"].fit
    for key, title in (("soft", "ソフトターゲット"), ("hard", "正解ラベル")):
        a, b = getattr(few, key), getattr(many, key)
        if not _near(a, b):
            yield (
                f"{key}-batch-size",
                f"{title}の項の重みが、6件のとき {a:.3g}、9件のとき {b:.3g} です。件数で変わらないように、標本で平均してください"
                "（F.kl_div では reduction='batchmean'）。",
            )


def _hard(clean: dict[str, Seen]) -> Finding:
    if not _near(clean["hot"].fit.hard, clean["unit"].fit.hard):
        yield (
            "hard-temperature",
            f"正解ラベルの項の重みが、T = 1 で {clean['unit'].fit.hard:.3g}、T = 5 で {clean['hot'].fit.hard:.3g} です。"
            "温度が関わるのは、ソフトターゲットの項だけです。",
        )
    for seen in clean.values():
        if not _near(seen.fit.hard, seen.want[1]):
            yield (
                "hard-weight",
                f"{seen.label}のとき、正解ラベルの項の重みが {seen.fit.hard:.3g} です。1 − α = {seen.want[1]:.3g} にしてください。",
            )


def _soft(clean: dict[str, Seen]) -> Finding:
    unit, hot = clean["unit"], clean["hot"]
    if _near(unit.fit.soft, unit.want[0]) and not _near(hot.fit.soft, hot.want[0]):
        yield (
            "temperature-squared",
            f"ソフトターゲットの項の重みは、T = 1 では正しいのに、T = 5 では、本来の {hot.fit.soft / hot.want[0]:.3g} 倍です。"
            "温度で割るとKLの勾配は約 1/T² に縮むので、T² を掛けて釣り合いを保ちます。",
        )
    for seen in clean.values():
        if not _near(seen.fit.soft, seen.want[0]):
            yield (
                "soft-weight",
                f"{seen.label}のとき、ソフトターゲットの項の重みが {seen.fit.soft:.3g} です。α·T² = {seen.want[0]:.3g} にしてください。"
                "KLは、クラスについて足し、標本について平均します。",
            )


def _rest(found: dict[str, Seen]) -> Finding:
    """ほかの場面の勾配と、動いた量。"""
    for name, seen in found.items():
        gap, place = _farthest(seen.grads, expected(seen.scene, seen.terms))
        if gap > NEAR:
            yield "gradient-mismatch", f"{place} の勾配が、正しい値から {gap:.2g} 違います（{name} の場面）。"
        gap, place = _farthest(seen.moved, {key: -RATE * grad for key, grad in seen.grads.items()})
        if gap > NEAR:
            yield (
                "moved-otherwise",
                f"生徒モデルの {place} が、optimizer の1回の更新とは違う量だけ動きました（差は {gap:.2g}）。",
            )


def _farthest(observed: Grads, wanted: Grads) -> tuple[float, str]:
    """最も大きな違いと、そのパラメータの名前。"""
    return max((float((observed[name] - value).abs().max()), name) for name, value in wanted.items())


def _tensor(value: object, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if value is None else torch.tensor(value, dtype=like.dtype).reshape(like.shape)


def _near(a: float, b: float) -> bool:
    return abs(a - b) < NEAR * max(1.0, abs(b))
