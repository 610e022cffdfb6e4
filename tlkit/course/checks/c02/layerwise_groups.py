"""演習 02-2: 層別学習率の組を作る。問題と、答えの呼び方を置く。

段の並びは `layerwise_stages.py`、判定は `layerwise_judge.py` にある。probe は、組に入ったパラメータを「段:名前」に直して記録する。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c02.layerwise_judge import judge
from tlkit.course.checks.c02.layerwise_stages import BUILD, labels
from tlkit.course.checks.question import Question
from tlkit.course.checks.trial import trial

LIMIT = 200  # 組とパラメータを読む数の上限


def make_inputs(seed: int) -> dict[str, Any]:
    """場面ごとの base_lr と decay。種によって変える。gentle は plain と decay だけが違う。"""
    g = torch.Generator().manual_seed(seed)
    base, decay = (float(value) for value in torch.rand(2, generator=g))
    scenes = {name: {"base_lr": 0.01 + 0.05 * base, "decay": 2.2 + decay} for name in BUILD}
    scenes["gentle"]["decay"] = 1.5
    scenes["equal"]["decay"] = 1.0
    return {"scenes": scenes}


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとに段を作り、組を受け取って記録する。"""
    return {name: trial(_observe, answer, name, scene) for name, scene in inputs["scenes"].items()}


def _observe(answer: Any, name: str, scene: dict[str, float]) -> dict[str, Any]:
    stages = BUILD[name]()
    given = list(stages)
    before = [(value.detach().clone(), value.requires_grad) for stage in stages for value in stage.parameters()]
    groups = answer(stages, scene["base_lr"], scene["decay"])
    known = labels(given)
    seen = {
        "type": type(groups).__name__[:60],
        "groups": [_group(item, known) for item in list(groups)[:LIMIT]] if isinstance(groups, list | tuple) else [],
        "given_kept": len(stages) == len(given) and all(a is b for a, b in zip(stages, given, strict=True)),
    }
    after = [(value.detach(), value.requires_grad) for stage in given for value in stage.parameters()]
    same = all(torch.equal(a, b) and x == y for (a, x), (b, y) in zip(before, after, strict=True))
    return seen | {"parameters_kept": same}


def _group(item: Any, known: dict[int, str]) -> dict[str, Any]:
    """組一つの記録。params が二度読めるか、中身が何か。"""
    if not isinstance(item, dict):
        return {"type": type(item).__name__[:60]}
    params = item.get("params")
    kind = type(params).__name__[:60]
    record: dict[str, Any] = {"type": "dict", "keys": [str(key)[:60] for key in item], "params": kind, "names": []}
    rate = item.get("lr")
    number = float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) else None
    record |= {"rate": number, "rate_type": type(rate).__name__[:60]}
    if isinstance(params, list | tuple):
        record["names"] = [known.get(id(value), "?") if isinstance(value, Tensor) else "?" for value in params[:LIMIT]]
    return record


LAYERWISE_GROUPS = Question(
    id="02-2",
    points=10,
    title="層別学習率の組を作る",
    goal="すべてのパラメータを過不足なく一度ずつ組に入れ、段ごとに正しい学習率を割り当てることができる",
    minutes=20,
    difficulty=2,
    answers=("layerwise_groups",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("finetune.groups", "_stages"),
    hints=(
        "段を順に回り、段ごとに一つの組を作ります。学習率は、出力から数えた段の番号だけで決まります。"
        "パラメータは、凍結されていないことと、まだどの組にも入っていないことを確かめてから加えます。",
        "入力側から数えて i 番の段は、出力側から数えると k = len(stages) - 1 - i 番です。学習率は base_lr / decay**k です。\n"
        "すでに入れたパラメータの id(parameter) を集合に覚えておくと、共有されたパラメータを一度だけ入れられます。\n"
        "stage.parameters() は、部品の奥のパラメータまで順に返します。",
        "groups, seen = [], set() とします。\n"
        "for i, stage in enumerate(stages): の中で、params = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen] を作り、"
        "seen に id を加えます。\n"
        'params が空でなければ、groups に {"params": params, "lr": base_lr / decay ** (len(stages) - 1 - i)} を加えます。',
    ),
)
