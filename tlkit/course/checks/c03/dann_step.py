"""演習 03-5: DANN の学習の 1 回の更新。問題と、答えの呼び方を置く。

probe は、更新に使われた勾配、動いたパラメータ、モデルの呼ばれ方、返り値を記録する。
モデルと場面は `dann_step_model.py`、判定は `dann_step_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03.dann_step_judge import judge
from tlkit.course.checks.c03.dann_step_model import Scene, SmallDANN, optimizer_for, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを 1 回呼ぶ。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    model = SmallDANN(scene)
    optimizer = optimizer_for(model)
    if scene["stale"]:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
    used: list[dict[str, Tensor | None]] = []

    def note(*_: Any) -> None:
        model.steps += 1
        if len(used) < 2:
            used.append({name: _copy(parameter.grad) for name, parameter in model.named_parameters()})

    optimizer.register_step_post_hook(note)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    result = answer(model, optimizer, scene["source_x"], scene["source_y"], scene["target_x"], scene["lambda"])
    now = dict(model.named_parameters())
    return {
        "result": _result(result),
        "calls": model.calls,
        "steps": model.steps,
        "grads": used[0] if used else {},
        "moved": {name: now[name].detach() - old for name, old in before.items()},
        "training": all(module.training for module in model.modules()),
    }


def _copy(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else grad.detach().clone()


def _result(result: Any) -> dict[str, Any]:
    """返り値の型と、名前ごとの型と値。"""
    pairs = list(result.items())[:8] if isinstance(result, dict) else []
    return {
        "type": type(result).__name__[:60],
        "is_dict": isinstance(result, dict),
        "kinds": {str(key)[:60]: type(value).__name__[:60] for key, value in pairs},
        "values": {str(key)[:60]: value for key, value in pairs if isinstance(value, float)},
    }


DANN_STEP = Question(
    id="03-5",
    points=15,
    title="DANNの1回の更新",
    goal="クラスの損失とドメインの損失を組み合わせ、勾配反転層を通して、DANNの1回の更新を正しく書くことができる",
    minutes=30,
    difficulty=2,
    answers=("dann_step",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("adapt.methods",),
    hints=(
        "モデルには、ソースとターゲットを別々に1回ずつ通します。クラスの損失はソースだけで、ドメインの損失は両方で計算します。"
        "勾配の反転はモデルの中で起きます。だから損失は、どれも足すだけです。引いたり、λを掛けたりしません。",
        "L = CE(ソースのクラス) + ½·CE(ソースのドメイン → 0) + ½·CE(ターゲットのドメイン → 1) です。\n"
        "CE はどれも、そのドメインの平均です。λ は、二つの呼び出し model(x, lambda_) の両方に渡します。\n"
        "順番は、zero_grad、損失の計算、backward、step です。返す値は .item() で数にします。",
        "optimizer.zero_grad()\n"
        "class_logits, source_domain = model(source_x, lambda_) とし、ターゲットも同じように通して、ドメインのロジットだけを使います。\n"
        "ドメインのラベルは、source_y.new_zeros(枚数) と source_y.new_ones(枚数) で作れます。\n"
        "domain_loss は、二つの交差エントロピーの和の半分です。\n"
        "(class_loss + domain_loss).backward() と optimizer.step() の後、二つの損失を辞書で返します。",
    ),
)
