"""演習 07-6: 知識蒸留の 1 回の更新から、誤りを見つけて直す。問題と、答えの呼び方を置く。

probe は、二つのモデルと変形の呼ばれ方、教師モデルに残った跡、更新に使われた勾配、動いたパラメータ、返り値を記録する。
モデルと場面は `distill_step_model.py`、判定は `distill_step_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor, nn

from tlkit.course.checks.c07.distill_step_judge import judge
from tlkit.course.checks.c07.distill_step_model import Augment, Log, Scene, SmallNet, optimizer_for, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを 1 回呼ぶ。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    log = Log(scene["x"], scene["noise"])
    student, teacher = SmallNet("student", scene, log), SmallNet("teacher", scene, log)
    teacher.train(scene["teacher-training"])
    optimizer = optimizer_for(student, teacher, scene)
    for parameter in student.parameters() if scene["stale"] else ():
        parameter.grad = torch.full_like(parameter, 0.5)
    used = _watch(student, teacher, optimizer, log)
    before, taught = _state(student), _state(teacher)
    result = answer(
        student, teacher, (scene["x"], scene["y"]), optimizer, Augment(log), scene["temperature"], scene["alpha"]
    )
    now = dict(student.named_parameters())
    return {
        "type": type(result).__name__[:60],
        "result": result if type(result) is float else None,
        "calls": log.calls,
        "augmented": log.augmented,
        "steps": log.steps,
        "taught": log.taught,
        "grads": used[0] if used else {},
        "moved": {name: now[name].detach() - before[name] for name in now},
        "teacher-changed": [name for name, value in _state(teacher).items() if not torch.equal(value, taught[name])],
        "training": all(module.training for module in student.modules()),
    }


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _watch(
    student: nn.Module, teacher: nn.Module, optimizer: torch.optim.Optimizer, log: Log
) -> list[dict[str, Tensor | None]]:
    """更新に使われた生徒モデルの勾配と、教師モデルに届いた勾配の数を控える。"""
    used: list[dict[str, Tensor | None]] = []

    def stepped(*_: Any) -> None:
        log.steps += 1
        if len(used) < 2:
            used.append({name: _copy(parameter.grad) for name, parameter in student.named_parameters()})

    def reached(_: Tensor) -> None:
        log.taught += 1

    optimizer.register_step_post_hook(stepped)
    for parameter in teacher.parameters():
        parameter.register_hook(reached)  # type: ignore[no-untyped-call]
    return used


def _copy(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else grad.detach().clone()


DISTILL_STEP = Question(
    id="07-6",
    points=15,
    title="蒸留の1回の更新から、誤りを見つけて直す",
    goal="動くけれども間違っている蒸留の更新から、教師モデルの扱い、画像の変形、勾配、温度の誤りを見つけて直すことができる",
    minutes=30,
    difficulty=2,
    answers=("distill_step",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.distillation", "distill.methods"),
    hints=(
        "誤りは五つあります。教師モデルは、動かない手本です。呼ぶ前と後で、何が変わってはいけないかを書き出してください。"
        "次に、二つのモデルが同じ画像を見ているか、前の更新の勾配が残っていないか、温度を変えても二つの項が釣り合うかを調べます。",
        "教師モデルの出力は、評価モードで、勾配を記録せずに求めます。\n"
        "augment は乱数を使うので、呼ぶたびに結果が違います。1回だけ呼びます。\n"
        "backward は勾配を足し込みます。L = α·T²·KL(教師_T ‖ 生徒_T) + (1 − α)·CE です。",
        "1. teacher.train() をやめて、teacher.eval() を呼ぶ。\n"
        "2. augment の結果に名前をつけ、その同じテンソルを、生徒モデルと教師モデルに渡す。\n"
        "3. 教師モデルを通すところを、with torch.no_grad(): の中に入れる。\n"
        "4. backward の前に、optimizer の zero_grad() を呼ぶ。\n"
        "5. KLの項に、temperature の二乗を掛ける。",
    ),
)
