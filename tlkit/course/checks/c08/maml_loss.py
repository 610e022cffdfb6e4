"""演習 08-3: 適応したパラメータでの、クエリの損失（MAML の損失）。問題と、答えの呼び方を置く。

probe は、返した損失、その勾配、モデルの変わったところ、モデルの呼ばれ方を記録する。
モデルと場面は `maml_loss_model.py`、判定は `maml_loss_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.maml_loss_judge import judge
from tlkit.course.checks.c08.maml_loss_model import Scene, TinyModel, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import failed, trial


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを 1 回呼ぶ。"""
    return {name: _observe(answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    log: list[dict[str, Any]] = []
    kept: list[Any] = []
    model = TinyModel(scene, log)
    params: dict[str, Tensor] = dict(model.named_parameters())
    for value in params.values() if scene["stale"] else ():
        value.grad = torch.full_like(value, 0.5)

    def keeping(*args: Any, **kwargs: Any) -> Any:
        kept.append(answer(*args, **kwargs))
        return kept[0]

    before = _state(model)
    task = [scene[name].clone() for name in ("support_x", "support_y", "query_x", "query_y")]
    options = {"inner_lr": scene["lr"], "inner_steps": scene["steps"], "first_order": scene["first_order"]}
    record = trial(keeping, model, *task, **options)
    if failed(record):
        return record
    after, calls = _state(model), list(log)
    changed = [name for name, value in before.items() if not _equal(value, after.get(name))]
    replaced = [name for name, value in params.items() if dict(model.named_parameters()).get(name) is not value]
    return record | {"changed": changed, "replaced": replaced, "calls": calls} | _gradient(kept[0], params)


def _state(model: TinyModel) -> dict[str, Any]:
    """パラメータ、バッファ、残っている勾配、requires_grad、モードの写し。"""
    found: dict[str, Any] = {f"training:{name}": part.training for name, part in model.named_modules()}
    for name, value in model.state_dict().items():
        kind = "buffer" if "running" in name or "tracked" in name else "value"
        found[f"{kind}:{name}"] = value.detach().clone()
    for name, parameter in model.named_parameters():
        found[f"grad:{name}"] = None if parameter.grad is None else parameter.grad.detach().clone()
        found[f"flag:{name}"] = parameter.requires_grad
    return found


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return a is b  # 真偽値か None


def _gradient(result: Any, params: dict[str, Tensor]) -> dict[str, Any]:
    """返り値の、モデルのパラメータについての勾配。届かないパラメータは None、微分できなければ broken に例外の文を入れる。"""
    grads: list[Tensor | None] = [None] * len(params)
    if not isinstance(result, Tensor) or not result.requires_grad:
        return {"grads": grads, "broken": ""}
    try:
        grads = list(torch.autograd.grad(result.sum(), list(params.values()), allow_unused=True))
    except RuntimeError as error:
        return {"grads": grads, "broken": str(error)[:200]}
    return {"grads": grads, "broken": ""}


MAML_LOSS = Question(
    id="08-3",
    points=20,
    title="MAMLの損失を書く",
    goal="モデルを変えずに、適応したパラメータでのクエリの損失を計算し、初めのパラメータで微分できる",
    minutes=35,
    difficulty=3,
    answers=("maml_loss",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("meta.adapt", "meta.maml", "meta.functional"),
    hints=(
        "モデルの重みは書き換えず、名前と値の辞書として取り出します。辞書の値を、内側の更新のたびに新しいテンソルで置きかえます。"
        "その辞書を、functional_call でモデルに差しこんで、損失を計算します。",
        "θ_{j+1} = θ_j − η ∇L_S(θ_j)、返り値は L_Q(θ_k)。L は交差エントロピーの平均です。\n"
        "∇L_S は torch.autograd.grad で求めます。create_graph=True なら、勾配そのものも計算グラフに残り、二階の項が入ります。\n"
        "一次近似では、勾配を定数とみなします。θ_j を detach してはいけません。θ への道まで切れます。",
        "params = dict(model.named_parameters()) から始めます。\n"
        "関数 loss(params, x, y) を作り、functional_call(model, {**params, **バッファの写し}, (x,)) の交差エントロピーを返します。\n"
        "inner_steps 回、grads = torch.autograd.grad(loss(params, support_x, support_y), list(params.values()), "
        "create_graph=not first_order) を求め、辞書を p − inner_lr × g で作り直します。\n"
        "最後に、loss(params, query_x, query_y) を返します。",
    ),
)
