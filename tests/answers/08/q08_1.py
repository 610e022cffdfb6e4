"""演習 08-1（メタ勾配を手で求める）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import math
from fractions import Fraction

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

from tlkit.meta import adapt as borrowed_adapt

HAND = [2, 4, 1]


def with_hand(mark, hand=HAND):
    """関数の答えに、手計算の答えを添える。"""

    def decorate(answer):
        def pair():
            return answer, hand

        pair.__name__ = answer.__name__
        mark.each(pair)
        return answer

    return decorate


def power(c, lr, k):
    return (1 - lr * c) ** k


def made(shrink=power, inner=None, outer=lambda c, gap: c * gap, factor=power, first=None):
    """式の一部だけを変えた答え。shrink、factor は (c, η, k)、inner は (θ, a, ρ)、outer は (c, θ′ − b)、first は一次近似の係数。"""

    def answer(theta, curvature, support, query, *, lr, steps, first_order=False):
        rho = shrink(curvature, lr, steps)
        adapted = inner(theta, support, rho) if inner else support + rho * (theta - support)
        gradient = outer(curvature, adapted - query)
        if not first_order:
            gradient = gradient * factor(curvature, lr, steps)
        elif first:
            gradient = gradient * first(curvature, lr, steps)
        return gradient.mean()

    return answer


good = made()


def formula(mark, **changes):
    """式の一部だけが違う誤り。関数の名前だけを使う。"""

    def decorate(named):
        answer = made(**changes)
        answer.__name__ = named.__name__
        with_hand(mark)(answer)
        return named

    return decorate


# ---------------------------------------------------------------- 正しい答え


@with_hand(right, (2.0, 4.0, 1.0))
def one_formula(theta, curvature, support, query, *, lr, steps, first_order=False):
    rho = torch.pow(1 - lr * curvature, steps)
    slope = torch.ones_like(rho) if first_order else rho
    return (curvature * slope * (rho * theta + (1 - rho) * support - query)).mean()


@with_hand(right, [Fraction(2), Fraction(4), Fraction(1)])
def step_by_step(theta, curvature, support, query, *, lr, steps, first_order=False):
    adapted, slope = torch.full_like(support, theta), torch.ones_like(support)
    for _ in range(steps):
        adapted = adapted - lr * curvature * (adapted - support)
        slope = slope * (1 - lr * curvature)
    gradient = curvature * (adapted - query)
    return (gradient if first_order else gradient * slope).mean()


@with_hand(right, np.array([2.0, 4.0, 1.0]))
def task_by_task(theta, curvature, support, query, *, lr, steps, first_order=False):
    gradients = []
    for c, a, b in zip(curvature, support, query):
        gap = (theta - a) * (1 - c * lr) ** steps
        gradients.append(c * (a + gap - b) * ((1 - c * lr) ** (0 if first_order else steps)))
    return torch.stack(gradients).mean()


@with_hand(right, torch.tensor([2.0, 4.0, 1.0]))
def backwards_through_the_steps(theta, curvature, support, query, *, lr, steps, first_order=False):
    """逆伝播を手で書く。後ろの回から、ヤコビアンを順に掛ける。"""
    points = [theta + torch.zeros_like(support)]
    for _ in range(steps):
        points.append(points[-1] - lr * (curvature * (points[-1] - support)))
    back = curvature * (points[-1] - query)
    for _ in points[1:]:
        back = back if first_order else back - lr * curvature * back
    return back.sum() / len(back)


@with_hand(right)
def quadratic_expansion(theta, curvature, support, query, *, lr, steps, first_order=False):
    """二項係数で展開した (1 − cη)^k。"""
    rho = sum(math.comb(steps, j) * (-lr * curvature) ** j for j in range(steps + 1))
    gap = theta - support
    first = curvature * (gap * rho - (query - support))
    return torch.mean(first if first_order else rho * first)


# ---------------------------------------------------------------- 手計算の誤り


@with_hand(wrong("hand-form"), 2)
def hand_is_one_number(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-form"), [2, 4])
def hand_has_two_numbers(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-adapted"), [1, 2, 0.5])
def hand_moves_twice_by_the_first_gradient(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-adapted"), [3, 6, 3])
def hand_after_one_step(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-first"), [2, 2, 0.5])
def hand_uses_the_support_loss(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-first"), [2, 1, 4])
def hand_in_the_other_order(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-second"), [2, 4, 2])
def hand_multiplies_once(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(wrong("hand-second"), [2, 4, 4])
def hand_forgets_the_chain_rule(*args, **kwargs):
    return good(*args, **kwargs)


# ---------------------------------------------------------------- 内側の更新の誤り


@formula(wrong("same-gradient"), shrink=lambda c, lr, k: 1 - k * lr * c)
def every_step_from_theta():
    """どの回も、初めの θ での勾配で動く。"""


@formula(wrong("same-gradient"), shrink=lambda c, lr, k: 1 - k * lr * c, factor=lambda c, lr, k: 1 - k * lr * c)
def one_long_step():
    """η の k 回を、kη の 1 回で済ませる。"""


@formula(wrong("steps-ignored"), shrink=lambda c, lr, k: 1 - lr * c * min(k, 1))
def always_one_step():
    """何回でも、1 回しか動かない。"""


@formula(wrong("inner-sign"), shrink=lambda c, lr, k: (1 + lr * c) ** k)
def climbs():
    """勾配の向きに動く。"""


@formula(wrong("inner-rate"), shrink=lambda c, lr, k: (1 - 2 * lr * c) ** k)
def derivative_without_the_half():
    """損失の 1/2 を忘れ、勾配を 2c(θ − a) とする。"""


@formula(wrong("inner-rate"), shrink=lambda c, lr, k: (1 - lr * c**2) ** k)
def curvature_twice():
    """内側で c を 2 回掛ける。"""


@formula(wrong("inner-rate"), shrink=lambda c, lr, k: (-lr * c * k).exp())
def continuous_time():
    """勾配流（連続の時間）の指数。"""


@formula(wrong("inner-curvature"), shrink=lambda c, lr, k: (1 - lr + 0 * c) ** k)
def forgets_the_inner_curvature():
    """内側の勾配で c を忘れる。"""


@formula(wrong("lr-ignored"), shrink=lambda c, lr, k: (1 - 0.3 * c) ** k)
def fixed_learning_rate():
    """学習率を決め打ちする。"""


@formula(wrong("inner-steps"), shrink=lambda c, lr, k: (1 - lr * c) ** (k * (k + 1) // 2))
def longer_steps_later():
    """回を追うごとに、多く動く。"""


@formula(wrong("steps-shifted"), shrink=lambda c, lr, k: (1 - lr * c) ** (k + 1))
def one_step_too_many():
    """1 回多く動く。"""


@formula(wrong("support-ignored"), inner=lambda theta, a, rho: rho * theta)
def shrinks_towards_zero():
    """a でなく、原点へ縮む。"""


@formula(wrong("origin-dependent"), inner=lambda theta, a, rho: a + rho * theta)
def forgets_to_subtract_the_minimum():
    """θ − a の a を忘れる。"""


# ---------------------------------------------------------------- 外側の勾配の誤り


@formula(wrong("unadapted"), inner=lambda theta, a, rho: theta + 0 * a)
def query_loss_of_the_unadapted():
    """適応しない θ で、クエリの損失を測る。"""


@with_hand(wrong("query-ignored"))
def support_loss_outside(theta, curvature, support, query, *, lr, steps, first_order=False):
    return good(theta, curvature, support, support, lr=lr, steps=steps, first_order=first_order)


@with_hand(wrong("support-ignored"))
def query_loss_inside(theta, curvature, support, query, *, lr, steps, first_order=False):
    return good(theta, curvature, query, query, lr=lr, steps=steps, first_order=first_order)


@with_hand(wrong("steps-shifted"))
def swaps_support_and_query(theta, curvature, support, query, *, lr, steps, first_order=False):
    return good(theta, curvature, query, support, lr=lr, steps=steps, first_order=first_order)


@with_hand(wrong("theta-ignored"))
def starts_from_zero(theta, curvature, support, query, *, lr, steps, first_order=False):
    return good(0.0, curvature, support, query, lr=lr, steps=steps, first_order=first_order)


@formula(wrong("outer-sign"), outer=lambda c, gap: -c * gap)
def query_minus_adapted():
    """符号が逆。"""


@formula(wrong("outer-factor"), outer=lambda c, gap: 2 * c * gap)
def forgets_the_half_outside():
    """外側で 1/2 を忘れる。"""


@formula(wrong("outer-curvature"), outer=lambda c, gap: gap)
def forgets_the_outer_curvature():
    """外側で c を忘れる。"""


@formula(wrong("not-linear"), outer=lambda c, gap: c * gap**2 / 2)
def returns_the_loss():
    """勾配でなく、損失を返す。"""


# ---------------------------------------------------------------- 二階の項の誤り


@formula(wrong("second-order-missing"), factor=lambda c, lr, k: 1)
def never_second_order():
    """いつも一次近似。"""


@formula(wrong("first-order-ignored"), first=power)
def always_second_order():
    """いつも正確なメタ勾配。"""


@formula(wrong("orders-swapped"), factor=lambda c, lr, k: 1, first=power)
def flag_the_other_way():
    """first_order の働きが逆。"""


@formula(wrong("second-order-once"), factor=lambda c, lr, k: (1 - lr * c) ** min(k, 1))
def chain_rule_of_one_step():
    """連鎖律を 1 回分しか掛けない。"""


@formula(wrong("second-order-at-zero"), factor=lambda c, lr, k: 1 - lr * c)
def one_step_formula_for_any_steps():
    """0 回でも、1 回分の連鎖律を掛ける。"""


@formula(wrong("second-order-linear"), factor=lambda c, lr, k: 1 - k * lr * c)
def chain_rule_added_up():
    """k 回の微分を、足し算で集める。"""


@formula(wrong("second-order-factor"), factor=lambda c, lr, k: (1 - lr * c) ** (2 * k))
def chain_rule_twice():
    """連鎖律を 2 度掛ける。"""


@formula(wrong("second-order-factor"), factor=lambda c, lr, k: (1 + lr * c) ** k)
def chain_rule_with_the_other_sign():
    """二階の項の符号が逆。"""


@formula(wrong("second-order-at-zero"), factor=lambda c, lr, k: -k * lr * c)
def only_the_second_order_part():
    """恒等写像の 1 を忘れる。"""


@formula(wrong("first-order-factor"), first=lambda c, lr, k: (1 - lr * c) ** max(k - 1, 0))
def drops_only_the_last_step():
    """一次近似で、1 回分しか捨てない。"""


@with_hand(wrong("second-order-partial"))
def factor_on_one_part(theta, curvature, support, query, *, lr, steps, first_order=False):
    rho = power(curvature, lr, steps)
    slope = 1 if first_order else rho
    return (curvature * (rho * (theta - support) + slope * (support - query))).mean()


# ---------------------------------------------------------------- 課題の平均の誤り


@with_hand(wrong("not-averaged"))
def sums_over_tasks(theta, curvature, *args, **kwargs):
    return good(theta, curvature, *args, **kwargs) * len(curvature)


@with_hand(wrong("not-averaged"))
def averages_twice(theta, curvature, *args, **kwargs):
    return good(theta, curvature, *args, **kwargs) / len(curvature)


@with_hand(wrong("tasks-mixed"))
def averages_the_tasks_first(theta, curvature, support, query, **kwargs):
    return good(theta, *(part.mean()[None] for part in (curvature, support, query)), **kwargs)


@with_hand(wrong("tasks-mixed"))
def one_factor_for_all(theta, curvature, support, query, *, lr, steps, first_order=False):
    """連鎖律の係数を、平均した c から作る。"""
    rate = curvature.mean()
    gradient = good(theta, curvature, support, query, lr=lr, steps=steps, first_order=True)
    return gradient if first_order else gradient * (1 - lr * rate) ** steps


@with_hand(wrong("tasks-mixed"))
def weighted_mean(theta, curvature, support, query, *, lr, steps, first_order=False):
    rho = power(curvature, lr, steps)
    gradient = curvature * (support + rho * (theta - support) - query) * (1 if first_order else rho)
    return (gradient * curvature).sum() / curvature.sum()


@with_hand(wrong("tasks-mixed"))
def first_task_only(theta, curvature, support, query, **kwargs):
    return good(theta, curvature[:1], support[:1], query[:1], **kwargs)


# ---------------------------------------------------------------- 特別な学習率の誤り


@formula(wrong("nan"), shrink=lambda c, lr, k: (k * (1 - lr * c).log()).exp())
def through_the_logarithm():
    """対数を通す。cη > 1 で NaN になる。"""


@with_hand(wrong("nan"))
def divides_by_the_factor(theta, curvature, support, query, *, lr, steps, first_order=False):
    """正確な値を、係数で割って一次近似に戻す。cη = 1 で 0/0 になる。"""
    rho = power(curvature, lr, steps)
    exact = curvature * rho * (support + rho * (theta - support) - query)
    return (exact / rho if first_order else exact).mean()


@formula(wrong("sign-lost"), shrink=lambda c, lr, k: (1 - lr * c).abs() ** k)
def absolute_shrinking():
    """縮む割合の絶対値を取る。"""


@formula(wrong("sign-lost"), factor=lambda c, lr, k: (1 - lr * c).abs() ** k)
def absolute_chain_rule():
    """連鎖律の係数の絶対値を取る。"""


@formula(wrong("clipped"), shrink=lambda c, lr, k: (1 - lr * c).clamp(min=0) ** k)
def never_overshoots():
    """a を行き過ぎないように、0 で切る。"""


@formula(wrong("clipped"), factor=lambda c, lr, k: (1 - lr * c).clamp(-1, 1) ** k)
def never_diverges():
    """係数を −1 から 1 に切り詰める。"""


@formula(wrong("value-mismatch"), shrink=lambda c, lr, k: (1 - lr * c) ** min(k, 10))
def at_most_ten_steps():
    """10 回で打ち切る。"""


# ---------------------------------------------------------------- 計算のしかたと返り値の誤り


@with_hand(wrong("autograd"))
def by_autograd(theta, curvature, support, query, *, lr, steps, first_order=False):
    start = torch.full_like(support, theta).requires_grad_()
    adapted = start
    for _ in range(steps):
        step = lr * curvature * (adapted - support)
        adapted = adapted - (step.detach() if first_order else step)
    loss = (curvature * (adapted - query) ** 2 / 2).mean()
    return torch.autograd.grad(loss, start)[0].sum()


@with_hand(wrong("autograd"))
def by_torch_func(theta, curvature, support, query, *, lr, steps, first_order=False):
    def outer(start):
        adapted = start
        for _ in range(steps):
            step = lr * curvature * (adapted - support)
            adapted = adapted - (step.detach() if first_order else step)
        return (curvature * (adapted - query) ** 2 / 2).mean()

    return torch.func.grad(outer)(torch.tensor(float(theta), dtype=curvature.dtype))


@with_hand(wrong("rounded"))
def central_differences(theta, curvature, support, query, *, lr, steps, first_order=False):
    dtype, h = curvature.dtype, 1e-6
    curvature, support, query = (part.double() for part in (curvature, support, query))
    rho = power(curvature, lr, steps)
    at = support + rho * (theta - support)

    def loss(move):
        moved = at + move * (1 if first_order else rho)
        return (curvature * (moved - query) ** 2 / 2).mean()

    wide = loss(h) - loss(-h)
    return (wide / (2 * h)).to(dtype)


@with_hand(wrong("rounded"))
def in_single_precision(theta, curvature, support, query, **kwargs):
    found = good(theta, *(part.float() for part in (curvature, support, query)), **kwargs)
    exact = good(theta, curvature, support, query, **kwargs)
    return exact + 1e-3 * (found - exact)


@with_hand(wrong("dtype-changed"))
def always_double(theta, curvature, support, query, **kwargs):
    return good(theta, curvature.double(), support.double(), query.double(), **kwargs)


@with_hand(wrong("not-tensor"))
def returns_a_number(*args, **kwargs):
    return good(*args, **kwargs).item()


@with_hand(wrong("not-averaged-shape"))
def one_value_per_task(theta, curvature, support, query, *, lr, steps, first_order=False):
    rho = power(curvature, lr, steps)
    return curvature * (support + rho * (theta - support) - query) * (1 if first_order else rho)


@with_hand(wrong("not-finite"))
def divides_by_the_steps(theta, curvature, support, query, *, lr, steps, first_order=False):
    found = good(theta, curvature, support, query, lr=lr, steps=steps, first_order=first_order)
    return found * (curvature[0] * steps) / (curvature[0] * steps)


@with_hand(wrong("argument-changed"))
def shrinks_in_place(theta, curvature, support, query, *, lr, steps, first_order=False):
    gradient = good(theta, curvature, support, query, lr=lr, steps=steps, first_order=first_order)
    curvature *= lr
    return gradient


@with_hand(wrong("returned-none"))
def forgets_return(*args, **kwargs):
    good(*args, **kwargs)


@with_hand(wrong("raised"))
def stacks_without_the_tasks(theta, curvature, support, query, *, lr, steps, first_order=False):
    return torch.stack([theta]) * curvature


# ---------------------------------------------------------------- ひな形のまま、借り物


@with_hand(untouched)
def raises(*args, **kwargs):
    raise NotImplementedError("ここを実装してください")


@with_hand(untouched, ...)
def leaves_the_hand_computation(*args, **kwargs):
    return good(*args, **kwargs)


@with_hand(untouched)
def leaves_a_blank(theta, curvature, support, query, *, lr, steps, first_order=False):
    shrink = ...
    return (shrink * curvature).mean()


@with_hand(borrower)
def adapts_with_the_library(theta, curvature, support, query, *, lr, steps, first_order=False):
    start = torch.full_like(support, theta).requires_grad_()
    adapted = borrowed_adapt(
        {"theta": start},
        lambda p: (curvature * (p["theta"] - support) ** 2 / 2).sum(),
        lr=lr,
        steps=steps,
        first_order=first_order,
    )["theta"]
    loss = (curvature * (adapted - query) ** 2 / 2).mean()
    return torch.autograd.grad(loss, start)[0].sum()


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "gradient.mean() → gradient.mean().detach()": "渡される値は勾配を求めないので、切り離しても同じである",
}
