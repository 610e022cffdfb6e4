"""演習 07-4: ヒントによる学習（FitNets の第 1 段階）。問題と、答えの呼び方を置く。

probe は、返した損失、更新のたびの勾配、動いたもの、段の呼ばれ方を記録する。
モデルと場面は `fit_hint_model.py`、判定は `fit_hint_judge.py` にある。
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c07.fit_hint_judge import judge
from tlkit.course.checks.c07.fit_hint_model import Pair, Scene, loader_for, optimizer_for, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

MOST_STEPS = 6


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを 1 回呼ぶ。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    pair = Pair(scene)
    if scene["stale"]:
        for parameter in [*pair.student.parameters(), *pair.regressor.parameters()]:
            parameter.grad = torch.full_like(parameter, 0.5)
    steps: list[dict[str, Tensor | None]] = []
    made: list[torch.optim.Optimizer] = []
    counted = [0]

    def note(*_: Any) -> None:
        counted[0] += 1
        if len(steps) < MOST_STEPS:
            steps.append({name: _copy(value.grad) for name, value in pair.named_parameters() if pair.is_learned(name)})

    def make_optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
        made.append(optimizer_for(parameters))
        made[-1].register_step_pre_hook(note)
        return made[-1]

    before, flags = _values(pair), _flags(pair)
    parts = pair.student, pair.teacher, scene["guided"], scene["hint"], pair.regressor
    result = answer(*parts, loader_for(scene), make_optimizer)
    after, flags_after = _values(pair), _flags(pair)
    return {
        "result": _result(result),
        "changed": sorted(name for name, value in before.items() if not torch.equal(value, after[name])),
        "flags": sorted(name for name, value in flags.items() if flags_after.get(name) != value),
        "teacher_grads": any(value.grad is not None for value in pair.teacher.parameters()),
        "calls": pair.log,
        "made": len(made),
        "count": counted[0],
        "steps": steps,
        "learned": {name: value for name, value in after.items() if pair.is_learned(name)},
    }


def _copy(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else grad.detach().clone()


def _values(pair: Pair) -> dict[str, Tensor]:
    """パラメータと移動統計の写し。"""
    return {name: value.detach().clone() for name, value in pair.state_dict().items()}


def _flags(pair: Pair) -> dict[str, bool]:
    return {name: value.requires_grad for name, value in pair.named_parameters()}


def _result(result: Any) -> dict[str, Any]:
    """返り値の型、要素の型、値。"""
    items = list(result)[:20] if isinstance(result, list | tuple) else []
    return {
        "type": type(result).__name__[:60],
        "is_list": isinstance(result, list),
        "kinds": [type(item).__name__[:60] for item in items],
        "values": [item for item in items if isinstance(item, float)],
    }


FIT_HINT = Question(
    id="07-4",
    points=15,
    title="ヒントで、生徒モデルの途中までを学習する",
    goal="教師モデルと生徒モデルの上の層を変えずに、生徒モデルの途中の層までと回帰器だけを、教師モデルの中間層に合わせて学習できる",
    minutes=30,
    difficulty=2,
    answers=("fit_hint",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("losses.hint",),
    hints=(
        "モデル全体ではなく、初めの何段かだけを取り出して通します。通さない段は、重みも移動統計も変わりません。"
        "教師モデルは評価モードで、勾配なしで使います。最適化手法には、学習するパラメータだけを渡します。",
        "損失 = (1/M) Σ (r(u(x)) − v(x))²。u は生徒モデルの初めの guided_depth 段、v は教師モデルの初めの hint_depth 段、"
        "r は回帰器、M は要素の総数です。\n"
        "nn.Sequential は、model[:k] で初めの k 段を取り出せます。重みは、元のモデルと共有されます。",
        "lower = student[:guided_depth].train() と、target_net = teacher[:hint_depth].eval() を作ります。\n"
        "optimizer は、make_optimizer に lower と regressor の parameters() を並べた list を渡して、1回だけ作ります。\n"
        "loader を1回まわし、バッチごとに、torch.no_grad() の中で target_net(x) を求め、差の二乗の平均を損失にします。\n"
        "zero_grad、backward、step の後、損失を .item() で数にして、list に加えます。",
    ),
)
