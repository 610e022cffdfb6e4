"""演習 02-6 の判定。返り値と本体の状態、分類層の形、解の性質の順に調べる。

解の性質は、最小点の条件（勾配が 0）が、どのように破れているかから選ぶ。式の計算は `warm_start_optimum.py` にある。
"""

from typing import Any

from tlkit.course.checks.c02.warm_start_optimum import Solution, relative
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict

Scenes = dict[str, dict[str, Any]]
NAMES = {
    "shifted": "特徴に定数を足した例",
    "plain": "ふつうの例",
    "scaled": "特徴の次元ごとに大きさの違う例",
    "five": "5クラスでfloat64の例",
}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    return first_raised(data) or first(_findings(data, inputs["scenes"])) or PASSED


def _findings(data: Any, scenes: Scenes) -> Finding:
    seen = {name: record["value"] for name, record in data.items()}
    for name, scene in seen.items():
        yield from _outside(scene)
        yield from _form(scene, scenes[name])
    yield from _solutions({name: Solution(scene, scenes[name]) for name, scene in seen.items()})
    for scene in seen.values():
        yield from _left_behind(scene)


def _outside(scene: dict[str, Any]) -> Finding:
    """返り値と、分類層のほかの部分。"""
    changed = scene["changed"]
    if changed["parameters"]:
        yield (
            "backbone-changed",
            f"分類層でない {changed['parameters'][0]} の値が変わりました。"
            "本体を動かすのは、この後のファインチューニングの仕事です。動かすのは分類層だけにしてください。",
        )
    if changed["statistics"]:
        yield (
            "statistics-moved",
            f"呼んだ後に、移動統計 {changed['statistics'][0]} が変わりました。特徴はすでに計算してあります。"
            "モデルに通さず、特徴に分類層だけを掛けてください。",
        )
    if changed["modes"]:
        yield (
            "modes-changed",
            f"呼んだ後に、部品 {changed['modes'][0]} の学習・評価のモードが変わりました。特徴は渡されるので、モードを変える必要はありません。",
        )
    if changed["trainable"]:
        yield (
            "flags-changed",
            f"呼んだ後に、{changed['trainable'][0]} の requires_grad が変わりました。"
            "一時的に凍結したのなら、元に戻してください。分類層の重みだけを最適化すれば、凍結そのものが要りません。",
        )


def _form(scene: dict[str, Any], given: dict[str, Any]) -> Finding:
    """分類層が同じ層のままで、形と dtype が保たれているか。"""
    want = str(given["features"].dtype).removeprefix("torch.")
    for name in ("weight", "bias"):
        found, shape = scene[name], list(given[name].shape)
        if found["shape"] != shape:
            yield (
                "head-shape",
                f"分類層の {name} の形が {tuple(found['shape'])} です。{tuple(shape)} のままにしてください。",
            )
        if found["dtype"] != want:
            yield (
                "head-dtype",
                f"分類層の {name} の dtype が {want} から {found['dtype']} に変わりました。NumPy の float64 をそのまま入れていませんか。"
                "copy_ で値だけを写せば、dtype も装置も保たれます。",
            )
    if not scene["kept"]:
        yield (
            "head-replaced",
            "分類層かそのパラメータが、別のものに差し替えられました。先に作ったオプティマイザは、古いパラメータを持ったままになります。"
            "同じ層の weight と bias に、値だけを書き込んでください。",
        )


def _left_behind(scene: dict[str, Any]) -> Finding:
    """値が正しいときに、後の学習の妨げになるもの。"""
    if scene["returned"] != "ok":
        yield (
            "other-returned",
            f"返り値が {scene['returned']} です。受け取ったモデルそのものか、None を返してください。",
        )
    if scene["frozen"]:
        yield (
            "head-frozen",
            f"呼んだ後に、分類層の {scene['frozen'][0]} の requires_grad が False になりました。この後のファインチューニングで、分類層が学習されません。",
        )
    if scene["graded"]:
        yield (
            "gradients-left",
            f"呼んだ後に、{scene['graded'][0]} に勾配（grad）が残っています。zero_grad を忘れた学習の1歩目に、古い勾配が混ざります。"
            "切り離したテンソルで解くか、最後に model.zero_grad() で消してください。",
        )


def _solutions(found: dict[str, Solution]) -> Finding:
    if broken := next((name for name, s in found.items() if not s.finite), None):
        yield (
            "not-finite",
            f"分類層に NaN か無限大が入りました（{NAMES.get(broken, broken)}）。学習率が大きすぎて、発散していませんか。",
        )
    bad = {name for name, s in found.items() if not s.solved}
    if not bad:
        return
    if bad <= {"scaled", "shifted"}:
        yield (
            "scaled-not-converged",
            "特徴の大きさや平均が次元ごとに大きく違う例でだけ、最小点に着いていません。"
            f"{_values(found[min(bad)])}反復の上限と、止まる条件を見直してください。",
        )
    yield from _written(found)
    yield from _invariances(found)
    yield from _penalty(found)
    yield from _loss(found)
    yield from _distance(found, bad)


def _written(found: dict[str, Solution]) -> Finding:
    """書き込まれたか、データを使ったか。"""
    still = {name: all(s.unchanged(name) for s in found.values()) for name in ("weight", "bias")}
    if all(still.values()):
        yield (
            "nothing-written",
            "分類層が、初期値のままです。求めた値を model.classifier の weight と bias に書き込んでください。"
            "写しを学習しても、元の分類層は変わりません。",
        )
    for name, title in (("weight", "重み"), ("bias", "バイアス")):
        if still[name]:
            yield f"{name}-untouched", f"分類層の{title}が、初期値のままです。{title}も一緒に最適化してください。"
    if found["plain"].same_head(found["relabelled"]):
        yield (
            "labels-ignored",
            "ラベルを並べ替えても、答えが変わりません。labels を使っていますか。モデルの予測をラベルの代わりにしてはいけません。",
        )


def _invariances(found: dict[str, Solution]) -> Finding:
    """答えが変わってはいけない場合。"""
    plain = found["plain"]
    if relative(plain.logits, found["start"].logits) > 0.05:
        yield (
            "depends-on-start",
            "同じ特徴とラベルでも、分類層の初期値が違うと、違う答えになります。凸な問題の最小点は、初期値によりません。"
            "反復が足りないか、前の重みを引きずっています。収束するまで最適化してください。",
        )
    if relative(plain.logits, found["repeated"].logits[: len(plain.logits)]) > 0.02:
        yield (
            "depends-on-count",
            "同じデータを5回くり返して並べると、答えが変わりました。交差エントロピーの和に罰則を足していませんか。"
            "損失は標本の平均です。件数が増えても、罰則とのつり合いは変わりません。",
        )


def _penalty(found: dict[str, Solution]) -> Finding:
    """罰則の掛かり方。最小点では、重みについての損失の勾配が −l2·W に等しい。"""
    plain = found["plain"]
    if plain.same_head(found["strong"]):
        yield "l2-ignored", "l2 を変えても、答えが変わりません。重みの罰則 l2/2·‖W‖² を目的関数に加えてください。"
    unsettled = [s for s in found.values() if not s.bias_settled]
    if unsettled and all(s.bias_shrunk for s in unsettled):
        yield (
            "bias-penalised",
            "バイアスが、0に引き寄せられています。罰則を掛けるのは重みだけです。"
            "オプティマイザの weight_decay は、渡したパラメータのすべてに掛かります。",
        )
    if unsettled:
        return
    ratios = [s.penalty_ratio for s in found.values()]
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) == len(ratios):
        yield from _factor(min(known), max(known))
    elif all(s.shrunk_by_column for s in found.values()):
        yield (
            "penalty-by-column",
            "罰則の強さが、特徴の次元ごとに違います。特徴を標準化してから解き、重みを元の目盛りに直しませんでしたか。"
            "罰則は、元の特徴に掛かる重みに掛けてください。",
        )


def _factor(low: float, high: float) -> Finding:
    """どの例でも、重みの勾配が重みと平行なとき。罰則の強さの、正しい強さに対する比から。"""
    if high - low > 0.1 * high:
        yield (
            "penalty-form",
            f"罰則の強さが、例によって {low:.2g} 倍から {high:.2g} 倍まで変わります。"
            "重みの二乗の和（平均や、二乗する前のノルムではありません）に l2/2 を掛けてください。",
        )
    if abs(low - 1) > 0.1:
        yield (
            "l2-factor",
            f"罰則が、どの例でも {low:.2g} 倍の強さで掛かっています。目的関数に足すのは l2/2·‖W‖² です。係数の 1/2 を確かめてください。",
        )


def _loss(found: dict[str, Solution]) -> Finding:
    """損失の種類。"""
    plain, shifted = found["plain"], found["shifted"]
    if plain.same_head(shifted):
        yield (
            "not-folded",
            "すべての特徴に定数を足しても、重みもバイアスも変わりません。標準化（中心化）した特徴で解いた答えを、そのまま書き込んでいます。"
            "書き込む分類層は、元の特徴に掛けます。",
        )
    if all(s.scores_matched and not s.bias_settled for s in found.values()):
        yield (
            "squared-error",
            "ロジットの平均が、クラスの割合に一致しています。0と1を目標に、二乗誤差で当てはめた答えです。"
            "一致するべきなのは、softmax の確率です。目的関数は交差エントロピーです。",
        )
    if all(s.sigmoids_matched and not s.bias_settled for s in found.values()):
        yield (
            "not-softmax",
            "クラスごとのシグモイドの確率の平均が、ラベルの割合に一致しています。クラスごとに別々の2値の問題として解いた答えです。"
            "全クラスの確率の和が1になる softmax の交差エントロピーを使ってください。",
        )
    if not all(s.bias_settled for s in (plain, found["five"])):
        yield (
            "rates-not-matched",
            "予測した確率の平均が、ラベルの割合と一致しません。罰則のないバイアスについて最小なら、必ず一致します。"
            "クラスや標本に重みを付けたり、ラベルをならしたり、バイアスを止めたりしていませんか。",
        )


def _distance(found: dict[str, Solution], bad: set[str]) -> Finding:
    """性質では見分けられない誤り。目的関数の値を知らせる。"""
    name = next(name for name in found if name in bad)
    yield (
        "not-minimum",
        f"分類層が、目的関数の最小点にありません（{NAMES.get(name, name)}）。{_values(found[name])}式の各項と、反復の回数を確かめてください。",
    )


def _values(s: Solution) -> str:
    return f"目的関数の値が {s.value:.6f}、最小値が {s.best:.6f}、勾配のノルムが {s.gradient:.1e} です。"
