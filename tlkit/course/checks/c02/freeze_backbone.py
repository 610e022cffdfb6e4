"""演習 02-1: バックボーンの凍結。問題と、答えの呼び方を置く。

モデルは `freeze_model.py`、判定は `freeze_judge.py` にある。
probe は、凍結した後に、モーメンタムと重み減衰のある SGD で実際に学習し、何が動いたかを記録する。
"""

from typing import Any

import torch
from torch import Tensor, nn

from tlkit.course.checks.c02.freeze_judge import judge
from tlkit.course.checks.c02.freeze_model import build, classes_kept, network, owned, spec
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

SCENES: dict[str, dict[str, Any]] = {
    "train": {},
    "at-once": {"call_train": False},
    "features": {"through": "features"},
    "never-trained": {"warm": 0, "training": False},
    "deep": {"deep": True},
    "deep-at-once": {"deep": True, "call_train": False},
    "twice": {"times": 2},
}
_DEFAULTS: dict[str, Any] = {
    "warm": 2,
    "training": True,
    "call_train": True,
    "through": "forward",
    "deep": False,
    "times": 1,
}


def make_inputs(seed: int) -> dict[str, Any]:
    """重みの種とデータと、場面の一覧。"""
    return {"spec": spec(seed), "scenes": {name: _DEFAULTS | scene for name, scene in SCENES.items()}}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、凍結して、学習して、動いたものを記録する。"""
    return {name: trial(_observe, answer, inputs["spec"], scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, given: dict[str, Any], scene: dict[str, Any]) -> dict[str, Any]:
    kind = network()
    model, other = (build(kind, given, deep=scene["deep"], training=scene["training"]) for _ in range(2))
    with classes_kept(other):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
        _steps(model, optimizer, given, scene["warm"], "forward")
        before = _values(model)
        result = model
        for _ in range(scene["times"]):
            result = answer(model)
        seen = {"same": result is model, "type": type(result).__name__[:60], "edited": _moved(before, model)}
        seen |= {"trainable": {name: p.requires_grad for name, p in model.named_parameters()}, "grads": _grads(model)}
        return seen | _train(model, optimizer, given, scene) | _others(model, other)


def _train(
    model: nn.Module, optimizer: torch.optim.Optimizer, given: dict[str, Any], scene: dict[str, Any]
) -> dict[str, Any]:
    """凍結した後の学習。"""
    chained = model.train() is model if scene["call_train"] else True
    before = _values(model)
    _steps(model, optimizer, given, 3, scene["through"])
    moved = _moved(before, model)
    images = given["images"]
    with torch.no_grad():
        first, second, alone = (model.features(x) for x in (images, images, images[:3]))  # type: ignore[operator]
    return {
        "chained": chained,
        "moved": moved,
        "modes": {name or "model": module.training for name, module in model.named_modules()},
        "repeat": _gap(first, second),
        "batch": _gap(first[:3], alone),
    }


def _others(model: nn.Module, other: nn.Module) -> dict[str, Any]:
    """eval() と train() の後のモードと、同じクラスの別のモデルへの影響。"""
    model.eval()
    in_eval = {name or "model": module.training for name, module in model.named_modules()}
    model.train()
    model.features(torch.ones(2, 1, 4, 4))  # type: ignore[operator]
    again = {name or "model": module.training for name, module in model.named_modules()}
    other.train()
    other.features(torch.ones(2, 1, 4, 4))  # type: ignore[operator]
    touched = [name or "model" for name, module in other.named_modules() if not module.training]
    return {"in_eval": in_eval, "again": again, "touched": touched}


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, given: dict[str, Any], count: int, through: str) -> None:
    """Count 回の更新。勾配は消さずに 0 で埋めるので、凍結した後も .grad が残っていれば更新が続く。"""
    for _ in range(count):
        optimizer.zero_grad(set_to_none=False)
        x = given["images"]
        logits = model(x) if through == "forward" else model.classifier(model.features(x))  # type: ignore[operator]
        loss = nn.functional.cross_entropy(logits, given["labels"])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in (*model.named_parameters(), *model.named_buffers())}


def _moved(before: dict[str, Tensor], model: nn.Module) -> dict[str, float]:
    """値の変わったものの名前と、変化の最大。名前がなくなったものは -1 とする。"""
    after = _values(model)
    gaps = {name: _gap(value, after[name]) if name in after else -1.0 for name, value in before.items()}
    return {name: gap for name, gap in gaps.items() if gap != 0}


def _grads(model: nn.Module) -> dict[str, str]:
    """バックボーンの .grad の様子。none、zero（0 で埋めた）、kept（残っている）。"""
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if not owned(name)}
    return {
        name: "none" if grad is None else "kept" if bool(grad.abs().sum() > 0) else "zero"
        for name, grad in grads.items()
    }


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if a.shape == b.shape else -1.0


FREEZE_BACKBONE = Question(
    id="02-1",
    points=10,
    title="動かないはずのバックボーンを、本当に止める",
    goal="勾配、BatchNormの移動統計、残った勾配の三つを止めて、バックボーンを凍結できる",
    minutes=25,
    difficulty=2,
    answers=("freeze_backbone",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.freeze",),
    hints=(
        "止めるものは三つあります。勾配の計算（requires_grad）、学習モードでの動作（BatchNormやDropout）、残っている勾配（.grad）です。"
        "難しいのは二つめです。eval() を一度呼んでも、次の model.train() が元に戻してしまいます。",
        "パラメータは model.named_parameters() の名前で選べます。分類層のものは、名前が classifier. で始まります。\n"
        "モードは、model.train を差し替えると保てます。新しい train(mode=True) は、元の train(mode) を呼んでから、"
        "バックボーンの部品だけを eval() にし、model を返します。model.eval() は、内部で train(False) を呼びます。",
        "original = model.train としてから、次の関数を model.train に代入します。\n"
        "def train(mode=True): original(mode) を呼び、for name, child in model.named_children(): で、"
        'name が "classifier" でない child を eval() にして、return model とします。\n'
        "パラメータの側では、requires_grad_(False) と .grad = None の両方を行います。"
        "最後に model.train(model.training) を一度呼べば、直後から評価モードになります。",
    ),
)
