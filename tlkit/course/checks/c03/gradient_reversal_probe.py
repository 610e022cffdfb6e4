"""演習 03-1 の答えの呼び方。順伝播の値と、そのあとの逆伝播で届いた勾配を、場合ごとに記録する。

x には、途中の特徴（葉でないテンソル）を渡す。DANN の特徴抽出器の出力と同じ立場である。正解は知らない。
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks import stub
from tlkit.course.checks.trial import Stop, current, trial

Case = dict[str, Any]
Record = dict[str, Any]


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """1 回だけ呼ぶ場合、ほかの計算と組み合わせる場合、断るべき λ を、順に呼ぶ。"""
    composed = {"branch": _branch, "sibling": _sibling, "pair": _pair, "nested": _nested, "second": _second}
    some = inputs["single"]["plain"]
    return {
        "single": {name: trial(_single, answer, case) for name, case in inputs["single"].items()},
        "composed": {name: trial(scene, answer, inputs["composed"]) for name, scene in composed.items()},
        "frozen": trial(_described, answer, some["x"].clone(), some["lambda_"]),
        "refused": {name: trial(_described, answer, some["x"].clone(), bad) for name, bad in inputs["refused"].items()},
    }


def _single(answer: Callable[..., Any], case: Case) -> Record:
    leaf = case["x"].clone().requires_grad_()
    x = leaf.T if case.get("strided") else leaf * 1
    weight = case["weight"].T if case.get("strided") else case["weight"]
    before = x.detach().clone()
    y = answer(x, case["lambda_"])
    record = _form(y) | {"changed": not torch.equal(x.detach(), before)}
    usable = isinstance(y, Tensor) and y.shape == x.shape
    return record | (_backward((weight * y).sum(), [leaf]) if usable else {})


def _branch(answer: Callable[..., Any], case: Case) -> Record:
    """同じ特徴が、反転層を通らない枝にも行く。"""
    leaf, x = _feature(case)
    y = answer(x, case["lambda_"])
    return _backward((case["weight"] * y + case["more"] * x).sum(), [leaf])


def _sibling(answer: Callable[..., Any], case: Case) -> Record:
    """下流の足し算が、同じ勾配のテンソルを、反転層ともう一つの葉に渡す。"""
    leaf, x = _feature(case)
    other = torch.zeros_like(leaf, requires_grad=True)
    return _backward((case["weight"] * (answer(x, case["lambda_"]) + other)).sum(), [leaf, other])


def _pair(answer: Callable[..., Any], case: Case) -> Record:
    """違う λ で 2 回呼んでから、まとめて逆伝播する。"""
    (leaf, x), (other, z) = _feature(case), _feature(case)
    first, second = answer(x, case["lambda_"]), answer(z, case["other"])
    return _backward((case["weight"] * (first + second)).sum(), [leaf, other])


def _nested(answer: Callable[..., Any], case: Case) -> Record:
    leaf, x = _feature(case)
    return _backward((case["weight"] * answer(answer(x, case["lambda_"]), case["other"])).sum(), [leaf])


def _second(answer: Callable[..., Any], case: Case) -> Record:
    """L = Σ w·y³ の勾配に重みを掛けて足し、もう一度微分する。"""
    leaf, x = _feature(case)
    loss = (case["weight"] * answer(x, case["lambda_"]).pow(3)).sum()
    (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
    return _backward((case["more"] * grad).sum(), [leaf])


def _described(answer: Callable[..., Any], x: Tensor, lambda_: float) -> Record:
    return _form(answer(x, lambda_))


def _feature(case: Case) -> tuple[Tensor, Tensor]:
    leaf = case["x"].clone().requires_grad_()
    return leaf, leaf * 1


def _form(y: Any) -> Record:
    if not isinstance(y, Tensor):
        return {"type": type(y).__name__[:60]}
    return {"type": "Tensor", "dtype": str(y.dtype).removeprefix("torch."), "shape": list(y.shape), "y": y.detach()}


def _backward(loss: Tensor, leaves: Sequence[Tensor]) -> Record:
    """逆伝播する。途中で止まったら、例外を記録する。書きかけの backward なら、probe を終える。"""
    if not loss.requires_grad:
        return {"grads": [None] * len(leaves)}
    try:
        return {"grads": list(torch.autograd.grad(loss, leaves, allow_unused=True))}
    except Exception as error:
        record = current.get().keep(error)
        if stub.is_stub_error(error):
            raise Stop("unfinished", record) from error
        return {"backward_error": record}
