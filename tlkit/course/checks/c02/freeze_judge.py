"""演習 02-1 の判定。凍結の範囲、学習モードでの動作、残った勾配、分類層の働きの順に調べる。

場面の作り方は `freeze_backbone.py`、モデルは `freeze_model.py` にある。判定は、動いたものだけを見て、凍結の方法は問わない。
"""

from typing import Any

from tlkit.course.checks.c02.freeze_model import owned
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Scene = dict[str, Any]
Scenes = dict[str, Scene]
TOLERANCE = 1e-4


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:  # noqa: ARG001 記録だけで判定できる
    """probe の記録を判定する。"""
    finished = {name: record["value"] for name, record in data.items() if not failed(record)}
    others = {name: record for name, record in data.items() if name != "twice"}
    return (
        first_raised(others) or first_raised(data, "同じモデルに2回呼ぶと、") or first(_properties(finished)) or PASSED
    )


def _properties(seen: Scenes) -> Finding:
    yield from _result(seen)
    yield from _scope(seen)
    yield from _statistics(seen)
    yield from _behaviour(seen)
    yield from _stale(seen)
    yield from _outside(seen)
    yield from _classifier(seen)


def _result(seen: Scenes) -> Finding:
    for scene in seen.values():
        if not scene["same"]:
            yield (
                "not-same-model",
                f"返り値（{scene['type']}）が、渡したモデルそのものではありません。受け取ったモデルをその場で変えて、return してください。",
            )
        if scene["edited"]:
            yield (
                "values-changed",
                f"呼んだだけで、{next(iter(scene['edited']))} の値が変わりました。凍結は、値を変えずに、これからの更新を止めることです。",
            )


def _scope(seen: Scenes) -> Finding:
    """requires_grad の範囲。"""
    plain, deep = (_scope_of(seen[name]) for name in ("train", "deep"))
    if plain == ([], []) and deep != plain:
        yield (
            "by-position",
            "分類層がモデルの最後に登録されていないと、凍結する範囲がずれます。並び順ではなく、名前（classifier）で見分けてください。",
        )
    left, lost = plain
    if left == ["shift"]:
        yield (
            "own-parameter-left",
            "model が部品を介さずに直接持つパラメータ shift が、学習できるまま残りました。"
            "部品ごとに回るだけでは見つかりません。model.named_parameters() で、すべてのパラメータを調べてください。",
        )
    if left and lost:
        yield (
            "wrong-side",
            f"バックボーンの {left[0]} が学習でき、分類層の {lost[0]} が学習できません。凍結する側を確かめてください。",
        )
    if left:
        yield (
            "trainable-left",
            f"バックボーンの {left[0]} の requires_grad が True のままです。ほかの層も含めて、分類層以外をすべて False にしてください。",
        )
    if lost:
        yield (
            "classifier-frozen",
            f"分類層の {lost[0]} の requires_grad が False になりました。学習するものが足りません。",
        )


def _scope_of(scene: Scene) -> tuple[list[str], list[str]]:
    """（学習できるまま残ったバックボーンのパラメータ、学習できない分類層のパラメータ）。"""
    left = [name for name, trainable in scene["trainable"].items() if trainable and not owned(name)]
    lost = [name for name, trainable in scene["trainable"].items() if not trainable and owned(name)]
    return left, lost


def _statistics(seen: Scenes) -> Finding:
    """バックボーンの移動統計が、どの場面で動いたか。"""
    moved = {name: _buffers(scene) for name, scene in seen.items()}
    if moved["train"] and moved["at-once"]:
        yield (
            "statistics-moved",
            f"凍結したはずなのに、学習の間に {moved['train'][0]} が動きました。BatchNormの移動統計は、勾配ではなく、"
            "学習モードで画像を通すことで動きます。requires_grad では止まりません。",
        )
    if moved["train"]:
        yield (
            "undone-by-train",
            f"呼んだ直後は止まっていますが、model.train() を呼ぶと {moved['train'][0]} が動きだします。"
            "学習の手順は、エポックのたびに model.train() を呼びます。その後も評価モードのままにする仕掛けが要ります。",
        )
    if moved["at-once"]:
        yield (
            "not-eval-at-once",
            f"model.train() を呼ぶ前に学習を続けると、{moved['at-once'][0]} が動きます。"
            "学習の途中で凍結することもあります。呼んだ直後から、バックボーンを評価モードにしてください。",
        )
    if moved["features"]:
        yield (
            "only-through-forward",
            f"model(x) では止まりますが、model.features(x) を直接呼ぶと {moved['features'][0]} が動きます。"
            "モデル全体の呼び出しだけでなく、バックボーンの部品のそれぞれに仕掛けてください。",
        )
    for name, buffers in moved.items():
        if buffers:
            yield (
                "statistics-moved-elsewhere",
                f"{_TITLES[name]}、学習の間に {buffers[0]} が動きました。バックボーンの移動統計は、どの場合でも止めてください。",
            )


_TITLES = {
    "never-trained": "評価モードのモデルを渡すと",
    "deep": "分類層がいくつもの部品でできていると",
    "deep-at-once": "分類層がいくつもの部品でできていると",
    "twice": "同じモデルに2回呼ぶと",
}


def _buffers(scene: Scene) -> list[str]:
    """動いた移動統計。回数（num_batches_tracked）だけが増えても特徴は変わらないので、数えない。"""
    moved = [name for name in scene["moved"] if name not in scene["trainable"] and not owned(name)]
    return [name for name in moved if not name.endswith("num_batches_tracked")]


def _behaviour(seen: Scenes) -> Finding:
    """移動統計は動かないとして、特徴が入力だけで決まるか。"""
    for scene in seen.values():
        if scene["repeat"] > TOLERANCE:
            yield _noisy(scene)
        if scene["batch"] > TOLERANCE:
            yield (
                "batch-statistics",
                "移動統計は動きませんが、同じ画像の特徴が、一緒に通した画像によって変わります。BatchNormが、まだバッチの平均と分散を使っています。"
                "momentum や track_running_stats では、これは止まりません。BatchNormを評価モードにしてください。",
            )


def _noisy(scene: Scene) -> tuple[str, str]:
    """同じ画像なのに特徴が変わるとき。学習モードのままの部品で、文を分ける。"""
    if scene["modes"].get("body.2.1", True):
        return (
            "dropout-on",
            "同じ画像でも、通すたびに特徴が変わります。バックボーンのDropoutが働いたままです。"
            "BatchNormだけでなく、バックボーンの部品をすべて評価モードにしてください。",
        )
    return (
        "types-listed",
        "BatchNormとDropoutは止まりましたが、学習モードでだけ雑音を足す部品（Jitter）が働いたままで、通すたびに特徴が変わります。"
        "部品の型を挙げるのではなく、バックボーンの部品をすべて評価モードにしてください。",
    )


def _stale(seen: Scenes) -> Finding:
    """凍結する前の勾配が残り、更新が続いていないか。"""
    for scene in seen.values():
        states = set(scene["grads"].values())
        moved = max((gap for name, gap in scene["moved"].items() if not owned(name)), default=0.0)
        if "kept" in states:
            yield (
                "stale-grad",
                f"凍結する前の勾配が .grad に残っています。requires_grad を False にしても、オプティマイザは .grad のあるパラメータを更新します。"
                f"この後の3回の更新で、バックボーンの重みが最大 {moved:.2g} 動きました。.grad を None にしてください。",
            )
        if "zero" in states:
            yield (
                "grad-zeroed",
                f".grad を0で埋めても、オプティマイザは更新をやめません。モーメンタムと重み減衰が残るからです。"
                f"この後の3回の更新で、バックボーンの重みが最大 {moved:.2g} 動きました。0ではなく None にしてください。",
            )
        if name := next((name for name in scene["trainable"] if name in scene["moved"] and not owned(name)), None):
            yield "parameters-moved", f"凍結した後の学習で、バックボーンの {name} が動きました。"


def _classifier(seen: Scenes) -> Finding:
    """分類層は、ふつうに学習し、train() と eval() に従うか。"""
    for name, scene in seen.items():
        called = name not in ("at-once", "deep-at-once")
        still = sorted(part for part, on in scene["modes"].items() if owned(part) and not on)
        again = sorted(part for part, on in scene["again"].items() if owned(part) and not on)
        if (called and still) or again:
            yield (
                "classifier-stuck-in-eval",
                f"model.train() を呼んでも、分類層の {(still or again)[0]} が評価モードのままです。凍結するのはバックボーンだけです。",
            )
        if not scene["again"]["model"]:
            yield (
                "root-stuck-in-eval",
                "model.train() を呼んでも、model.training が False のままです。モデル自身は、学習モードにしてください。",
            )
        on = sorted(part for part, training in scene["in_eval"].items() if training)
        if on:
            yield (
                "eval-ignored",
                f"model.eval() を呼んでも、{on[0]} が学習モードのままです。model.eval() は model.train(False) を呼びます。mode を無視していませんか。",
            )
        if not any(owned(part) for part in scene["moved"]):
            yield "classifier-still", "凍結した後に学習しても、分類層のパラメータが動きません。"


def _outside(seen: Scenes) -> Finding:
    """モデルの外への影響と、呼び出しの約束。"""
    for scene in seen.values():
        if scene["touched"]:
            yield (
                "class-patched",
                f"凍結していない、同じクラスの別のモデルまで、train() で {scene['touched'][0]} が学習モードになりません。"
                "クラスの train を書き換えています。渡されたモデルだけを変えてください。",
            )
        if not scene["chained"]:
            yield (
                "train-returns",
                "凍結した後の model.train() が、model を返しません。model.train().to(…) のような書き方が壊れます。"
                "差し替えた train も return model としてください。",
            )
