"""演習 08-6: メタ蒸留の 1 課題の損失から、誤りを見つけて直す。問題と、答えの呼び方を置く。

probe は、返した損失と適応後のパラメータ、二つのモデルへの勾配、モデルに残った跡を記録する。
モデルと場面は `meta_distillation_step_model.py`、判定は `meta_distillation_step_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor, nn

from tlkit.course.checks.c08.meta_distillation_step_judge import judge
from tlkit.course.checks.c08.meta_distillation_step_model import SETTINGS, Scene, TinyNet, scenes
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial
from tlkit.fewshot import Episode

MOST = 12  # 控える名前の数の上限


def make_inputs(seed: int) -> dict[str, Any]:
    """場面の一覧。"""
    return {"scenes": scenes(seed)}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとにモデルを作り直し、答えを 1 回呼ぶ。"""
    return {name: trial(_observe, answer, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, scene: Scene) -> dict[str, Any]:
    models = {role: TinyNet(role, scene) for role in ("student", "teacher")}
    settings = {name: scene[name] for name in SETTINGS}
    episode = Episode(*scene["support"], *scene["query"])
    result = answer(models["teacher"], models["student"], episode, **settings)
    loss, fast = result if isinstance(result, tuple | list) and len(result) == 2 else (None, None)
    seen: dict[str, Any] = {
        "type": type(result).__name__[:60],
        "pair": loss is not None and fast is not None,
        "loss": _loss(loss),
        "adapted": _adapted(fast),
        "traces": {role: _traces(model, scene[role]) for role, model in models.items()},
    }
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
        return seen | {"tracked": True} | _gradients(loss, models)
    return seen | {"tracked": False, "grads": {}, "broken": ""}


def _loss(loss: Any) -> dict[str, Any]:
    """型、形、値。値は、0 次元の小数のテンソルのときだけ。"""
    if not isinstance(loss, Tensor):
        return {"type": type(loss).__name__[:60], "shape": None, "value": None}
    scalar = loss.ndim == 0 and loss.is_floating_point()
    return {"type": "Tensor", "shape": list(loss.shape), "value": loss.item() if scalar else None}


def _adapted(fast: Any) -> dict[str, Any]:
    """名前ごとの、適応後の値。テンソルでないものは None。"""
    if not isinstance(fast, dict):
        return {"type": type(fast).__name__[:60], "names": [], "values": {}}
    names = [str(name)[:60] for name in list(fast)[:MOST]]
    values = {name: v.detach().tolist() for name, v in zip(names, fast.values(), strict=False) if isinstance(v, Tensor)}
    return {"type": "dict", "names": names, "values": values}


def _traces(model: nn.Module, before: dict[str, Tensor]) -> dict[str, list[str]]:
    """呼んだ後に、モデルに残った跡。"""
    now = dict(model.named_parameters())
    kept = [name for name in before if name in now]
    return {
        "moved": [name for name in before if name not in now or not torch.equal(now[name].detach(), before[name])],
        "grads": [name for name in kept if now[name].grad is not None],
        "flags": [name for name in kept if not now[name].requires_grad],
    }


def _gradients(loss: Tensor, models: dict[str, TinyNet]) -> dict[str, Any]:
    """損失の、モデルごとの勾配。届かないものは None。微分できなければ、broken にその理由。"""
    try:
        return {"grads": _slopes(loss, models), "broken": ""}
    except RuntimeError as error:  # 計算に使った値が書き換えられたか、計算グラフが捨てられている
        return {"grads": {}, "broken": str(error)[:200]}


def _slopes(loss: Tensor, models: dict[str, TinyNet]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for role, model in models.items():
        wanted = [value for value in model.parameters() if value.requires_grad]
        slopes = torch.autograd.grad(loss.sum(), wanted, retain_graph=True, allow_unused=True) if wanted else ()
        found[role] = [None if slope is None else slope.detach().tolist() for slope in slopes]
    return found


META_DISTILLATION_STEP = Question(
    id="08-6",
    points=15,
    title="メタ蒸留から、誤りを見つけて直す",
    goal="動くけれども間違っているメタ蒸留から、内側の点、外側の点、計算グラフ、蒸留の損失の誤りを見つけて直すことができる",
    minutes=40,
    difficulty=3,
    answers=("meta_distillation_step",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("meta.distillation", "meta.adapt", "losses.distillation"),
    hints=(
        "誤りは五つあります。初めに、二つの「どのパラメータで計算したか」を調べます。内側のくり返しの中と、クエリの損失です。"
        "次に、内側の損失を、式と一項ずつ比べます。最後に、内側の勾配が、外側から微分できる形で残っているかを調べます。",
        "内側: θ_{j+1} = θ_j − η ∇L(θ_j)。L(θ) = α·T²·KL(教師_T ‖ 生徒_T) + (1 − α)·CE(生徒, y_s) を、いまの θ_j で計算します。\n"
        "外側: 最後の θ で、クエリの交差エントロピーを計算します。\n"
        "どちらも、functional_call で、パラメータの辞書を渡してモデルを呼びます。",
        "1. 内側の予測は、student を直接呼ばず、functional_call に student、fast、(episode.support_x,) を渡して求める。\n"
        "2. 内側の勾配は、student.parameters() でなく、list(fast.values()) について求める。\n"
        "3. torch.autograd.grad に、勾配の計算グラフを残す引数を渡す。\n"
        "4. KLの項に、temperature の二乗を掛ける。\n"
        "5. episode.support_y の交差エントロピーを (1 − alpha) 倍して加える。\n"
        "6. クエリの予測にも、functional_call と、最後の fast を使う。",
    ),
)
