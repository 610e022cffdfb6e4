"""演習 02-6: 分類層を、凸な目的関数の最小点に置く関数。問題と、答えの呼び方を置く。

モデルとデータは `warm_start_model.py`、判定は `warm_start_judge.py` にある。
probe は分類層の値だけでなく、呼んだ後の本体の状態（値、移動統計、モード、勾配の設定、残った勾配）も記録する。
"""

from typing import Any

from torch import Tensor, nn

from tlkit.course.checks.c02.warm_start_judge import judge
from tlkit.course.checks.c02.warm_start_model import build, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを呼んで、分類層と本体の状態を記録する。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: dict[str, Any]) -> dict[str, Any]:
    model = build(scene)
    layer, parameters = model.classifier, dict(model.named_parameters())
    before = _state(model)
    result = answer(model, scene["features"], scene["labels"], scene["l2"])
    after = _state(model)
    changed = {
        key: sorted(name for name in before[key] if before[key][name] != after[key].get(name))[:3] for key in before
    }
    now = dict(model.named_parameters())
    kept = model.classifier is layer and all(now.get(name) is value for name, value in parameters.items())
    return {
        "returned": "ok" if result is None or result is model else type(result).__name__[:60],
        "changed": changed,
        "kept": kept,
        "graded": sorted(name for name, value in now.items() if value.grad is not None)[:3],
        "frozen": [name for name in ("weight", "bias") if not _requires_grad(model.classifier, name)],
        **{name: _values(getattr(model.classifier, name, None)) for name in ("weight", "bias")},
    }


def _state(model: nn.Module) -> dict[str, dict[str, Any]]:
    """本体（分類層のほか）の状態。"""
    inside = [(name, module) for name, module in model.named_modules() if not name.startswith("classifier")]
    values = [(name, value) for name, value in model.named_parameters() if not name.startswith("classifier")]
    return {
        "parameters": {name: value.tolist() for name, value in values},
        "statistics": {name: value.tolist() for name, value in model.named_buffers()},
        "modes": {name or "model": module.training for name, module in inside},
        "trainable": {name: value.requires_grad for name, value in values},
    }


def _requires_grad(layer: nn.Module, name: str) -> bool:
    return bool(getattr(getattr(layer, name, None), "requires_grad", False))


def _values(tensor: Any) -> dict[str, Any]:
    if not isinstance(tensor, Tensor):
        return {"dtype": type(tensor).__name__[:60], "shape": [], "value": None}
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "value": tensor.detach().tolist(),
    }


WARM_START = Question(
    id="02-6",
    points=15,
    title="線形プローブの解を、ファインチューニングの出発点にする",
    goal="分類層だけの学習が凸な問題であることを使い、その最小点を、モデルのほかの部分に触れずに分類層に書き込むことができる",
    minutes=30,
    difficulty=2,
    answers=("warm_start_head",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.probe",),
    none_ok=True,
    hints=(
        "モデルから切り離した重みとバイアスを用意し、それだけを最小化します。解けたら、値だけを model.classifier に写します。"
        "目的関数は凸なので、どこから始めても同じ最小点に着きます。着くまで反復することが大切です。",
        "目的関数は cross_entropy(F.linear(features, W, b), labels) + l2 / 2 · (W の二乗和) です。\n"
        "cross_entropy は、もともと標本の平均です。バイアス b は罰則に入れません。\n"
        "値を写すときは、with torch.no_grad(): の中で copy_ を使うと、層もパラメータも同じものが残ります。",
        "weight = torch.zeros_like(model.classifier.weight, requires_grad=True)   # bias も同じように作る\n"
        "optimizer = torch.optim.LBFGS([weight, bias], max_iter=大きな数)   # 既定の20回では足りない\n"
        "closure の中で zero_grad、目的関数、backward を行い、目的関数を返します。\n"
        "optimizer.step(closure) を1回呼べば、収束するまで反復します。最後に model.classifier へ copy_ します。",
    ),
)
