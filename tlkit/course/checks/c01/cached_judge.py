"""演習 01-3 の判定。返り値の形、特徴の値、行の対応、学習への使いやすさ、モデルの状態の順に調べる。

正しい特徴は、評価モードの同じモデルで 1 枚ずつ求めたものである。場面の作り方は `cached.py` にある。
"""

from typing import Any

import torch

from tlkit.course.checks.c01.cached_model import CLASSES, WIDTH, Spec, build, loader
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Scenes = dict[str, dict[str, Any]]
TOLERANCE = 1e-4


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    partial = {name: record for name, record in data.items() if name not in ("even", "single", "whole")}
    finished = {name: record["value"] for name, record in data.items() if not failed(record)}
    return (
        first_raised({"even": data["even"]})
        or first(_forms(finished, inputs["scenes"]))  # 途中で止まった場面があっても、行の不足は先に知らせる
        or first_raised(partial, "最後のバッチだけ枚数が少ないとき、")
        or first_raised(data, "1枚ずつのバッチや、全部を一度に渡すバッチで、")
        or first(_properties(finished, inputs))
        or PASSED
    )


def _forms(seen: Scenes, scenes: dict[str, Any]) -> Finding:
    for scene in seen.values():
        yield from _pair(scene)
    for name, scene in seen.items():
        yield from _form(scene["parts"], scenes[name]["count"])


def _properties(seen: Scenes, inputs: dict[str, Any]) -> Finding:
    yield from _modes_inside(seen)
    yield from _rows(seen, inputs["spec"], inputs["scenes"])
    for scene in seen.values():
        yield from _usable(scene["parts"])
    yield from _left_behind(seen)


def _pair(scene: dict[str, Any]) -> Finding:
    """特徴とラベルの二つのテンソルか。"""
    if len(scene["parts"]) != 2:
        yield (
            "not-pair",
            f"返り値が {scene['type']} です。特徴とラベルの二つを、return 特徴, ラベル の形で返してください。",
        )
    for part, name in zip(scene["parts"], ("特徴", "ラベル"), strict=False):
        if part["kind"] != "Tensor":
            yield (
                "not-tensor",
                f"{name}が {part['kind']} です。バッチごとのテンソルを torch.cat で一つにつなぎ、torch.Tensor で返してください。",
            )
    features, labels = scene["parts"]
    if not features["dtype"].startswith("float") and labels["dtype"].startswith("float"):
        yield "swapped", "特徴とラベルの順番が逆です。特徴を先に返してください。"


def _form(parts: list[dict[str, Any]], count: int) -> Finding:
    """形と dtype。"""
    features, labels = parts
    if len(features["shape"]) != 2:
        yield (
            "feature-shape",
            f"特徴の形が {tuple(features['shape'])} です。バッチの区切りをなくし、({count}, {WIDTH}) にしてください。",
        )
    if features["shape"][1] == CLASSES:
        yield (
            "logits-returned",
            f"特徴の次元が {WIDTH} でなく、クラスの数 {CLASSES} です。"
            "分類層まで通したロジットになっています。model.features(x) を使ってください。",
        )
    for part, name in ((features, "特徴"), (labels, "ラベル")):
        if part["shape"] and part["shape"][0] != count:
            yield (
                "rows-missing",
                f"{count}枚の画像を渡しましたが、{name}は {part['shape'][0]} 行です。"
                "枚数の少ない最後のバッチも含めて、すべてを一度ずつ入れてください。",
            )
    if features["shape"][1] != WIDTH:
        yield "feature-shape", f"特徴の形が {tuple(features['shape'])} です。({count}, {WIDTH}) になるはずです。"
    if labels["shape"] != [count]:
        yield "label-shape", f"ラベルの形が {tuple(labels['shape'])} です。({count},) にしてください。"
    if labels["dtype"] != "int64" or features["dtype"] != "float32":
        yield (
            "dtype-changed",
            f"特徴が {features['dtype']}、ラベルが {labels['dtype']} です。モデルとローダーが返した dtype"
            "（float32 と int64）のまま返してください。",
        )


def _modes_inside(seen: Scenes) -> Finding:
    """特徴を求める間、BatchNorm と Dropout が評価モードだったか。"""
    if any(scene["changed"]["statistics"] for scene in seen.values()):
        yield (
            "statistics-moved",
            "呼んだ後に、BatchNormの移動統計が変わりました。`no_grad`だけでは止まりません。"
            "特徴を計算する間は、モデルを評価モードにしてください。",
        )
    if _distance(seen["train"], seen["train-again"]) > TOLERANCE:
        yield (
            "dropout-on",
            "同じモデルと同じ画像なのに、呼ぶたびに特徴が変わります。Dropoutが働いたままです。"
            "特徴を計算する間は、モデル全体を評価モードにしてください。",
        )
    if _distance(seen["train"], seen["single"]) > TOLERANCE or _distance(seen["train"], seen["whole"]) > TOLERANCE:
        yield (
            "batch-dependent",
            "同じ画像でも、一緒のバッチに入った画像によって特徴が変わります。バッチ全体の平均や幅で、値をそろえていませんか。"
            "BatchNormは、評価モードで移動統計を使わせてください。",
        )


def _distance(scene: dict[str, Any], other: dict[str, Any]) -> float:
    a, b = (torch.tensor(item["parts"][0]["value"]) for item in (scene, other))
    return float((a - b).abs().max())


def _rows(seen: Scenes, given: Spec, scenes: dict[str, Any]) -> Finding:
    """特徴の値、ラベルとの対応、並び順。"""
    every = _features(given)
    for name, scene in seen.items():
        settings = scenes[name]
        got, labels = (torch.tensor(part["value"]) for part in scene["parts"])
        wanted = every[: settings["count"]]
        distances, row = torch.cdist(got.double(), wanted.double()).min(dim=1)
        if not bool((distances < TOLERANCE).all()):
            yield (
                "value-mismatch",
                "どの画像の特徴とも一致しない行があります。model.features(x) の値を、手を加えずに返してください。",
            )
        elif not torch.equal(given["labels"][row], labels):
            yield (
                "misaligned",
                "特徴の行と、ラベルの行が対応していません。ローダーを2回回すと、並べ替えの順が変わります。"
                "一度のループの中で、特徴とラベルを同時に集めてください。",
            )
        elif not torch.equal(labels, _order(given, settings)):
            yield "order-changed", "特徴とラベルは対応していますが、行がローダーの返した順に並んでいません。"


def _features(given: Spec) -> torch.Tensor:
    """1 枚ずつ求めた特徴。"""
    model = build(given, training=False)
    with torch.no_grad():
        return torch.cat([model.features(image[None]) for image in given["images"]])


def _order(given: Spec, settings: dict[str, Any]) -> torch.Tensor:
    batches = loader(given, settings["count"], settings["batch"], shuffle=settings.get("shuffle", False))
    return torch.cat([labels for _, labels in batches])


def _usable(parts: list[dict[str, Any]]) -> Finding:
    """分類層の学習にそのまま使えるか。"""
    if parts[0]["tracked"]:
        yield (
            "graph-kept",
            "特徴の requires_grad が True です。計算の記録がすべてのバッチの分だけ残り、メモリを使い続けます。"
            "`torch.no_grad()`の中で計算してください。",
        )
    if any(part["inference"] for part in parts):
        yield (
            "inference-tensor",
            "返り値が`torch.inference_mode()`の中で作られたテンソルです。逆伝播のために保存できないので、分類層の学習で止まります。"
            "`torch.no_grad()`を使うか、外で`clone()`してください。",
        )


def _left_behind(seen: Scenes) -> Finding:
    """呼んだ後の、モデルと勾配の設定。"""
    for name in ("eval", "train", "frozen"):
        modes = seen[name]["changed"]["modes"]
        if modes:
            yield _mode(name, modes)
    for scene in seen.values():
        changed = scene["changed"]
        if changed["parameters"]:
            yield "parameters-changed", f"呼んだ後に、パラメータ {changed['parameters'][0]} の値が変わりました。"
        if changed["trainable"]:
            yield (
                "trainable-changed",
                f"呼んだ後に、パラメータ {changed['trainable'][0]} の requires_grad が変わりました。"
                "黙って凍結（または解除）すると、後のファインチューニングで学習されない層が出ます。",
            )
        if not scene["grad_on"]:
            yield (
                "grad-left-off",
                "呼んだ後も、勾配の記録が止まったままです。この後の学習で勾配が流れません。"
                "`set_grad_enabled(False)`ではなく、`with torch.no_grad():`で範囲を区切ってください。",
            )


def _mode(scene: str, modes: list[str]) -> tuple[str, str]:
    if scene == "eval":
        return (
            "eval-not-restored",
            "評価モードのモデルを渡すと、学習モードになって戻りました。呼ぶ前のモードを覚えておき、同じモードに戻してください。",
        )
    if scene == "train":
        return (
            "train-not-restored",
            f"学習モードのモデルを渡すと、評価モードのまま戻ってきた部品があります（{modes[0]} など）。"
            "この後の学習で、BatchNormとDropoutが止まったままになります。すべての部品を、呼ぶ前のモードに戻してください。",
        )
    return (
        "submodule-mode",
        f"BatchNormだけを評価モードにしたモデルを渡すと、{modes[0]} のモードが変わって戻りました。"
        "model.train(…) は、すべての部品を同じモードにします。部品ごとに module.training を覚えて戻してください。",
    )
