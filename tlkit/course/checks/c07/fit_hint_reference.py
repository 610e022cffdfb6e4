"""演習 07-4 の判定が比べる、正しい学習のやり直し。tlkit の損失の実装は使わない。"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tlkit.course.checks.c07.fit_hint_model import Pair, Scene, optimizer_for

Grads = dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """正しい学習の記録。steps は更新のたびの勾配、learned は終わったときの重みと移動統計。"""

    losses: list[float]
    steps: list[Grads]
    learned: Grads


def right_run(scene: Scene) -> Run:
    """場面のとおりに、1 回ずつ更新する。"""
    pair = Pair(scene)
    pair.train()
    pair.teacher.eval()
    names = {name: value for name, value in pair.named_parameters() if pair.is_learned(name)}
    optimizer = optimizer_for(names.values())
    losses, steps = [], []
    for x in scene["batches"]:
        features, target = x, x
        for index in range(scene["guided"]):
            features = pair.student[index](features)
        with torch.no_grad():
            for index in range(scene["hint"]):
                target = pair.teacher[index](target)
        loss = (pair.regressor(features) - target).pow(2).sum() / target.numel()
        grads = torch.autograd.grad(loss, list(names.values()))
        for parameter, grad in zip(names.values(), grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        losses.append(loss.item())
        steps.append(dict(zip(names, grads, strict=True)))
    learned = {name: value.detach() for name, value in pair.state_dict().items() if pair.is_learned(name)}
    return Run(losses, steps, learned)
