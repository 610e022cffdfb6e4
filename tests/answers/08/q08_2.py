"""演習 08-2（微分できる内側のループ）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy

import torch
from answer_kit import borrower, right, untouched, wrong
from torch import nn

from tlkit.meta import adapt as borrowed_adapt
from tlkit.meta.adapt import _gradients as borrowed_gradients


def refuse(steps):
    if steps < 0:
        raise ValueError("stepsは0以上の整数にしてください。")


def inner(loss, current, second_order=True):
    return torch.autograd.grad(loss(current), list(current.values()), create_graph=second_order)


def looped(step):
    """1 回の更新 step(current, loss, lr, first_order, j) をくり返す答え。"""

    def answer(params, loss, *, lr, steps, first_order=False):
        refuse(steps)
        current = dict(params)
        for j in range(steps):
            current = step(current, loss, lr, first_order, j)
        return current

    return answer


def each_step(mark):
    """1 回の更新だけが違う誤り。"""

    def decorate(step):
        answer = looped(step)
        answer.__name__ = step.__name__
        mark(answer)
        return step

    return decorate


def plain_step(current, loss, lr, first_order, j=0):
    gradients = inner(loss, current, not first_order)
    return {name: value - lr * g for (name, value), g in zip(current.items(), gradients)}


good = looped(plain_step)


def changed(change, mark):
    """返り値 change(正しい返り値, 引数の辞書) だけが違う答え。"""

    def answer(params, loss, *, lr, steps, first_order=False):
        return change(good(params, loss, lr=lr, steps=steps, first_order=first_order), params)

    answer.__name__ = change.__name__
    return mark(answer)


# ---------------------------------------------------------------- 正しい答え


@right
def own_copy_in_place(params, loss, *, lr, steps, first_order=False):
    if steps < 0:
        raise ValueError(f"steps={steps}")
    current = dict(params)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(current), tuple(current.values()), create_graph=True)
        for name, g in zip(current, gradients):
            current[name] = current[name] - lr * (g.detach() if first_order else g)
    return current


@right
def functional_gradient(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    for _ in range(steps):
        gradients = torch.func.grad(loss)(params)
        if first_order:
            gradients = {name: g.detach() for name, g in gradients.items()}
        params = {name: torch.sub(params[name], gradients[name] * lr) for name in params}
    return params


@right
def recursive(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    if steps == 0:
        return params
    names, values = zip(*params.items())
    gradients = torch.autograd.grad(loss(params), values, create_graph=not first_order)
    moved = {n: v.sub(g * lr) for n, v, g in zip(names, values, gradients)}
    return recursive(moved, loss, lr=lr, steps=steps - 1, first_order=first_order)


@right
def one_flat_vector(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    sizes = [value.numel() for value in params.values()]

    def unflatten(vector):
        return {n: part.view_as(params[n]) for n, part in zip(params, vector.split(sizes))}

    vector = torch.cat([value.reshape(-1) for value in params.values()])
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(unflatten(vector)), vector, create_graph=not first_order)
        vector = vector - lr * gradient
    return unflatten(vector)


@right
def with_a_last_look_at_the_loss(params, loss, *, lr, steps, first_order=False):
    """余分に loss を呼んで、下がったかを見る。値には使わない。"""
    adapted = good(params, loss, lr=lr, steps=steps, first_order=first_order)
    before, after = loss(params), loss(adapted)
    return adapted if after.isfinite() or before.isfinite() else adapted


# ---------------------------------------------------------------- 元の値を変える誤り


@wrong("initial-changed")
def subtracts_in_place(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    for _ in range(steps):
        gradients = inner(loss, params)
        with torch.no_grad():
            for value, g in zip(params.values(), gradients):
                value -= lr * g
    return dict(params)


@wrong("initial-changed")
def writes_to_data(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    current = dict(params)
    for _ in range(steps):
        for value, g in zip(current.values(), inner(loss, current)):
            value.data -= float(lr) * g
    return current


@wrong("initial-changed")
def library_optimiser(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    leaves = [value for value in params.values() if value.is_leaf]
    optimizer = torch.optim.SGD(leaves or [torch.zeros(1)], lr=float(lr))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(params).backward(retain_graph=True)
        optimizer.step()
    optimizer.zero_grad()
    return dict(params)


@wrong("dict-changed")
def updates_the_given_dict(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    for _ in range(steps):
        params.update(plain_step(params, loss, lr, first_order))
    return params


@wrong("dict-changed")
def replaces_entries_of_the_given_dict(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    current = params
    for _ in range(steps):
        for (name, value), g in zip(list(current.items()), inner(loss, current, not first_order)):
            current[name] = value - lr * g
    return current


@wrong("grad-left")
def gradients_by_backward(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    current = dict(params)
    for _ in range(steps):
        for value in current.values():
            value.retain_grad()
            value.grad = None
        loss(current).backward(create_graph=not first_order, inputs=list(current.values()))
        current = {name: value - lr * value.grad for name, value in current.items()}
    return current


@wrong("flags-changed")
def freezes_the_initial_values(params, loss, *, lr, steps, first_order=False):
    adapted = good(params, loss, lr=lr, steps=steps, first_order=first_order)
    for value in params.values():
        if value.is_leaf:
            value.requires_grad_(False)
    return adapted


# ---------------------------------------------------------------- 1 回の更新の誤り


@each_step(wrong("ascends"))
def climbs(current, loss, lr, first_order, j):
    return {n: v + lr * g for (n, v), g in zip(current.items(), inner(loss, current, not first_order))}


@each_step(wrong("step-size"))
def forgets_the_learning_rate(current, loss, lr, first_order, j):
    return {n: v - 1.0 * lr / lr * g for (n, v), g in zip(current.items(), inner(loss, current, not first_order))}


@each_step(wrong("step-size"))
def normalises_the_gradient(current, loss, lr, first_order, j):
    gradients = inner(loss, current, not first_order)
    norm = sum(g.square().sum() for g in gradients).sqrt()
    return {n: v - lr * g / norm for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("step-size"))
def halves_the_loss(current, loss, lr, first_order, j):
    return plain_step(current, lambda p: loss(p) / 2, lr, first_order)


@each_step(wrong("uneven"))
def normalises_each_gradient(current, loss, lr, first_order, j):
    gradients = inner(loss, current, not first_order)
    return {n: v - lr * g / g.norm() for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("direction"))
def sign_of_the_gradient(current, loss, lr, first_order, j):
    gradients = inner(loss, current, not first_order)
    return {n: v - lr * g.sign() for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("direction"))
def weight_decay_inside(current, loss, lr, first_order, j):
    gradients = inner(loss, current, not first_order)
    return {n: v - lr * (g + 0.1 * v) for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("direction"))
def names_in_another_order(current, loss, lr, first_order, j):
    """勾配の順（辞書の順）と、名前の順（あいうえお順）を取り違える。"""
    names = sorted(current)
    if len(names) > 1:
        names = ["weight" if n == "weight" else n for n in ("weight", "bias", "gain")]
    gradients = inner(loss, current, not first_order)
    moved = {n: current[n] - lr * g for n, g in zip(names, gradients)}
    return {n: moved[n] for n in current}


@each_step(wrong("one-by-one"))
def one_parameter_after_another(current, loss, lr, first_order, j):
    for name in list(current):
        (g,) = torch.autograd.grad(loss(current), [current[name]], create_graph=not first_order)
        current = current | {name: current[name] - lr * g}
    return current


@each_step(wrong("some-unmoved"))
def first_parameter_only(current, loss, lr, first_order, j):
    name = next(iter(current))
    return current | {name: plain_step(current, loss, lr, first_order)[name]}


@each_step(wrong("some-unmoved"))
def weights_only(current, loss, lr, first_order, j):
    moved = plain_step(current, loss, lr, first_order)
    return {n: moved[n] if moved[n].ndim != 1 else v for n, v in current.items()}


@wrong("unmoved")
def returns_the_given_values(params, loss, *, lr, steps, first_order=False):
    good(params, loss, lr=lr, steps=steps, first_order=first_order)
    return params


# ---------------------------------------------------------------- くり返しの誤り


@wrong("original-parameters")
def always_the_original_parameters(params, loss, *, lr, steps, first_order=False):
    """よくある誤り: どの回も、元のパラメータで予測する。"""
    refuse(steps)
    current = dict(params)
    for _ in range(steps):
        gradients = inner(loss, params, not first_order)
        current = {name: value - lr * g for (name, value), g in zip(current.items(), gradients)}
    return current


@wrong("original-parameters")
def one_gradient_for_all_steps(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    gradients = inner(loss, params, not first_order)
    return {name: value - steps * lr * g for (name, value), g in zip(params.items(), gradients)}


@wrong("step-count")
def always_one_step(params, loss, *, lr, steps, first_order=False):
    return good(params, loss, lr=lr, steps=min(steps, 1) if steps >= 0 else steps, first_order=first_order)


@wrong("step-count")
def returns_inside_the_loop(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    current = dict(params)
    for _ in range(steps):
        current = plain_step(current, loss, lr, first_order)
        return current
    return current


@wrong("step-size")
def starts_over_every_time(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    total = {name: value + 0 for name, value in params.items()}
    for _ in range(steps + 1):
        total = {n: v - lr * g for (n, v), g in zip(total.items(), inner(loss, params, not first_order))}
    return total if steps else params


@wrong("later-steps")
def subtracts_from_the_initial_values(params, loss, *, lr, steps, first_order=False):
    """勾配は更新した値で求めるが、引かれる側が、いつも初めの値。"""
    refuse(steps)
    current = dict(params)
    for _ in range(steps):
        gradients = inner(loss, current, not first_order)
        current = {name: params[name] - lr * g for name, g in zip(params, gradients)}
    return current


@wrong("later-steps")
def momentum(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    current, speed = dict(params), None
    for _ in range(steps):
        gradients = inner(loss, current, not first_order)
        speed = gradients if speed is None else [0.9 * s + g for s, g in zip(speed, gradients)]
        current = {name: value - lr * s for (name, value), s in zip(current.items(), speed)}
    return current


@each_step(wrong("later-steps"))
def shrinking_learning_rate(current, loss, lr, first_order, j):
    return plain_step(current, loss, lr / (j + 1), first_order)


@wrong("zero-changed")
def at_least_one_step(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    return good(params, loss, lr=lr, steps=max(steps, 1), first_order=first_order)


@wrong("value-mismatch")
def two_steps_for_first_order(params, loss, *, lr, steps, first_order=False):
    """一次近似のときだけ、学習率を半分にする。"""
    return good(params, loss, lr=lr * (0.5 if first_order else 1), steps=steps, first_order=first_order)


# ---------------------------------------------------------------- 初めの値から切れる誤り


@wrong("not-attached")
def works_on_a_deep_copy(params, loss, *, lr, steps, first_order=False):
    fresh = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    return good(copy.deepcopy(fresh), loss, lr=lr, steps=steps, first_order=first_order)


@each_step(wrong("not-attached"))
def wraps_in_parameters(current, loss, lr, first_order, j):
    return {n: nn.Parameter(v) for n, v in plain_step(current, loss, lr, first_order).items()}


@each_step(wrong("not-attached"))
def subtracts_without_recording(current, loss, lr, first_order, j):
    gradients = inner(loss, current, not first_order)
    with torch.no_grad():
        return {n: (v - lr * g).requires_grad_() for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("first-order-cut"))
def first_order_by_detaching_everything(current, loss, lr, first_order, j):
    moved = plain_step(current, loss, lr, first_order)
    return {n: v.detach().requires_grad_() for n, v in moved.items()} if first_order else moved


@wrong("first-order-cut")
def first_order_detaches_at_the_end(params, loss, *, lr, steps, first_order=False):
    adapted = good(params, loss, lr=lr, steps=steps)
    return {name: value.detach() for name, value in adapted.items()} if first_order else adapted


@each_step(wrong("later-cut"))
def detaches_after_the_first_step(current, loss, lr, first_order, j):
    if j:
        current = {n: v.detach().requires_grad_() for n, v in current.items()}
    return plain_step(current, loss, lr, first_order)


@wrong("zero-cut")
def zero_steps_as_numbers(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    if steps == 0:
        return {name: value.clone().detach() for name, value in params.items()}
    return good(params, loss, lr=lr, steps=steps, first_order=first_order)


@wrong("derived-cut")
def makes_leaves_first(params, loss, *, lr, steps, first_order=False):
    leaves = {n: v if v.is_leaf else v.detach().requires_grad_() for n, v in params.items()}
    return good(leaves, loss, lr=lr, steps=steps, first_order=first_order)


@wrong("lr-cut")
def learning_rate_as_a_number(params, loss, *, lr, steps, first_order=False):
    return good(params, loss, lr=float(lr), steps=steps, first_order=first_order)


@each_step(wrong("lr-cut"))
def first_order_detaches_the_whole_step(current, loss, lr, first_order, j):
    gradients = inner(loss, current)
    steps = {n: lr * g for n, g in zip(current, gradients)}
    return {n: v - (steps[n].detach() if first_order else steps[n]) for n, v in current.items()}


@each_step(wrong("lr-gradient"))
def learnable_only_at_the_last_moment(current, loss, lr, first_order, j):
    rate = lr if j or not isinstance(lr, torch.Tensor) else lr.detach()
    return plain_step(current, loss, rate, first_order)


# ---------------------------------------------------------------- 二階と一次近似の誤り


@each_step(wrong("second-order-missing"))
def forgets_create_graph(current, loss, lr, first_order, j):
    gradients = torch.autograd.grad(loss(current), list(current.values()))
    return {n: v - lr * g for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("second-order-missing"))
def retains_instead_of_creating(current, loss, lr, first_order, j):
    gradients = torch.autograd.grad(loss(current), list(current.values()), retain_graph=not first_order)
    return {n: v - lr * g for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("first-order-ignored"))
def always_second_order(current, loss, lr, first_order, j):
    return plain_step(current, loss, lr, False)


@each_step(wrong("orders-swapped"))
def flag_the_other_way(current, loss, lr, first_order, j):
    return plain_step(current, loss, lr, not first_order)


@wrong("default-order")
def first_order_by_default(params, loss, *, lr, steps, first_order=True):
    return good(params, loss, lr=lr, steps=steps, first_order=first_order)


@each_step(wrong("second-order-later"))
def second_order_in_the_first_step_only(current, loss, lr, first_order, j):
    return plain_step(current, loss, lr, first_order or j > 0)


@each_step(wrong("second-order-wrong"))
def detaches_the_minuend(current, loss, lr, first_order, j):
    """引かれる側を切り離し、恒等写像の項を失う。一次近似のときだけ正しい。"""
    gradients = inner(loss, current, not first_order)
    return {n: (v if first_order else v.detach()) - lr * g for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("second-order-wrong"))
def second_order_for_one_parameter(current, loss, lr, first_order, j):
    gradients = inner(loss, current)
    keep = next(iter(current)) if not first_order and len(current) > 1 else None
    full = len(current) == 1 and not first_order
    pairs = zip(current.items(), gradients)
    return {n: v - lr * (g if n == keep or full else g.detach()) for (n, v), g in pairs}


@each_step(wrong("first-order-wrong"))
def drops_half_of_the_second_order(current, loss, lr, first_order, j):
    gradients = inner(loss, current)
    return {n: v - lr * ((g + g.detach()) / 2 if first_order else g) for (n, v), g in zip(current.items(), gradients)}


@each_step(wrong("first-order-wrong"))
def keeps_the_last_second_order(current, loss, lr, first_order, j):
    return plain_step(current, loss, lr, first_order and j < 1)


# ---------------------------------------------------------------- 返り値と引数の誤り


@wrong("not-dict")
def returns_a_list(*args, **kwargs):
    return list(good(*args, **kwargs).values())


@wrong("not-dict")
def returns_a_pair(params, loss, **kwargs):
    adapted = good(params, loss, **kwargs)
    return adapted, loss(adapted)


@wrong("names-changed")
def numbers_the_parameters(*args, **kwargs):
    return {str(i): value for i, value in enumerate(good(*args, **kwargs).values())}


@wrong("names-changed")
def zero_steps_as_an_empty_dict(params, loss, *, lr, steps, first_order=False):
    return good(params, loss, lr=lr, steps=steps, first_order=first_order) if steps else {}


@wrong("not-tensor")
def returns_arrays(*args, **kwargs):
    return {name: value.detach().numpy() for name, value in good(*args, **kwargs).items()}


@wrong("shape")
def flattens(*args, **kwargs):
    return {name: value.reshape(-1) for name, value in good(*args, **kwargs).items()}


@wrong("dtype-changed")
def always_double(*args, **kwargs):
    return {name: value.double() for name, value in good(*args, **kwargs).items()}


@wrong("backward-failed")
def overwrites_what_was_recorded(params, loss, *, lr, steps, first_order=False):
    """途中の値を、値は変えずに、その場で書き直す。記録した値が古くなり、逆伝播できない。"""
    refuse(steps)
    current = dict(params)
    for j in range(steps):
        moved = plain_step(current, loss, lr, first_order)
        if j:
            with torch.no_grad():
                for value in current.values():
                    value.mul_(1.0)
        current = moved
    return current


@wrong("negative-accepted")
def range_of_a_negative_number(params, loss, *, lr, steps, first_order=False):
    current = dict(params)
    for _ in range(steps):
        current = plain_step(current, loss, lr, first_order)
    return current


@wrong("wrong-exception")
def asserts_the_steps(params, loss, *, lr, steps, first_order=False):
    assert steps >= 0
    return good(params, loss, lr=lr, steps=steps, first_order=first_order)


@wrong("rejects-zero")
def refuses_zero(params, loss, *, lr, steps, first_order=False):
    if steps < 1:
        raise ValueError("stepsは1以上にしてください。")
    return good(params, loss, lr=lr, steps=steps, first_order=first_order)


@wrong("returned-none")
def forgets_return(*args, **kwargs):
    good(*args, **kwargs)


@wrong("raised")
def passes_a_list_to_the_loss(params, loss, *, lr, steps, first_order=False):
    values = list(params.values())
    loss(values)
    return params


@wrong("raised")
def minus_on_a_leaf(params, loss, *, lr, steps, first_order=False):
    current = dict(params)
    for value, g in zip(current.values(), inner(loss, current)):
        value -= lr * g
    return current


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(params, loss, *, lr, steps, first_order=False):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(params, loss, *, lr, steps, first_order=False):
    gradients = ...
    return {name: value - lr * gradients for name, value in params.items()}


@borrower
def lends_the_library(params, loss, *, lr, steps, first_order=False):
    return borrowed_adapt(params, loss, lr=lr, steps=steps, first_order=first_order)


@borrower
def borrows_the_gradients(params, loss, *, lr, steps, first_order=False):
    refuse(steps)
    current = dict(params)
    for _ in range(steps):
        gradients = borrowed_gradients(current, loss, not first_order)
        current = {name: value - lr * g for (name, value), g in zip(current.items(), gradients)}
    return current


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
