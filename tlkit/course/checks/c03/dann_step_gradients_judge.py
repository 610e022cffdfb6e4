"""演習 03-5 の判定のうち、更新に使われた勾配の中身。

観測した勾配を、損失の項ごとの勾配に分解し、係数（どの損失が、どの重みで足されたか）から診断を選ぶ。
ほかの判定は `dann_step_judge.py`、項ごとの勾配の計算は `dann_step_terms.py` にある。
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03.dann_step_model import RATES, Scene
from tlkit.course.checks.c03.dann_step_terms import DOMAIN, PARTS, Fit, Grads, expected, fit, gradients
from tlkit.course.checks.findings import Finding

NEAR = 1e-4
CLEAN = ("plain", "strong", "zero", "unequal")  # 古い勾配も BatchNorm もない場面


class Seen:
    """一つの場面で使われた勾配と、その分解。"""

    def __init__(self, record: Scene, scene: Scene) -> None:
        self.scene, self.terms = scene, gradients(scene)
        self.absent = all(grad is None for grad in record["grads"].values())
        self.grads: Grads = {name: _tensor(record["grads"].get(name), like) for name, like in self._likes()}
        self.moved: Grads = {name: _tensor(record["moved"].get(name), like) for name, like in self._likes()}

    def _likes(self) -> list[tuple[str, Tensor]]:
        return list(self.terms["class"].items())

    @property
    def finite(self) -> bool:
        """勾配も、動いた量も有限か。"""
        return all(bool(value.isfinite().all()) for value in (*self.grads.values(), *self.moved.values()))

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """部分ごとの分解。"""
        return {part: fit(self.grads, self.terms, part) for part in PARTS}

    @cached_property
    def domain(self) -> tuple[float, float, float, float]:
        """ドメイン識別器での係数（ソース→0、ソース→1、ターゲット→0、ターゲット→1）。"""
        weights = self.fits["ドメイン識別器"].weights
        a, b, c, d = (weights[term] for term in DOMAIN)
        return a, b, c, d

    def farthest(self, observed: Grads, wanted: Grads) -> tuple[str, float]:
        """最も違うパラメータの名前と、違いの大きさ。"""
        gaps = {name: float((observed[name] - value).abs().max()) for name, value in wanted.items()}
        name = max(gaps, key=lambda key: gaps[key])
        return name, gaps[name]


def _tensor(value: Any, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if value is None else torch.tensor(value, dtype=like.dtype).reshape(like.shape)


def gradient_findings(found: dict[str, Seen]) -> Finding:
    """更新の順番、クラスの項、ドメインの項、特徴抽出器、古い勾配、動いた量の順に調べる。"""
    if not all(seen.finite for seen in found.values()):
        yield "not-finite", "勾配かパラメータに、NaN か無限大が入りました。"
    if any(found[name].absent for name in CLEAN):
        yield (
            "no-gradients",
            "optimizer.step() のとき、どのパラメータにも勾配がありません。zero_grad、backward、step の順に呼んでください。",
        )
    clean = {name: found[name] for name in CLEAN}
    yield from _class(clean)
    yield from _domain(clean)
    yield from _extractor(clean)
    yield from _rest(found)


def _class(clean: dict[str, Seen]) -> Finding:
    fits = {name: seen.fits["分類器"] for name, seen in clean.items()}
    plain, unequal = (fits[name].weights for name in ("plain", "unequal"))
    if all(_is_zero(*each.weights.values()) and each.rest < NEAR for each in fits.values()):
        yield (
            "class-missing",
            "分類器の勾配が0です。ソースのクラスの損失も、ドメインの損失と一緒に backward してください。",
        )
    if fits["plain"].rest < NEAR and not _is_zero(plain["class-on-target"]):
        yield (
            "class-on-target",
            "ターゲットの画像に source_y を当てた損失が、混ざっています。source_y はソースの画像のラベルです。"
            "ターゲットのクラスのロジットは、学習に使いません。",
        )
    if max(each.rest for each in fits.values()) > NEAR:
        yield (
            "class-other",
            "分類器の勾配が、ソースの交差エントロピーの勾配の定数倍ではありません。cross_entropy には softmax の前のロジットと"
            "ソースのラベルだけを渡し、ターゲットの予測などを足さないでください。",
        )
    if _is_near(plain["class"] / 6, unequal["class"] / 8):
        yield (
            "class-sum",
            f"クラスの損失の重みが、ソース6件のとき {plain['class']:.3g}、8件のとき {unequal['class']:.3g} です。"
            "件数で変わらないように、和でなく平均にしてください。",
        )
    for name, each in fits.items():
        if not _is_near(each.weights["class"], 1):
            yield (
                "class-weight",
                f"クラスの損失に、重み {each.weights['class']:.3g} が掛かっています（λ = {clean[name].scene['lambda']}）。重みはいつも1です。",
            )


def _domain(clean: dict[str, Seen]) -> Finding:
    rest = max(seen.fits["ドメイン識別器"].rest for seen in clean.values())
    if rest < NEAR and all(_is_zero(*seen.domain) for seen in clean.values()):
        yield (
            "domain-missing",
            "ドメイン識別器の勾配が0です。ドメインの損失も backward してください。勾配の反転は、識別器そのものの勾配を変えません。",
        )
    if rest > NEAR:
        yield (
            "domain-other",
            "ドメイン識別器の勾配が、二つのドメインの交差エントロピーの和になっていません。"
            "ドメインのロジットは2列なので、ラベル0か1の2クラスの cross_entropy を使います。",
        )
    yield from _labels(clean["plain"])
    yield from _signs(clean["plain"])
    yield from _strengths(clean)


def _labels(plain: Seen) -> Finding:
    source_0, source_1, target_0, target_1 = plain.domain
    if _is_zero(source_0, target_1) and not _is_zero(source_1, target_0):
        yield (
            "labels-swapped",
            "ドメインのラベルが逆です。ソースが1、ターゲットが0として学習されました。約束は、ソースが0、ターゲットが1です。"
            "特徴の学習は同じになりますが、識別器の出力を読む側が、取り違えます。",
        )
    if not _is_zero(target_0):
        yield (
            "target-label",
            f"ターゲットをドメイン0（ソースのラベル）とする損失が、重み {target_0:.3g} で入っています。"
            "ターゲットのラベルは1です。両方が同じラベルなら、識別器は何も見分けません。",
        )
    if not _is_zero(source_1):
        yield (
            "source-label",
            f"ソースをドメイン1（ターゲットのラベル）とする損失が、重み {source_1:.3g} で入っています。ソースのラベルは0です。",
        )


def _signs(plain: Seen) -> Finding:
    source, _, _, target = plain.domain
    if source < -NEAR or target < -NEAR:
        yield (
            "domain-sign",
            "ドメイン識別器が、見分けられなくなる向きに学習しています。損失を引いていませんか。"
            "識別器は、損失を小さくする向きに学習します。符号は、モデルの中の勾配反転層が、特徴抽出器へ流すときに変えます。",
        )
    for weight, title in ((source, "ソース"), (target, "ターゲット")):
        if _is_zero(weight):
            yield (
                "one-domain",
                f"ドメインの損失に、{title}の項がありません。片方だけなら、いつも同じ答えを出せば損失が0になり、見分ける必要がありません。",
            )


def _strengths(clean: dict[str, Seen]) -> Finding:
    plain, unequal = clean["plain"].domain, clean["unequal"].domain
    for name in ("strong", "zero"):
        if not _is_near(clean[name].domain[0], plain[0]):
            yield (
                "lambda-on-loss",
                "λ を変えると、ドメイン識別器の勾配まで変わります。λ は勾配反転層だけで使います。"
                "損失にも掛けると、特徴抽出器には λ が二重に掛かり、λ = 0 では識別器が学習されません。",
            )
    if not _is_near(plain[0], plain[3]):
        yield (
            "domain-unbalanced",
            f"ソース6件、ターゲット6件のとき、ドメインの損失の重みがソース {plain[0]:.3g}、ターゲット {plain[3]:.3g} です。½ ずつにしてください。",
        )
    if not _is_near(unequal[0], unequal[3]):
        code = "pooled-mean" if _is_near(plain[0], 0.5) else "domain-sum"
        yield (
            code,
            f"ソース8件、ターゲット5件のとき、ドメインの損失の重みがソース {unequal[0]:.3g}、ターゲット {unequal[3]:.3g} です。"
            "件数の多いドメインに偏っています。ドメインごとに平均してから、½ ずつ足してください。",
        )
    if not _is_near(plain[0], 0.5):
        yield (
            "domain-weight",
            f"ドメインの損失の重みが、二つのドメインとも {plain[0]:.3g} です。½ ずつにしてください。",
        )


def _extractor(clean: dict[str, Seen]) -> Finding:
    for name, seen in clean.items():
        part, strength = seen.fits["特徴抽出器"], -seen.scene["lambda"] / 2
        want = dict.fromkeys(part.weights, 0.0) | {"class": 1.0, "source-0": strength, "target-1": strength}
        domain = part.weights["source-0"], part.weights["target-1"]
        explained = part.rest < NEAR and _is_near(part.weights["class"], 1) and name != "zero"
        if explained and all(_is_near(weight, -strength) for weight in domain):
            yield (
                "double-reversal",
                "特徴抽出器が、ドメインを見分けやすくする向きに動いています。勾配反転層が変えた符号を、もう一度変えていませんか。",
            )
        if explained and _is_zero(*domain):
            yield (
                "features-untouched",
                "特徴抽出器に、ドメインの損失の勾配が届いていません。ロジットを detach すると、反転した勾配も流れません。",
            )
        if part.rest > NEAR or not all(_is_near(part.weights[term], value) for term, value in want.items()):
            yield (
                "extractor-gradient",
                f"特徴抽出器の勾配が違います（λ = {seen.scene['lambda']}）。クラスの損失の勾配が1倍、ドメインの損失の勾配が −λ 倍で"
                f"届くはずですが、クラスが {part.weights['class']:.3g} 倍、ソースとターゲットのドメインの項が"
                f" {domain[0]:.3g} 倍と {domain[1]:.3g} 倍（正しくは {strength:.3g} 倍ずつ）でした。",
            )


def _rest(found: dict[str, Seen]) -> Finding:
    """古い勾配、BatchNorm のある場面、動いた量。"""
    stale, plain = found["stale"], found["plain"]
    if stale.farthest(stale.grads, plain.grads)[1] > NEAR:
        yield (
            "stale-gradients",
            "呼ぶ前から残っていた勾配が、更新に混ざりました。backward は、勾配に足し込みます。backward の前に optimizer.zero_grad() を呼んでください。",
        )
    for name, seen in found.items():
        place, gap = seen.farthest(seen.grads, expected(seen.scene, seen.terms))
        if gap > NEAR:
            where = "BatchNormのあるモデルで、" if name == "norm" else ""
            yield (
                "gradient-mismatch",
                f"{where}{place} の勾配が、正しい値から {gap:.2g} 違います。損失の各項を見直してください。",
            )
        rates = {part: RATES["extractor" if part.startswith(PARTS["特徴抽出器"]) else "heads"] for part in seen.grads}
        place, gap = seen.farthest(seen.moved, {part: -rates[part] * grad for part, grad in seen.grads.items()})
        if gap > NEAR:
            yield (
                "moved-otherwise",
                f"{place} が、optimizer の1回の更新とは違う量だけ動きました（差は {gap:.2g}）。パラメータを、ほかの方法で書き換えていませんか。",
            )


def _is_zero(*values: float) -> bool:
    return all(abs(value) < NEAR for value in values)


def _is_near(a: float, b: float) -> bool:
    return abs(a - b) < NEAR * max(1.0, abs(b))
