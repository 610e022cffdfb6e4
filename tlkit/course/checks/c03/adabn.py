"""演習 03-6: AdaBN。問題と、答えの呼び方を置く。

モデルと場面は `adabn_model.py`、判定は `adabn_judge.py` にある。
probe は、移動統計のほかに、変わってはいけないもの（重み、モード、momentum、勾配）も記録する。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c03.adabn_judge import judge
from tlkit.course.checks.c03.adabn_model import LAYERS, Scene, SmallNet, build, loader_for, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを 1 回呼ぶ。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    model = build(scene)
    before, modules = _state(model), list(model.modules())
    torch.manual_seed(scene["seed"])  # 確認の外の乱数は、harness が守る
    result = answer(model, loader_for(scene))
    after = _state(model)
    return {
        "same": result is model,
        "type": type(result).__name__[:60],
        "kept": len(modules) == len(list(model.modules())) and all(map(lambda a, b: a is b, modules, model.modules())),
        "changed": {
            kind: sorted(name for name in old | after[kind] if old.get(name) != after[kind].get(name))[:3]
            for kind, old in before.items()
        },
        "passes": model.passes,
        "layers": {name: _statistics(model, name) for name in LAYERS},
    }


def _state(model: SmallNet) -> dict[str, dict[str, Any]]:
    """変わってはいけないもの。種類 → 名前 → 値。"""
    parameters = dict(model.named_parameters())
    modules = {name or "model": module for name, module in model.named_modules()}
    return {
        "values": {name: value.tolist() for name, value in parameters.items()},
        "trainable": {name: value.requires_grad for name, value in parameters.items()},
        "grads": {name: value.grad is not None for name, value in parameters.items()},
        "modes": {name: module.training for name, module in modules.items()},
        "momenta": {name: module.momentum for name, module in modules.items() if hasattr(module, "momentum")},
    }


def _statistics(model: SmallNet, name: str) -> dict[str, Any]:
    """その層の移動統計。テンソルでなければ None。"""
    layer: Any = dict(model.named_modules()).get(name)
    found = {key: getattr(layer, key, None) for key in STATISTICS}
    tensors = [value for value in found.values() if isinstance(value, Tensor)]
    return {
        **{key: value.detach().tolist() if isinstance(value, Tensor) else None for key, value in found.items()},
        "dtypes": [str(value.dtype).removeprefix("torch.") for value in tensors],
        "inference": any(value.is_inference() for value in tensors),
    }


ADAPT_BATCHNORM = Question(
    id="03-6",
    points=10,
    title="バッチ正規化の統計を、ターゲットで測り直す",
    goal="重みもモードも変えずに、バッチ正規化の移動統計だけをターゲットの入力で測り直すことができる",
    minutes=25,
    difficulty=2,
    answers=("adapt_batchnorm",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("adapt.adabn",),
    hints=(
        "移動統計は、学習モードの BatchNorm に入力を通すと、ひとりでに更新されます。自分で平均を計算する必要はありません。"
        "前の統計を消し、BatchNorm だけを学習モードにして、勾配なしで loader を1回まわします。"
        "終わったら、変えたものをすべて元に戻します。",
        "BatchNorm の層は、model.modules() のうち、torch.nn.modules.batchnorm._BatchNorm の実体であるものです。\n"
        "reset_running_stats() は、平均を0、分散を1、num_batches_tracked を0にします。\n"
        "momentum = None とすると、移動統計は、バッチごとの統計の単純な平均になります。\n"
        "戻すものは、すべての部品の training と、層ごとの momentum です。",
        "modes = [(m, m.training) for m in model.modules()] と、層ごとの momentum を控えます。\n"
        "model.eval() の後、BatchNorm の層だけで reset_running_stats()、momentum = None、train() とします。\n"
        "with torch.no_grad(): の中で、for x in loader: model(x) とします。\n"
        "最後に、層の momentum と、控えた部品の training を元の値に戻し、model を return します。",
    ),
)
