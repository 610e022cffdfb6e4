"""演習 08-5: プロトタイプまでの距離のロジット。問題、場面、答えの呼び方を置く。

probe は、場面ごとの値、重みを付けた和の勾配、サポートのないクラスがあるときの例外を記録する。
判定は `prototypical_logits_judge.py`、一つの場面の性質は `prototypical_logits_points.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.prototypical_logits_judge import judge
from tlkit.course.checks.c08.prototypical_logits_points import weights
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import failed, trial

Scene = dict[str, Tensor]


def make_inputs(seed: int) -> dict[str, Any]:
    """サポート、そのラベル、クエリの組に、名前をつけて並べる。base からは、一か所だけ変えた場面も作る。"""
    g = torch.Generator().manual_seed(seed)
    base = _scene(g, [2, 0, 3, 2, 3, 1, 2, 3, 1, 3, 2], 3, 9)  # クラス 2 が先に出る。枚数は 1、2、4、4
    order = base["support_y"].argsort(stable=True)
    single = _scene(g, [0, 1, 2, 3], 3, 9)
    other = base["query"].clone()
    other[1:] += 1
    touching = single | {"support_y": torch.tensor([2, 0, 3, 1])}
    touching["query"] = torch.cat([touching["support"][:1], touching["query"][:5]])  # 1 問めは、プロトタイプと同じ点
    scenes = {
        "single": single,
        "ordered": _scene(g, [0, 0, 1, 1, 2, 2], 3, 7),
        "equal": _scene(g, [1, 2, 0, 0, 2, 1], 4, 8),
        "base": base,
        "sorted": base | {"support": base["support"][order], "support_y": base["support_y"][order]},
        "other-queries": base | {"query": other},
        "narrow": _scene(g, [1, 0, 1], 1, 1),
        "float32": {name: value.float() if value.is_floating_point() else value for name, value in base.items()},
    }
    gap = [_scene(g, labels, 3, 4) for labels in ([3, 0, 2, 0], [1, 2, 1], [2, 2])]
    return {"scenes": scenes, "gradients": {"base": base, "touching": touching}, "gap": gap}


def _scene(g: torch.Generator, labels: list[int], width: int, queries: int) -> Scene:
    """クラスごとに中心の違う点。値の広がりをゆがめ、平均と中央値を、はっきり違うものにする。

    続く 2 枚は、次元ごとに大小が入れ替わる。次元ごとの最小や中央値が、たまたま 1 枚と同じ点になることを防ぐ。
    初めの 2 件のクエリは、初めの 2 枚のそばに置く。いちばん近い 1 枚が、クエリによって変わるようにするためである。
    """
    y = torch.tensor(labels)
    centres = 2 * torch.randn(int(y.max()) + 1, width, generator=g, dtype=torch.float64)
    rank = torch.tensor([labels[:i].count(label) for i, label in enumerate(labels)])
    signs = 1 - 2 * ((rank[:, None] + torch.arange(width)) % 2)
    spread = torch.randn(len(y), width, generator=g, dtype=torch.float64).exp()
    support = centres[y] + signs * spread
    query = 1 + 2 * torch.randn(queries, width, generator=g, dtype=torch.float64)
    near = min(2, queries)
    query[:near] = support[:near] + 0.1
    return {"support": support, "support_y": y, "query": query}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """値、勾配、例外の順に記録する。値の呼び出しでは、渡した入力をそのまま使う。"""
    values = {name: trial(answer, *_given(scene)) for name, scene in inputs["scenes"].items()}
    gradients = {name: _gradients(answer, scene) for name, scene in inputs["gradients"].items()}
    return {"values": values, "gradients": gradients, "gap": [_refusal(answer, scene) for scene in inputs["gap"]]}


def _given(scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
    return scene["support"], scene["support_y"], scene["query"]


def _gradients(answer: Any, scene: Scene) -> dict[str, Any]:
    support, query = (scene[name].clone().requires_grad_() for name in ("support", "query"))
    labels = scene["support_y"].clone()

    def weighted() -> Any:
        found = answer(support, labels, query)
        weight = weights(query, labels)
        return found * weight if isinstance(found, Tensor) and found.shape == weight.shape else found

    return trial(weighted, wrt=(support, query))


def _refusal(answer: Any, scene: Scene) -> dict[str, str]:
    """断った例外の型と文。断らなければ空。"""
    record = trial(answer, *(value.clone() for value in _given(scene)))
    error = record["error"] if failed(record) else {"type": "", "message": ""}
    return {"type": error["type"], "message": error["message"][:300]}


PROTOTYPICAL_LOGITS = Question(
    id="08-5",
    points=12,
    title="プロトタイプまでの距離で分類する",
    goal="枚数も並びもそろわないサポートから、クラスの平均を求め、微分できる距離のロジットに変えることができる",
    minutes=20,
    difficulty=2,
    answers=("prototypical_logits",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("fewshot.prototypes",),
    hints=(
        "まず、クラスの番号の順に、そのクラスの行だけを選んで平均し、(N, D) に積みます。行の並びや、1クラスの枚数には頼りません。"
        "次に、クエリとプロトタイプのすべての組の差を、ブロードキャストで一度に作ります。",
        "c_k = support[support_y == k] の、行についての平均です。N は support_y の最大値 + 1 です。\n"
        "(Q, 1, D) から (1, N, D) を引くと、(Q, N, D) になります。二乗して、最後の次元で足し、負号を付けます。",
        "ways = int(support_y.max()) + 1 とし、support_y.unique() の個数が ways でなければ、日本語の ValueError を起こします。\n"
        "centres = torch.stack([support[support_y == k].mean(dim=0) for k in range(ways)])\n"
        "返り値は、-(query[:, None] - centres[None]).square().sum(dim=-1) です。",
    ),
)
