"""演習 03-3 の判定が使う、値の性質。正しい損失が必ず持ち、手で値や関係の分かるものを並べる。

前の性質が成り立つことを、後の性質が使う（有限か → 動かしても同じか → 重み → カーネル → 帯域幅）。場合の作り方は `mmd_loss.py` にある。
"""

import math
from typing import Any

from tlkit.course.checks.c03 import mmd_loss_judge_reference as reference
from tlkit.course.checks.findings import Finding, Records, close
from tlkit.course.checks.trial import failed

TIED = ("collapsed", "coincident", "clusters", "mixed")  # 中央値を誤ると 0/0 になりうる場合


def properties(records: Records, gradients: Records) -> Finding:
    """破れた性質を順に挙げる。gradients は、D = 512 での勾配の様子を文に添えるのに使う。"""
    v = {name: record["value"] for name, record in records.items()}
    yield from _finite(v)
    yield from _invariances(v, gradients)
    yield from _weights(v)
    yield from _profile(v)
    yield from _median(v)


def _finite(v: dict[str, Any]) -> Finding:
    if v["ruler-1.0"] < -10 or v["ruler-1.0"] == -math.inf:
        yield "kernel-grows", "遠い点ほどカーネルの値が大きくなっています。exp の中の符号を確かめてください。"
    if not all(math.isfinite(number) for name, number in v.items() if name not in TIED):
        yield (
            "not-finite",
            "値が NaN か無限大になる例があります。0での割り算、負の数の平方根がないか確かめてください。"
            "中央値に、対角や三角行列の余りの0が混ざると、帯域幅が0になります。",
        )
    if abs(v["scaled-more"]) > 20 and abs(v["scaled-more"]) > 2 * abs(v["scaled"]):
        yield (
            "unbounded",
            "x と y を1000倍に広げると、値が限りなく増えます。RBFカーネルは1を超えないので、MMD²は2を超えません。"
            "距離を exp に通しているか確かめてください。",
        )


def _invariances(v: dict[str, Any], gradients: Records) -> Finding:
    """平行移動、並べ替え、拡大、回転で値は変わらない。"""
    base = v["base"]
    if not close(v["shifted"], base, 1e-4):
        yield (
            "position-dependent",
            "x と y を同じだけ平行移動すると、値が変わりました。カーネルは二つの点の差だけで決まるはずです。",
        )
    if not (close(v["shuffled"], base, 1e-4) and close(v["square-shuffled"], v["square"], 1e-4)):
        yield (
            "order-dependent",
            "行を並べ替えると、値が変わりました。x の i 行目と y の i 行目に対応はありません。"
            "一部の組だけを使ったり、同じ番号の組を除いたりしていないか確かめてください。",
        )
    if not close(v["scaled"], base, 1e-4):
        yield "fixed-bandwidth", _fixed_bandwidth(gradients["high"])
    if not close(v["rotated"], base, 1e-4):
        yield (
            "not-euclidean",
            "座標の軸を回すと、値が変わりました。カーネルに渡すのは、ユークリッド距離の二乗 Σ_d (a_d − b_d)² です。",
        )


def _fixed_bandwidth(high: dict[str, Any]) -> str:
    message = (
        "x と y を10倍に広げると、値が変わりました。帯域幅をデータの距離の中央値から決めれば、単位を変えても値は同じです。"
        "σ に決まった数を使っていないか、距離と距離の二乗を取り違えていないか確かめてください。"
    )
    grads = [] if failed(high) else high.get("grads", [])
    if grads and all(number == 0 for grad in grads if grad is not None for row in grad for number in row):
        message += (
            "D = 512の例では、すべての組のカーネルの値が0になり、勾配もちょうど0です。これでは何も学習されません。"
        )
    return message


def _weights(v: dict[str, Any]) -> Finding:
    """ruler では x と y が遠く、equidistant ではどの 2 点の距離も等しい。"""
    far, equal = v["ruler-1.0"], v["equidistant"]
    if far < 1e-6:
        yield "sign", "遠く離れた二つの標本で、値が正になりません。足す項と引く項の符号を確かめてください。"
    if equal > far + 1e-6:
        yield (
            "cross-sign",
            "x と y を遠く離したときより、混ざっているときのほうが大きな値になりました。x と y の組の項は、足さずに引きます。",
        )
    if math.isfinite(v["collapsed"]) and abs(v["collapsed"]) > 1e-6:
        yield (
            "weights",
            f"すべての点が同じ場所にあるのに、値が0でなく {v['collapsed']:.3g} です。カーネルの値はどれも1なので、"
            "三つの平均は1 + 1 − 2で打ち消し合うはずです。割る数（N(N−1)、M(M−1)、NM）と係数を確かめてください。",
        )
    if equal > 1e-6:
        yield (
            "biased",
            f"どの2点の距離も等しい例で、値が0でなく {equal:.3g} です。値が上にずれるのは、自分自身との組 k(x_i, x_i) = 1 を数えているからです。"
            "偏りのない推定では i = j の組を除きます。",
        )
    if equal < -1e-6:
        yield (
            "weights",
            f"どの2点の距離も等しい例で、値が0でなく {equal:.3g} です。三つの平均の割る数を確かめてください。",
        )
    if math.isfinite(v["mixed"]) and v["mixed"] > -1e-6:
        yield (
            "never-negative",
            f"x と y が同じ2点からなる例で、負になるはずの値が {v['mixed']:.3g} になりました。偏りのない推定は負にもなります。"
            "0で切り上げたり、絶対値や平方根を取ったりしないでください。",
        )


def _profile(v: dict[str, Any]) -> Finding:
    """ruler-t の値は k(t) + k(1)。ここから、学習者の使ったカーネルの形を読む。"""
    if not close(v["swapped"], v["base"], 1e-4):
        yield (
            "asymmetric",
            "x と y を入れ替えると、値が変わりました。帯域幅は x と y を合わせた全部の点から決め、二つの標本を同じように扱います。",
        )
    if not close(v["ruler-farther"], v["ruler-1.0"], 1e-6):
        yield (
            "not-median",
            "x と y を遠く離してから、さらに離すと、値が変わりました。帯域幅が、遠い点に引っ張られています。"
            "平均でなく中央値を、x と y の間だけでなく、合わせた全標本の2点の組で取ってください。",
        )
    one = v["ruler-1.0"] / 2
    k = {times: v[f"ruler-{times}"] - one for times in (0.0, 0.025, 0.05, 0.5, 2.0, 4.0)} | {1.0: one}
    if not close(k[0.0], 1, 1e-3):
        yield (
            "not-averaged",
            f"同じ場所にある2点のカーネルの値が、1でなく {k[0.0]:.3g} です。五つのカーネルは、足さずに平均します。"
            "足すと、損失の大きさがカーネルの数で変わります。",
        )
    wanted = {times: reference.profile(times) for times in k}
    if all(close(k[times], wanted[times], 2e-4) for times in k):
        return
    yield from _shape(k)


def _shape(k: dict[float, float]) -> Finding:
    """形が違うときの、違い方。"""
    if (1 - k[0.05]) < 3 * (1 - k[0.025]):
        yield (
            "distance-not-squared",
            "近い2点の距離を半分にすると、カーネルの1からの減りも半分になりました。ガウスのカーネルなら1/4です。exp に渡すのは、距離の二乗です。",
        )
    rates = [-math.log(k[times]) / times**2 for times in (0.5, 1.0, 2.0) if 0 < k[times] < 1]
    if len(rates) == 3 and max(rates) - min(rates) < 1e-3 * max(rates):
        yield (
            "one-bandwidth",
            "カーネルが、一つのガウスです。帯域幅を0.5倍から2倍まで変えた、五つのカーネルを平均してください。",
        )
    if (width := _width(k)) is not None:
        yield (
            "bandwidth-scale",
            f"カーネルの形は合っていますが、帯域幅が、本来のおよそ {width:.3g} 倍です。"
            "σ²は中央値の半分で、exp の中の分母は2σ²です。2の付け忘れや、二重に付けた所がないか確かめてください。",
        )
    yield (
        "multipliers",
        f"距離の二乗がちょうど中央値に等しい2点のカーネルの値が、{reference.profile(1.0):.4f} でなく {k[1.0]:.4f} です。"
        "五つの倍率（0.5、1/√2、1、√2、2）は、σ²でなくσに掛けます。数と倍率を確かめてください。",
    )


def _width(k: dict[float, float]) -> float | None:
    """形が同じで幅だけが違うなら、幅の比。"""
    low, high = 1e-3, 1e3  # k(1) = profile(1 / 幅) となる幅を、二分法で求める
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reference.profile(1 / middle) < k[1.0] else (low, middle)
    same = all(close(k[times], reference.profile(times / low), 1e-3) for times in (0.5, 2.0))
    return low if same else None


def _median(v: dict[str, Any]) -> Finding:
    """clusters では、距離 0 の組が 6、距離 d の組が 9 ある。中央値は d²、損失は 2 − 2k(1)。"""
    wanted = 2 - 2 * reference.profile(1.0)
    if not v["clusters"] <= wanted + 1e-4:
        yield (
            "median-diagonal",
            "3点ずつ重なった二つのかたまりの例で、帯域幅が小さすぎます。異なる2点の組15のうち、距離0は6なので、中央値は0になりません。"
            "自分自身との距離0を、中央値に数えていないか確かめてください。",
        )
