"""演習 02-2 の学習率の判定。どのパラメータも組に入っているとして、段ごとの学習率を調べる。

場面ごとの正しい割り当て（パラメータ → 段）もここで作る。
"""

import itertools
import math
from functools import cache
from typing import Any

from tlkit.course.checks.c02.layerwise_stages import BUILD, labels
from tlkit.course.checks.findings import Finding

Scene = dict[str, Any]
Scenes = dict[str, Scene]


@cache
def wanted(scene: str) -> dict[str, int]:
    """その場面で学習できるパラメータ（「段:名前」）→ 段の番号。共有されたものは、入力に近い段。"""
    stages = BUILD[scene]()
    names = labels(stages)
    trained = [value for stage in stages for value in stage.parameters() if value.requires_grad]
    return {names[id(value)]: int(names[id(value)].split(":")[0]) for value in trained}


def listed(scene: Scene) -> list[str]:
    """すべての組に入っているパラメータの名前。"""
    return [name for group in scene["groups"] for name in group["names"]]


def findings(seen: Scenes, settings: dict[str, dict[str, float]]) -> Finding:
    """破れた性質を順に挙げる。単純な場面で成り立つことを、後の場面で使う。"""
    yield from _plain(seen, settings)
    for name in ("single", "token", "frozen-parts"):
        yield from _scene(name, seen, settings, "rate-mismatch", "")
    yield from _scene(
        "bare-stage",
        seen,
        settings,
        "bare-not-counted",
        "パラメータのない段（Flatten や ReLU）も、k に数えます。学習率は、出力から何段離れているかで決まります。",
    )
    yield from _scene(
        "frozen-stage",
        seen,
        settings,
        "frozen-not-counted",
        "凍結した段も、k に数えます。数えないと、どこを凍結するかで、ほかの段の学習率まで変わってしまいます。",
    )
    for name in ("shared", "wholly-shared"):
        yield from _scene(
            name,
            seen,
            settings,
            "shared-rate",
            "二つの段が共有するパラメータは、入力に近い段の（小さいほうの）学習率にしてください。ほかの段の学習率も変えません。",
        )


def _plain(seen: Scenes, settings: dict[str, dict[str, float]]) -> Finding:
    """凍結も共有もない 4 段。学習率を、入力側から順に調べる。"""
    for name in ("plain", "gentle", "equal"):
        if any(max(values) - min(values) > 1e-9 * max(map(abs, values)) for values in _by_stage(seen[name]).values()):
            yield (
                "uneven-stage",
                "同じ段のパラメータなのに、学習率が違います。k は、パラメータの番号ではなく、段の番号です。",
            )
    plain, gentle = (_rates(seen[name]) for name in ("plain", "gentle"))
    base, decay = settings["plain"]["base_lr"], settings["plain"]["decay"]
    if _same(plain, gentle):
        yield from _constant(plain)
    yield from _direction(plain, base)
    yield from _shape(plain, base, decay)
    for name in ("plain", "gentle", "equal"):
        yield from _scene(name, seen, settings, "rate-mismatch", "")


def _constant(plain: list[float]) -> Finding:
    """Decay を変えても変わらない学習率。"""
    if _same(plain, plain[:1] * len(plain)):
        yield "all-equal", "どの段の学習率も同じです。入力に近い段ほど、decay で割って小さくしてください。"
    yield "decay-ignored", "decay を変えても、学習率が変わりません。引数の decay を使ってください。"


def _direction(plain: list[float], base: float) -> Finding:
    """学習率が、入力側から出力側へ増えているか。"""
    if plain[0] > plain[-1] and _near(plain[-1], base):
        yield (
            "grows-toward-input",
            f"出力の段の学習率は base_lr ですが、入力に近い段ほど大きくなっています（入力側から {_shown(plain)}）。"
            "decay は、掛けるのではなく割ります。入力に近い、汎用的な特徴ほど、小さく動かします。",
        )
    if plain[0] > plain[-1]:
        yield (
            "reversed",
            f"入力の段の学習率が最も大きく、出力の段が最も小さくなっています（入力側から {_shown(plain)}）。"
            "k は、入力ではなく出力から数えてください。",
        )


def _shape(plain: list[float], base: float, decay: float) -> Finding:
    """隣の段との比と、出力の段の学習率。"""
    ratios = [b / a if a else math.inf for a, b in itertools.pairwise(plain)]
    even = _same(ratios, ratios[:1] * len(ratios))
    if even and _near(ratios[0], decay) and _near(plain[-1], base):
        return
    if even and _near(ratios[0], decay) and _near(plain[0], base):
        yield (
            "anchored-at-stem",
            f"base_lr になっているのは、入力の段です（入力側から {_shown(plain)}）。base_lr は出力の段に割り当て、ほかはそれより小さくします。",
        )
    if even and _near(ratios[0], decay):
        yield (
            "head-rate",
            f"隣の段との比は正しいものの、出力の段の学習率が {plain[-1]:.4g} です（base_lr は {base:.4g}）。"
            "出力の段は k = 0 で、base_lr そのものです。",
        )
    if even:
        yield (
            "ratio",
            f"隣り合う段の学習率の比が {ratios[0]:.4g} です（decay は {decay:.4g}）。1段離れるごとに、decay で1回割ります。",
        )
    yield (
        "not-geometric",
        f"隣り合う段の学習率の比がそろっていません（入力側から {_shown(plain)}）。比はどこでも decay（{decay:.4g}）です。"
        "decay を k 倍するのではなく、k 乗で割ります。",
    )


def _scene(name: str, seen: Scenes, settings: dict[str, dict[str, float]], code: str, why: str) -> Finding:
    """その場面のすべてのパラメータの学習率が、base_lr / decay**k か。"""
    base, decay = settings[name]["base_lr"], settings[name]["decay"]
    stages, last = wanted(name), len(BUILD[name]()) - 1
    for group in seen[name]["groups"]:
        for item in group["names"]:
            want = base / decay ** (last - stages[item])
            if not _near(group["rate"], want):
                yield (
                    code,
                    f"{why}段が{last + 1}個、base_lr = {base:.4g}、decay = {decay:.4g} のとき、"
                    f"パラメータ {item} の学習率が {group['rate']:.4g} です（k = {last - stages[item]} なので {want:.4g} になるはずです）。",
                )


def _by_stage(scene: Scene) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for group in scene["groups"]:
        for item in group["names"]:
            found.setdefault(int(item.split(":")[0]), []).append(group["rate"])
    return found


def _rates(scene: Scene) -> list[float]:
    """段ごとの学習率。入力側から順。"""
    return [values[0] for _, values in sorted(_by_stage(scene).items())]


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)


def _same(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(map(_near, a, b))


def _shown(values: list[float]) -> str:
    return "、".join(f"{value:.3g}" for value in values)
