"""演習 08-2 の判定が比べる値。tlkit の実装を使わずに、内側の更新を 1 回ずつ書き下す。"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tlkit.course.checks.c08.adapt_scene import Case, Params, loss_of, starting

Vectors = dict[str, Tensor]


@dataclass(frozen=True)
class Reference:
    """正しい値。どれも、名前から平らなベクトルへ。

    Attributes:
        points: 0 回、1 回、… 更新したあとの値。steps より 1 回多く進める。
        descent: 初めの値での、サポートの損失の勾配。
        second: クエリの損失の、葉（と学習率 "lr"）での、正確な勾配。
        first: 同じものの、一次近似。
    """

    points: list[Vectors]
    descent: Vectors
    second: Vectors
    first: Vectors


def reference(case: Case) -> Reference:
    """場面から、正しい値をすべて求める。"""
    points, descent = _path(case)
    return Reference(points, descent, _outer(case, first_order=False), _outer(case, first_order=True))


def _path(case: Case) -> tuple[list[Vectors], Vectors]:
    _, current, _ = starting(case)
    points, descents = [_flat(current)], []
    for _ in range(case["steps"] + 1):
        current = {name: value.detach().requires_grad_() for name, value in current.items()}
        gradients = torch.autograd.grad(loss_of(case, "support")(current), list(current.values()))
        descents.append(dict(zip(current, gradients, strict=True)))
        current = {name: value - case["lr"] * descents[-1][name] for name, value in current.items()}
        points.append(_flat(current))
    return points, _flat(descents[0])


def _outer(case: Case, *, first_order: bool) -> Vectors:
    leaves, current, lr = starting(case)
    for _ in range(case["steps"]):
        current = _step(case, current, lr, first_order)
    wanted = leaves | ({"lr": lr} if isinstance(lr, Tensor) else {})
    outer = loss_of(case, "query")(current)
    found = torch.autograd.grad(outer, list(wanted.values()), allow_unused=True)
    return _flat({name: g for name, g in zip(wanted, found, strict=True) if g is not None})


def _step(case: Case, current: Params, lr: float | Tensor, first_order: bool) -> Params:
    value = loss_of(case, "support")(current)
    gradients = torch.autograd.grad(value, list(current.values()), create_graph=True)
    pairs = zip(current.items(), gradients, strict=True)
    return {name: v - lr * (g.detach() if first_order else g) for (name, v), g in pairs}


def _flat(values: Params) -> Vectors:
    return {name: value.detach().double().flatten() for name, value in values.items()}
