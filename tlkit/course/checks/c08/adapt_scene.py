"""演習 08-2 の場面: パラメータの辞書、サポートとクエリの損失、答えを 1 回呼んで控えること。

損失は、呼ばれるたびに、渡されたパラメータの値を控える。probe は `adapt.py`、正しい値は `adapt_reference.py` にある。
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.plain import to_plain

Case = dict[str, Any]
Params = dict[str, Tensor]
MOST = 12  # 控える呼び出しの数の上限


def loss_of(case: Case, part: str) -> Callable[[Params], Tensor]:
    """part（"support" か "query"）の損失。"""
    x, y = case[part]
    return lambda p: _loss(p, x, y)


def _loss(p: Params, x: Tensor, y: Tensor) -> Tensor:
    if "theta" in p:  # x は曲率 c、y は最小点
        return x * (p["theta"] - y).square() / 2
    return (p["gain"] * torch.tanh(x @ p["weight"].T + p["bias"]) - y).square().mean()


def starting(case: Case) -> tuple[Params, Params, float | Tensor]:
    """葉のパラメータ、答えに渡す初めの値、学習率。"derived" なら、初めの値は葉の 2 倍で、葉ではない。"""
    leaves = {name: value.clone().requires_grad_() for name, value in case["params"].items()}
    start = {name: 2 * value for name, value in leaves.items()} if case["derived"] else dict(leaves)
    lr = torch.tensor(case["lr"], dtype=torch.float64, requires_grad=True) if case["learnable"] else case["lr"]
    return leaves, start, lr


def observe(answer: Any, case: Case) -> dict[str, Any]:
    """答えを 1 回呼び、返り値、損失の呼ばれ方、渡した値の変化、クエリの損失の勾配を、素の値にする。"""
    leaves, start, lr = starting(case)
    held, calls = dict(start), list[Any]()
    given = {} if case["first_order"] is None else {"first_order": case["first_order"]}
    result = answer(start, _noting(loss_of(case, "support"), list(held), calls), lr=lr, steps=case["steps"], **given)
    wanted = leaves | ({"lr": lr} if isinstance(lr, Tensor) else {})
    return {
        "type": type(result).__name__[:60],
        "items": {str(name)[:60]: _item(value) for name, value in result.items()} if isinstance(result, dict) else None,
        "calls": calls,
        "changed": [name for name, value in leaves.items() if not torch.equal(value, case["params"][name])],
        "same_dict": list(start) == list(held) and all(start[name] is held[name] for name in held),
        "grad_left": [name for name, value in wanted.items() if value.grad is not None],
        "frozen": [name for name, value in wanted.items() if not value.requires_grad],
        **_gradients(result, case, wanted),
    }


def _noting(loss: Callable[[Params], Tensor], names: list[str], calls: list[Any]) -> Callable[[Params], Tensor]:
    def noted(params: Params) -> Tensor:
        if not isinstance(params, dict) or set(params) != set(names):
            shown = f"名前が {sorted(map(str, params))} の辞書" if isinstance(params, dict) else type(params).__name__
            raise TypeError(f"loss に {shown} が渡されました。params と同じ名前の、テンソルの辞書を渡してください。")
        if len(calls) < MOST:
            calls.append({name: params[name].detach().flatten().tolist() for name in names})
        return loss(params)

    return noted


def _item(value: Any) -> dict[str, Any]:
    if not isinstance(value, Tensor):
        return {"type": type(value).__name__[:60], "tensor": False}
    return {
        "type": type(value).__name__[:60],
        "tensor": True,
        "shape": list(value.shape),
        "dtype": str(value.dtype).removeprefix("torch."),
        "value": to_plain(value.detach().flatten()),
    }


def _gradients(result: Any, case: Case, wanted: Params) -> dict[str, Any]:
    """返り値で測ったクエリの損失の、葉（と学習率）での勾配。届かないものは None。"""
    nothing: dict[str, Any] = {"grads": dict.fromkeys(wanted), "failure": None}
    shapes = {name: value.shape for name, value in case["params"].items()}
    usable = isinstance(result, dict) and set(result) == set(shapes)
    if not usable or not all(isinstance(result[n], Tensor) and result[n].shape == shapes[n] for n in shapes):
        return nothing
    reachable = {name: value for name, value in wanted.items() if value.requires_grad}
    try:
        outer = loss_of(case, "query")(result)
        if not outer.requires_grad or not reachable:
            return nothing
        found = torch.autograd.grad(outer, list(reachable.values()), allow_unused=True)
    except RuntimeError as error:
        return nothing | {"failure": str(error)[:200]}
    grads = zip(reachable, found, strict=True)
    return nothing | {"grads": nothing["grads"] | {n: None if g is None else to_plain(g.flatten()) for n, g in grads}}
