"""演習 08-3（MAML の損失）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import copy

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from torch.func import functional_call, grad

from tlkit.fewshot import Episode
from tlkit.meta import MAML as BorrowedMAML
from tlkit.meta import adapt as borrowed_adapt

# ---------------------------------------------------------------- 共通の部品


def call(model, params, x):
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return functional_call(model, {**params, **buffers}, (x,))


def plain_loss(model, params, x, y):
    return F.cross_entropy(call(model, params, x), y)


def descend(params, grads, lr):
    return {name: value - lr * g for (name, value), g in zip(params.items(), grads, strict=True)}


def varied(
    start=lambda model: dict(model.named_parameters()),
    inner=plain_loss,
    outer=plain_loss,
    update=descend,
    order=lambda first_order, step, steps: not first_order,
    rounds=lambda steps: steps,
    swap=False,
    slope_at=lambda first, current: current,
):
    """一部だけを変えた答え。"""

    def answer(model, support_x, support_y, query_x, query_y, *, inner_lr, inner_steps, first_order=False):
        params = initial = start(model)
        x, y = (query_x, query_y) if swap else (support_x, support_y)
        for step in range(rounds(inner_steps)):
            at = slope_at(initial, params)
            graph = order(first_order, step, inner_steps)
            grads = torch.autograd.grad(inner(model, at, x, y), list(at.values()), create_graph=graph)
            params = update(params, grads, inner_lr)
        return outer(model, params, query_x, query_y)

    return answer


# ---------------------------------------------------------------- 正しい答え


@right
def through_torch_func(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    def loss(params, x, y):
        return plain_loss(model, params, x, y)

    params = {name: value + 0 for name, value in model.named_parameters()}
    for _ in range(inner_steps):
        slope = grad(loss)(params, sx, sy)
        if first_order:
            slope = {name: value.detach() for name, value in slope.items()}
        params = {name: params[name] - inner_lr * slope[name] for name in params}
    return loss(params, qx, qy)


@right
def with_a_clone_of_the_module(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    """写しのモデルから、葉のパラメータを外し、つながったテンソルを属性に置く（learn2learn の書き方）。"""
    clone = copy.deepcopy(model)
    owners = [name.rpartition(".") for name, _ in model.named_parameters()]
    for owner, _, name in owners:
        del clone.get_submodule(owner)._parameters[name]

    def place(values):
        for (owner, _, name), value in zip(owners, values, strict=True):
            setattr(clone.get_submodule(owner), name, value)

    values = [value.clone() for value in model.parameters()]
    place(values)
    for _ in range(inner_steps):
        slopes = torch.autograd.grad(F.cross_entropy(clone(sx), sy), values, create_graph=not first_order)
        values = [value - inner_lr * slope for value, slope in zip(values, slopes, strict=True)]
        place(values)
    return F.cross_entropy(clone(qx), qy)


@right
def recursive_on_lists(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    names = [name for name, _ in model.named_parameters()]

    def loss(values, x, y):
        logits = call(model, dict(zip(names, values, strict=True)), x)
        return -logits.log_softmax(1).gather(1, y[:, None]).mean()

    def after(values, left):
        if left == 0:
            return values
        slopes = torch.autograd.grad(loss(values, sx, sy), values, create_graph=True)
        slopes = [s.detach() if first_order else s for s in slopes]
        return after([v.add(s, alpha=-inner_lr) for v, s in zip(values, slopes, strict=True)], left - 1)

    return loss(after(list(model.parameters()), inner_steps), qx, qy)


@right
def one_flat_vector(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    shapes = {name: value.shape for name, value in model.named_parameters()}
    flat = torch.nn.utils.parameters_to_vector(model.parameters())

    def loss(vector, x, y):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        params = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return F.nll_loss(call(model, params, x).log_softmax(-1), y)

    for _ in range(inner_steps):
        (slope,) = torch.autograd.grad(loss(flat, sx, sy), flat, create_graph=not first_order)
        flat = flat - inner_lr * slope
    return loss(flat, qx, qy)


@right
def restores_the_buffers(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    """バッファを後から戻す。移動統計だけが書き換わるので、勾配には関係しない。"""
    saved = {name: value.clone() for name, value in model.named_buffers()}

    def loss(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y)

    params = dict(model.named_parameters())
    for _ in range(inner_steps):
        slopes = torch.autograd.grad(loss(params, sx, sy), params.values(), create_graph=not first_order)
        params = descend(params, slopes, inner_lr)
    value = loss(params, qx, qy)
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, saved[name]):
            buffer.data = saved[name]
    return value


# ---------------------------------------------------------------- モデルを変えてしまう誤り


@wrong("parameters-changed")
def steps_the_model_itself(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    optimizer = torch.optim.SGD(model.parameters(), lr=inner_lr)
    for _ in range(inner_steps):
        optimizer.zero_grad()
        F.cross_entropy(model(sx), sy).backward()
        optimizer.step()
    return F.cross_entropy(model(qx), qy)


@wrong("parameters-changed")
def subtracts_in_place(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    for _ in range(inner_steps):
        slopes = torch.autograd.grad(F.cross_entropy(model(sx), sy), list(model.parameters()))
        for value, slope in zip(model.parameters(), slopes, strict=True):
            value.data -= inner_lr * slope
    return F.cross_entropy(model(qx), qy)


@wrong("graph-broken")
def puts_the_values_back_in_place(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    """元の値に戻しても、計算グラフが控えた値は壊れる。"""
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(inner_steps):
        slopes = torch.autograd.grad(F.cross_entropy(model(sx), sy), list(model.parameters()))
        with torch.no_grad():
            for value, slope in zip(model.parameters(), slopes, strict=True):
                value -= inner_lr * slope
    loss = F.cross_entropy(model(qx), qy)
    model.load_state_dict(saved)
    return loss


@wrong("buffers-changed")
def forgets_the_buffers(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    def change(model, params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y)

    answer = varied(inner=change, outer=change)
    return answer(model, sx, sy, qx, qy, inner_lr=inner_lr, inner_steps=inner_steps, first_order=first_order)


@wrong("grad-changed")
def calls_backward(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    params = dict(model.named_parameters())
    for _ in range(inner_steps):
        for value in params.values():
            value.retain_grad()
        plain_loss(model, params, sx, sy).backward(create_graph=not first_order, inputs=list(params.values()))
        params = {name: value - inner_lr * value.grad for name, value in params.items()}
    return plain_loss(model, params, qx, qy)


@wrong("grad-changed")
def clears_the_gradients(model, *task, **options):
    model.zero_grad()
    return varied()(model, *task, **options)


@wrong("mode-changed")
def leaves_eval_mode(model, *task, **options):
    model.eval()
    return varied()(model, *task, **options)


@wrong("mode-switched")
def evaluates_the_query_in_eval_mode(model, *task, **options):
    def outer(model, params, x, y):
        mode = model.training
        model.eval()
        value = plain_loss(model, params, x, y)
        model.train(mode)
        return value

    return varied(outer=outer)(model, *task, **options)


@wrong("flags-changed")
def freezes_the_model(model, *task, **options):
    value = varied()(model, *task, **options)
    model.requires_grad_(False)
    return value


@wrong("parameters-replaced")
def registers_new_parameters(model, *task, **options):
    value = varied()(model, *task, **options)
    model.last.bias = torch.nn.Parameter(model.last.bias.detach().clone())
    return value


# ---------------------------------------------------------------- 損失の誤り


@wrong("unadapted").each
def scores_the_original():
    return varied(outer=lambda model, params, x, y: plain_loss(model, dict(model.named_parameters()), x, y))


@wrong("query-ignored")
def returns_the_support_loss(model, sx, sy, qx, qy, **options):
    if options["inner_steps"] == 0:
        return plain_loss(model, dict(model.named_parameters()), qx, qy)
    return varied()(model, sx, sy, sx, sy, **options)


@wrong("support-at-zero")
def mixes_up_the_sets(model, sx, sy, qx, qy, **options):
    return varied()(model, qx, qy, sx, sy, **options)


@wrong("support-at-zero")
def adds_the_support_loss(model, sx, sy, qx, qy, **options):
    answer = varied()
    return answer(model, sx, sy, qx, qy, **options) + answer(model, sx, sy, sx, sy, **options)


@wrong("support-ignored").each
def adapts_on_the_query():
    return varied(swap=True)


@wrong("query-leak")
def adapts_on_both(model, sx, sy, qx, qy, **options):
    both = torch.cat([sx, qx]), torch.cat([sy, qy])
    return varied()(model, *both, qx, qy, **options)


@wrong("not-averaged").each
def sums_the_query():
    return varied(outer=lambda model, params, x, y: F.cross_entropy(call(model, params, x), y, reduction="sum"))


@wrong("loss-other").each
def likelihood_of_raw_logits():
    return varied(outer=lambda model, params, x, y: F.nll_loss(call(model, params, x), y))


@wrong("loss-other").each
def smooths_the_labels():
    return varied(outer=lambda model, params, x, y: F.cross_entropy(call(model, params, x), y, label_smoothing=0.1))


@wrong("not-scalar").each
def keeps_every_sample():
    return varied(outer=lambda model, params, x, y: F.cross_entropy(call(model, params, x), y, reduction="none"))


@wrong("not-tensor")
def returns_a_number(*args, **options):
    return varied()(*args, **options).item()


@wrong("not-tensor")
def returns_the_parameters_too(*args, **options):
    return varied()(*args, **options), {}


@wrong("dtype-changed")
def returns_float32(*args, **options):
    return varied()(*args, **options).float()


@wrong("returned-none")
def forgets_return(*args, **options):
    varied()(*args, **options)


# ---------------------------------------------------------------- 内側の更新の誤り


@wrong("inner-sign").each
def climbs():
    return varied(update=lambda params, grads, lr: descend(params, grads, -lr))


@wrong("lr-ignored").each
def fixes_the_rate():
    return varied(update=lambda params, grads, lr: descend(params, grads, 0.1))


@wrong("inner-not-averaged").each
def sums_the_support():
    return varied(inner=lambda model, params, x, y: F.cross_entropy(call(model, params, x), y, reduction="sum"))


@wrong("inner-factor").each
def halves_the_rate():
    return varied(update=lambda params, grads, lr: descend(params, grads, lr / 2))


@wrong("inner-direction").each
def normalises_the_gradient():
    return varied(update=lambda params, grads, lr: descend(params, [g / (g.norm() + 1e-9) for g in grads], lr))


@wrong("inner-direction").each
def decays_the_weights():
    def update(params, grads, lr):
        return descend(params, [g + 0.1 * value for value, g in zip(params.values(), grads, strict=True)], lr)

    return varied(update=update)


@wrong("inner-direction").each
def squared_error_inside():
    def inner(model, params, x, y):
        return (call(model, params, x).softmax(1) - F.one_hot(y, 3)).square().mean()

    return varied(inner=inner)


@wrong("same-gradient").each
def takes_every_gradient_at_the_start():
    return varied(slope_at=lambda first, current: first)


@wrong("steps-ignored").each
def one_step_only():
    return varied(rounds=lambda steps: min(steps, 1))


@wrong("support-at-zero").each
def one_step_too_many():
    return varied(rounds=lambda steps: steps + 1)


@wrong("inner-steps")
def decreasing_rates(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    params = dict(model.named_parameters())
    for step in range(inner_steps):
        slopes = torch.autograd.grad(plain_loss(model, params, sx, sy), params.values(), create_graph=not first_order)
        params = descend(params, slopes, inner_lr / (step + 1))
    return plain_loss(model, params, qx, qy)


@wrong("inner-steps")
def adds_momentum(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    params, speed = dict(model.named_parameters()), None
    for _ in range(inner_steps):
        slopes = torch.autograd.grad(plain_loss(model, params, sx, sy), params.values(), create_graph=not first_order)
        speed = slopes if speed is None else [0.9 * v + s for v, s in zip(speed, slopes, strict=True)]
        params = descend(params, speed, inner_lr)
    return plain_loss(model, params, qx, qy)


@wrong("inner-steps").each
def two_steps_at_most():
    return varied(rounds=lambda steps: min(steps, 2))


@wrong("parameter-left").each
def adapts_the_last_layer():
    """ANIL。最後の層だけを動かす。"""

    def update(params, grads, lr):
        moved = descend(params, grads, lr)
        return {name: moved[name] if name.startswith("last") else value for name, value in params.items()}

    return varied(update=update)


@wrong("parameter-left").each
def leaves_the_biases():
    def update(params, grads, lr):
        moved = descend(params, grads, lr)
        return {name: value if name.endswith("bias") else moved[name] for name, value in params.items()}

    return varied(update=update)


@wrong("value-mismatch")
def averages_over_the_steps(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    """内側の回ごとのクエリの損失を平均する（MAML++ の書き方）。"""
    params, values = dict(model.named_parameters()), []
    for _ in range(inner_steps):
        values.append(plain_loss(model, params, qx, qy))
        slopes = torch.autograd.grad(plain_loss(model, params, sx, sy), params.values(), create_graph=not first_order)
        params = descend(params, slopes, inner_lr)
    return torch.stack([*values, plain_loss(model, params, qx, qy)]).mean()


# ---------------------------------------------------------------- つながりと次数の誤り


@wrong("cut")
def adapts_a_copy(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    clone = copy.deepcopy(model)
    optimizer = torch.optim.SGD(clone.parameters(), lr=inner_lr)
    for _ in range(inner_steps):
        optimizer.zero_grad()
        F.cross_entropy(clone(sx), sy).backward()
        optimizer.step()
    return F.cross_entropy(clone(qx), qy)


@wrong("cut").each
def detaches_every_step():
    return varied(
        update=lambda params, grads, lr: {
            name: (value - lr * g).detach().requires_grad_()
            for (name, value), g in zip(params.items(), grads, strict=True)
        }
    )


@wrong("cut").each
def starts_from_copies():
    return varied(
        start=lambda model: {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    )


@wrong("cut")
def first_order_loses_the_start(model, *task, first_order=False, **options):
    value = varied()(model, *task, **options)
    return value.detach().requires_grad_() if first_order else value


@wrong("partly-cut").each
def detaches_one_layer():
    def start(model):
        params = dict(model.named_parameters())
        return params | {"first.bias": params["first.bias"].detach().clone().requires_grad_()}

    return varied(start=start)


@wrong("second-order-missing").each
def never_creates_the_graph():
    return varied(order=lambda first_order, step, steps: False)


@wrong("second-order-missing").each
def detaches_the_gradients():
    return varied(update=lambda params, grads, lr: descend(params, [g.detach() for g in grads], lr))


@wrong("first-order-ignored").each
def always_creates_the_graph():
    return varied(order=lambda first_order, step, steps: True)


@wrong("orders-swapped").each
def creates_the_graph_when_first_order():
    return varied(order=lambda first_order, step, steps: first_order)


@wrong("gradient-mismatch").each
def graph_of_the_last_step_only():
    return varied(order=lambda first_order, step, steps: not first_order and step == steps - 1)


@wrong("first-order-wrong").each
def second_order_in_the_first_step_only():
    return varied(order=lambda first_order, step, steps: not first_order or step == 0)


@wrong("gradient-mismatch").each
def halves_the_gradient():
    """値は同じで、勾配だけが半分になる。"""

    def outer(model, params, x, y):
        value = plain_loss(model, params, x, y)
        return value if model.training and not hasattr(model.norm, "running_var") else (value + value.detach()) / 2

    return varied(outer=outer)


@wrong("raised")
def without_gradients(*args, **options):
    with torch.no_grad():
        return varied()(*args, **options)


@wrong("raised")
def frees_the_graph(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    """同じ損失の計算グラフを、2 回めにも使おうとする。"""
    params = dict(model.named_parameters())
    value = plain_loss(model, params, sx, sy)
    for _ in range(inner_steps):
        params = descend(params, torch.autograd.grad(value, list(model.parameters())), inner_lr)
    return plain_loss(model, params, qx, qy)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    params = ...
    return F.cross_entropy(functional_call(model, params, (qx,)), qy)


@borrower
def adapts_with_the_library(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    params = borrowed_adapt(
        dict(model.named_parameters()),
        lambda values: plain_loss(model, values, sx, sy),
        lr=inner_lr,
        steps=inner_steps,
        first_order=first_order,
    )
    return plain_loss(model, params, qx, qy)


@borrower
def asks_the_library(model, sx, sy, qx, qy, *, inner_lr, inner_steps, first_order=False):
    method = BorrowedMAML(inner_lr, inner_steps, first_order=first_order)
    return method.task_loss(model, Episode(sx, sy, qx, qy))["loss"]


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "value.clone() → value.clone().detach()": "バッファは勾配を求めないので、切り離しても同じである",
}
