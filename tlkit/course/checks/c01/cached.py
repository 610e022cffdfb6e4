"""演習 01-3: 線形プローブのための特徴のキャッシュ。問題と、答えの呼び方を置く。

モデルとデータは `cached_model.py`、判定は `cached_judge.py` にある。
probe は、返り値だけでなく、呼んだ後のモデルの状態（モード、移動統計、パラメータ、勾配の設定）も記録する。
"""

from typing import Any

import torch
from torch import Tensor, nn

from tlkit.course.checks.c01.cached_judge import judge
from tlkit.course.checks.c01.cached_model import SmallNet, build, loader, spec
from tlkit.course.checks.plain import PlainError, to_plain
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

SCENES = {
    "train": {"count": 10, "batch": 4},
    "train-again": {"count": 10, "batch": 4},
    "shuffled": {"count": 10, "batch": 3, "shuffle": True},
    "even": {"count": 8, "batch": 4},
    "single": {"count": 10, "batch": 1},
    "whole": {"count": 10, "batch": 10},
    "eval": {"count": 10, "batch": 4, "training": False},
    "frozen": {"count": 10, "batch": 4, "frozen": True},
}


def make_inputs(seed: int) -> dict[str, Any]:
    """重みとデータと、場面の一覧。"""
    return {"spec": spec(seed), "scenes": {name: dict(scene) for name, scene in SCENES.items()}}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルとローダーを作り直し、答えを呼んで、返り値と呼んだ後の状態を記録する。"""
    return {name: trial(_observe, answer, inputs["spec"], scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, given: dict[str, Any], scene: dict[str, Any]) -> dict[str, Any]:
    model = build(given, training=scene.get("training", True), frozen=scene.get("frozen", False))
    before = _state(model)
    with torch.enable_grad():
        result = answer(model, loader(given, scene["count"], scene["batch"], shuffle=scene.get("shuffle", False)))
        grad_on = torch.is_grad_enabled()
    after = _state(model)
    changed = {key: sorted(name for name in before[key] if before[key][name] != after[key].get(name)) for key in before}
    parts = [_part(item) for item in result] if isinstance(result, tuple | list) else []
    return {"type": type(result).__name__[:60], "parts": parts[:5], "changed": changed, "grad_on": grad_on}


def _state(model: SmallNet) -> dict[str, dict[str, Any]]:
    modules: dict[str, nn.Module] = {name or "model": module for name, module in model.named_modules()}
    return {
        "modes": {name: module.training for name, module in modules.items()},
        "statistics": {name: value.tolist() for name, value in model.named_buffers()},
        "parameters": {name: value.tolist() for name, value in model.named_parameters()},
        "trainable": {name: value.requires_grad for name, value in model.named_parameters()},
    }


def _part(item: Any) -> dict[str, Any]:
    """返り値の一つ。テンソルなら、形と値に加えて、学習に使えるかも記録する。"""
    if type(item) is not Tensor:
        return {"kind": type(item).__name__[:60]}
    try:
        value = to_plain(item)
    except PlainError:
        return {"kind": str(item.layout)}
    return {
        "kind": "Tensor",
        "shape": list(item.shape),
        "dtype": str(item.dtype).removeprefix("torch."),
        "tracked": item.requires_grad,
        "inference": item.is_inference(),
        "value": value,
    }


CACHED = Question(
    id="01-3",
    points=10,
    title="特徴を一度だけ計算して、線形プローブに使う",
    goal="凍結したモデルの特徴を、モデルの状態を乱さずに取り出し、学習に使える形で保存できる",
    minutes=25,
    difficulty=2,
    answers=("cache_features",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.features",),
    hints=(
        "三つの仕事があります。モデルを評価モードにする、勾配の記録を止めてバッチごとに特徴を計算する、モードを元に戻す、です。"
        "特徴とラベルは、ローダーを一度だけ回して同時に集めます。2回回すと、並び順が変わることがあります。",
        "評価モードにする前に、すべての部品の module.training を覚えておきます（model.modules() で部品を列挙できます）。\n"
        "特徴は model.features(x)、バッチを一つにつなぐのは torch.cat です。\n"
        "torch.no_grad() の中で計算すれば、requires_grad は False になります。"
        "torch.inference_mode() を使うなら、外で clone() しないと学習に使えません。",
        "modes = {module: module.training for module in model.modules()} のあとで model.eval() とします。\n"
        "with torch.no_grad(): の中で for x, y in loader: を回し、model.features(x) と y を別々の list に足します。\n"
        "最後に for module, training in modes.items(): で module.training に代入して戻し、torch.cat した二つを返します。",
    ),
)
