"""演習 03-6 の判定。返り値と重み、初めの層の統計、後ろの層の統計、元に戻すものの順に調べる。

移動統計の計算と分解は `adabn_statistics.py`、場面は `adabn_model.py` にある。
"""

from typing import Any

import numpy as np

from tlkit.course.checks.c03.adabn_model import COUNT, LAYERS
from tlkit.course.checks.c03.adabn_statistics import DEEPER, FIRST, Seen, near
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

NEAR = 2e-3
MODES = {"eval": "評価モードで渡すと", "train": "学習モードで渡すと", "mixed": "凍結された BatchNorm があると"}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    if verdict := first_raised(data):
        return verdict
    found = {name: Seen(record["value"], inputs["scenes"][name]) for name, record in data.items()}
    return first(_findings(found)) or PASSED


def _findings(found: dict[str, Seen]) -> Finding:
    for seen in found.values():
        yield from _result(seen)
    for seen in found.values():
        yield from _form(seen)
    yield from _moved(found)
    yield from _first_layer(found)
    yield from _deeper(found)
    yield from _everything(found)
    for seen in found.values():
        yield from _restored(seen)


def _result(seen: Seen) -> Finding:
    record, changed = seen.record, seen.record["changed"]
    if not record["same"]:
        yield (
            "not-same-model",
            f"返り値（{record['type']}）が、渡したモデルそのものではありません。受け取ったモデルの統計をその場で変えて、return してください。",
        )
    if changed["values"]:
        yield (
            "weights-changed",
            f"{changed['values'][0]} の値が変わりました。AdaBN が変えるのは移動統計だけで、学習はしません。"
            "reset_parameters は γ と β まで初期値に戻すので、reset_running_stats を使います。",
        )
    if changed["trainable"]:
        yield "flags-changed", f"{changed['trainable'][0]} の requires_grad が変わりました。元のままにしてください。"
    if not record["kept"]:
        yield "modules-replaced", "モデルの部品が、別のものに差し替えられました。同じ層の移動統計だけを変えてください。"


def _form(seen: Seen) -> Finding:
    if not seen.complete:
        yield (
            "statistics-broken",
            "呼んだ後に、移動統計のない層、大きさの違う層、または NaN か無限大の入った層があります。"
            "running_mean と running_var は、どちらも特徴の数だけの有限な数です。",
        )
    for layer in seen.record["layers"].values():
        if layer["dtypes"] != ["float32", "float32", "int64"]:
            yield (
                "statistics-dtype",
                f"移動統計の dtype が {'、'.join(layer['dtypes'])} に変わりました。float32、float32、int64 のままにしてください。",
            )
        if layer["inference"]:
            yield (
                "inference-tensors",
                "移動統計が、inference_mode の中で作られたテンソルに差し替わりました。このモデルを後で学習すると、例外になります。"
                "中身だけを書き換えるか、torch.no_grad() を使ってください。",
            )


def _moved(found: dict[str, Seen]) -> Finding:
    """統計の変わらない層があるか。"""
    for name in (name for name in found if name != "once"):
        still = found[name].untouched()
        if len(still) == len(LAYERS):
            yield (
                "nothing-moved",
                "どの BatchNorm の移動統計も、ソースのままです。移動統計が動くのは、学習モードの BatchNorm に入力を通したときです。",
            )
        if still:
            yield (
                "layer-left",
                f"{MODES[found[name].scene['mode']]}、{still[0]} の BatchNorm の移動統計が、ソースのままです。"
                "BatchNorm には 1d も 2d もあり、部品の奥にも、凍結された部分にもあります。すべての層を測り直してください。",
            )


def _first_layer(found: dict[str, Seen]) -> Finding:
    """初めの BatchNorm の統計。入力は、ほかの層の設定によらない。"""
    base, uneven = found["eval"], found["uneven"].means
    weights = base.means.batches
    if base.means.rest < NEAR:
        yield from _leftover(base)
        if max(map(abs, weights[:-1])) < NEAR or max(map(abs, weights[1:])) < NEAR:
            yield (
                "one-batch",
                "統計が、一つのバッチだけで決まっています。すべてのバッチを、同じ重みで平均してください。",
            )
        if max(weights) - min(weights) > NEAR:
            yield (
                "unequal-batches",
                f"同じ大きさの三つのバッチの重みが {_listed(weights)} です。1/3 ずつにしてください。重みが、バッチの順番で変わっています。",
            )
    yield from _variance(base)
    if uneven.rest < NEAR and max(uneven.batches) - min(uneven.batches) > NEAR:
        yield (
            "weighted-by-size",
            f"8件、8件、3件のバッチの重みが {_listed(uneven.batches)} です。この演習では、PyTorch の momentum=None と同じく、"
            "大きさの違うバッチも 1/3 ずつの重みで平均します。",
        )


def _leftover(base: Seen) -> Finding:
    """ソースの統計や、リセットした値が残っていないか。"""
    source, weights = base.means.source, base.means.batches
    if abs(source) > NEAR:
        yield (
            "source-left",
            f"初めの BatchNorm の平均に、ソースの統計が {source:.1%} 残っています。loader をまわす前に、移動統計を初期化してください。",
        )
    if max(map(abs, weights)) < NEAR:
        yield (
            "reset-only",
            "初めの BatchNorm の平均が、リセットした0のままです。移動統計が動くのは、学習モードの BatchNorm に入力を通したときです。",
        )
    if abs(left := 1 - sum(weights)) > NEAR and base.counts[FIRST] == COUNT + len(base.each):
        yield (
            "count-not-reset",
            f"num_batches_tracked が {base.counts[FIRST]} です。0に戻さなかったので、momentum=None の平均が、前に見たバッチまで数えています。"
            "reset_running_stats() は、平均、分散、回数の三つを戻します。",
        )
    if abs(left) > NEAR:
        yield (
            "initial-left",
            f"三つのバッチの重みが {_listed(weights)} で、合計が1になりません。リセットした値が {left:.1%} 残っています。"
            "momentum が定数のままだと、初めの値が消えず、後のバッチほど重くなります。",
        )


def _variance(base: Seen) -> Finding:
    (mean, variance), (right_mean, right_variance) = base.found[FIRST], base.wanted(FIRST)
    if not near(mean, right_mean) or near(variance, right_variance):
        return
    ratios: np.ndarray = variance / right_variance
    if ratios.max() < 1 and ratios.max() - ratios.min() < NEAR:
        yield (
            "biased-variance",
            f"初めの BatchNorm の分散が、どの特徴でも正しい値の {ratios.mean():.4f} 倍です。"
            "移動統計に入れる分散は、n でなく n − 1 で割った不偏分散です（PyTorch の約束）。",
        )
    if ratios.min() > 0.95 and ratios.max() > 1 + NEAR:
        yield (
            "pooled-variance",
            f"初めの BatchNorm の分散が、正しい値より大きくなりました（最大で {ratios.max():.2f} 倍）。バッチごとの分散の平均ではなく、"
            "全部のバッチをまとめた分散ではありませんか。まとめると、バッチの間の平均の違いまで入ります。",
        )
    yield (
        "variance-wrong",
        f"初めの BatchNorm の平均は正しいのですが、分散が違います（正しい値の {ratios.min():.3g} 倍から {ratios.max():.3g} 倍）。",
    )


def _deeper(found: dict[str, Seen]) -> Finding:
    for name in DEEPER:
        if not near(found["train"].found[name], found["train-again"].found[name]):
            yield _noisy(found["train"])
    for name in DEEPER:
        if not near(found["eval"].found[name], found["dimmed"].found[name]):
            yield (
                "earlier-layers",
                f"バッチの明るさを変えると、後ろの BatchNorm（{name}）の統計まで変わります。前の BatchNorm が、そのバッチの統計でなく、"
                "固定した統計で正規化しています。すべての BatchNorm を同時に学習モードにして、1回だけ通してください。",
            )


def _noisy(seen: Seen) -> tuple[str, str]:
    if any(each["dropout"] for each in seen.record["passes"]):
        return (
            "dropout-on",
            "同じ入力でも、乱数によって統計が変わります。Dropout が働いたまま測っています。学習モードにするのは、BatchNorm だけです。",
        )
    return (
        "noise-on",
        "同じ入力でも、乱数によって統計が変わります。Dropout は止まりましたが、学習モードでだけ雑音を足す部品（Jitter）が働いています。"
        "部品の型を挙げるのではなく、全体を評価モードにしてから、BatchNorm だけを学習モードにしてください。",
    )


def _everything(found: dict[str, Seen]) -> Finding:
    wrong = {name: [layer for layer in LAYERS if not seen.right(layer)] for name, seen in found.items()}
    if wrong["once"] and not wrong["eval"]:
        yield (
            "loader-once",
            "一度しか回せない loader（ジェネレーターなど）を渡すと、統計が違います。loader を何度もまわさず、1回だけまわしてください。",
        )
    for name, layers in wrong.items():
        if layers:
            seen = found[name]
            gap = float(np.abs(seen.found[layers[0]] - seen.wanted(layers[0])).max())
            yield (
                "statistics-wrong",
                f"{MODES.get(name, f'バッチが {len(seen.each)} 個のとき')}、{layers[0]} の移動統計が、正しい値から最大 {gap:.2g} 違います。"
                "ほかの層を含めて、どの入力から、どの重みで平均したかを確かめてください。",
            )


def _restored(seen: Seen) -> Finding:
    record, changed = seen.record, seen.record["changed"]
    if changed["modes"]:
        yield (
            "modes-changed",
            f"{MODES[seen.scene['mode']]}、呼んだ後に {changed['modes'][0]} の学習・評価のモードが変わっています。呼ぶ前のモードに、部品ごとに戻してください。",
        )
    if changed["momenta"]:
        yield (
            "momentum-changed",
            f"呼んだ後に、{changed['momenta'][0]} の momentum が変わっています。後で学習を続けると、統計の動き方が変わります。"
            "値は層ごとに違うことがあります。層ごとに控えて戻してください。",
        )
    if changed["grads"]:
        yield "gradients-left", f"呼んだ後に、{changed['grads'][0]} に勾配が残っています。勾配は要りません。"
    if any(each["grad"] for each in record["passes"]):
        yield (
            "grad-enabled",
            "勾配を計算する設定のまま、モデルに通しています。結果は同じですが、計算グラフのためにメモリを使います。torch.no_grad() の中で通してください。",
        )
    if len(record["passes"]) > len(seen.each):
        yield (
            "extra-pass",
            f"{len(seen.each)} 個のバッチに対して、モデルに {len(record['passes'])} 回通しています。1回ずつで足ります。",
        )
    for name, count in seen.counts.items():
        if count != len(seen.each):
            yield (
                "count-wrong",
                f"{name} の num_batches_tracked が {count} です。測り直したバッチの数 {len(seen.each)} にしてください。",
            )


def _listed(weights: list[float]) -> str:
    return "、".join(f"{weight:.3g}" for weight in weights)
