"""08 章のクイズのうち、コードの問題を、選択肢を入れて実際に動かして確かめる。数値の問題は test_quiz_08_claims.py。"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quiz_08_values import ITEMS, only_the_answer
from torch import Tensor
from torch.func import grad, vmap

from tlkit.course.quiz.schema import QuizItem

Params = dict[str, Tensor]


def program(item: QuizItem, code: str = "") -> str:
    """問題文のコード。空欄は code で埋める。"""
    block = re.search(r"```python\n(.*?)```", item.stem, re.DOTALL)
    assert block
    return block[1].replace("（空欄）", code)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(code, names)
    return names


def codes(item: QuizItem) -> list[str]:
    return [choice.strip("`") for choice in item.choices]


def difference(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """中心差分による勾配。x は 1 次元。"""
    steps = 1e-5 * torch.eye(len(x), dtype=x.dtype)
    return torch.stack([(loss(x + e) - loss(x - e)) / 2e-5 for e in steps]).detach()


def test_inner_loop_is_differentiable_only_with_the_answer() -> None:
    item, x = ITEMS["q08-07"], torch.tensor([0.7, -1.2], dtype=torch.float64)

    def support(values: list[Tensor]) -> Tensor:
        return (values[0].sin() * torch.tensor([2.0, -1.0])).sum() + values[0].pow(4).sum() / 4

    def outer(code: str, start: Tensor, lr: float = 0.1, steps: int = 3) -> Tensor:
        adapt = run(program(item, code), torch=torch)["adapt"]
        value: Tensor = (adapt([start], support, lr, steps)[0] - 1).square().sum()
        return value

    found = []
    for code in codes(item):
        start = x.clone().requires_grad_()
        found.append(torch.autograd.grad(outer(code, start), start)[0])
    wanted = difference(lambda v: outer(codes(item)[item.answer], v.requires_grad_()), x)
    assert only_the_answer(item, [torch.allclose(slope, wanted, rtol=1e-7) for slope in found])
    plain, kept, restarted, _ = found
    torch.testing.assert_close(plain, kept)
    start = x.clone().requires_grad_()
    torch.testing.assert_close(restarted, torch.autograd.grad(outer(codes(item)[2], start, 0.3, 1), start)[0])


def test_theta_grad_of_the_four_updates() -> None:
    item = ITEMS["q08-08"]
    fills = re.findall(r"^\| [アイウエ] \| `(.+)` \|$", item.stem, re.MULTILINE)
    rows = [run(program(item, fill), torch=torch) for fill in fills]
    slopes = [row["theta"].grad if row["theta"].grad is None else row["theta"].grad.item() for row in rows]
    assert "、".join("None" if s is None else f"{s:g}" for s in slopes) == item.choices[item.answer]
    assert [row["fast"].item() for row in rows] == [3, 3, 3, 3] and rows[2]["fast"].grad == 2
    assert [row["theta"].item() for row in rows] == [5, 5, 5, 3]
    exact, first, cut, _ = slopes
    believed = [  # 選択肢の順。b は detach() が θ から fast への道をすべて切る、c は .data の書き換えも記録される、という思い込み
        slopes,
        [exact, None, cut, first],
        [exact, first, cut, exact],
        [exact, None, cut, exact],
    ]
    assert ["、".join("None" if s is None else f"{s:g}" for s in row) for row in believed] == item.choices


def normalised(p: Params, x: Tensor) -> Tensor:
    return F.batch_norm(x @ p["first"], None, None, p["scale"], p["shift"], training=True).tanh() @ p["last"]


def task_loss(p: Params, inner_slopes: Callable[[Params, Tensor, Tensor], Params], *sets: Tensor) -> Tensor:
    sx, sy, qx, qy = sets
    slopes = inner_slopes(p, sx, sy)
    return F.mse_loss(normalised({name: p[name] - 0.3 * slopes[name] for name in p}, qx), qy)


def by_func(p: Params, x: Tensor, y: Tensor) -> Params:
    found: Params = grad(lambda v: F.mse_loss(normalised(v, x), y))(p)
    return found


def by_autograd(p: Params, x: Tensor, y: Tensor) -> Params:
    slopes = torch.autograd.grad(F.mse_loss(normalised(p, x), y), list(p.values()), create_graph=True)
    return dict(zip(p, slopes, strict=True))


def test_only_central_differences_find_the_wrong_meta_gradient() -> None:
    """q08-15 の四つの検査を、選択肢の順に行う。vmap の誤りが直った PyTorch では、問題文を改める。"""
    generator = torch.Generator().manual_seed(87)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    p = {"first": draw(5, 4), "scale": 1 + draw(4) / 10, "shift": draw(4), "last": draw(4, 3)}
    p = {name: value.requires_grad_() for name, value in p.items()}
    sets = [draw(4, 6, size) for size in (5, 3, 5, 3)]

    def vmapped(q: Params) -> Tensor:
        return vmap(lambda *parts: task_loss(q, by_func, *parts))(*sets).mean()

    def looped(q: Params) -> Tensor:
        return torch.stack([task_loss(q, by_autograd, *parts) for parts in zip(*sets, strict=True)]).mean()

    same_loss = torch.allclose(vmapped(p), looped(p), rtol=1e-12)
    inner = [
        vmap(lambda x, y: by_func(p, x, y)["first"])(*sets[:2]),
        torch.stack([by_autograd(p, x, y)["first"] for x, y in zip(*sets[:2], strict=True)]),
    ]
    same_inner = torch.allclose(*inner, rtol=1e-10)
    trained, values = {name: value.detach().clone().requires_grad_() for name, value in p.items()}, []
    adam = torch.optim.Adam(trained.values(), lr=0.02)
    for _ in range(30):
        adam.zero_grad()
        values.append(vmapped(trained))
        values[-1].backward()
        adam.step()
    falls = values[-1] < values[0]
    way = draw(5, 4)
    wrong, right = ((torch.autograd.grad(loss(p), p["first"])[0] * way).sum() for loss in (vmapped, looped))
    ends = [vmapped(p | {"first": p["first"] + e * way}) for e in (1e-5, -1e-5)]
    numeric = (ends[0] - ends[1]) / 2e-5
    agrees = torch.allclose(wrong, numeric, rtol=1e-6)
    assert torch.allclose(right, numeric, rtol=1e-6)
    assert only_the_answer(ITEMS["q08-15"], [not passed for passed in (same_loss, same_inner, falls, agrees)])


def test_stuck_loop_equals_one_long_step() -> None:
    item = ITEMS["q08-17"]
    stuck = run(program(item))["adapt"]
    mended = run(program(item).replace("(theta - 1)", "(now - 1)"))["adapt"]
    assert program(item).count("(theta - 1)") == 1 and "`now - 1`に直す" in item.why[item.answer]
    assert stuck(6.0, 0.1, 5) == pytest.approx(stuck(6.0, 0.5, 1)) != mended(6.0, 0.1, 5)
    shown = f"{stuck(6.0, 0.1, 5):.2f}、{mended(6.0, 0.1, 5):.2f}".replace("-", "−")
    assert shown == item.choices[item.answer]
