"""演習 07-3（ロジットについての勾配）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import functools

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong

from tlkit.losses import DistillationLoss as BorrowedLoss
from tlkit.losses.distillation import _scaled as borrowed_scaled


def soft_term(s, t, temperature):
    return temperature * ((s / temperature).softmax(1) - (t / temperature).softmax(1))


def hard_term(s, labels):
    return s.softmax(1) - F.one_hot(labels, s.shape[1])


def mix(soft, hard, alpha):
    return ((alpha * soft + (1 - alpha) * hard) / len(soft)).detach()


def with_soft(change):
    """ソフトの項だけを変えた答え。change(s, t, T) → (N, C)。"""
    return lambda s, t, y, temperature, alpha: mix(change(s, t, temperature), hard_term(s, y), alpha)


def with_hard(change):
    """正解ラベルの項だけを変えた答え。change(s, labels, T) → (N, C)。"""
    return lambda s, t, y, temperature, alpha: mix(soft_term(s, t, temperature), change(s, y, temperature), alpha)


def loss(s, t, y, temperature, alpha):
    soft = F.kl_div((s / temperature).log_softmax(1), (t / temperature).softmax(1), reduction="batchmean")
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(s, y)


def good(s, t, y, temperature, alpha):
    return mix(soft_term(s, t, temperature), hard_term(s, y), alpha)


# ---------------------------------------------------------------- 正しい答え


@right
def subtracts_in_place(s, t, y, temperature, alpha):
    s = s.detach()
    grad = s.softmax(dim=-1)
    grad[torch.arange(len(y)), y] -= 1
    p, q = torch.softmax(t / temperature, -1), torch.softmax(s / temperature, -1)
    return (1 - alpha) / len(s) * grad + alpha * temperature**2 * (1 / temperature) / len(s) * (q - p)


@right
@torch.no_grad()
def softmax_by_hand(s, t, y, temperature, alpha):
    def softmax(z):
        e = torch.exp(z - z.max(dim=1, keepdim=True).values)
        return e / e.sum(dim=1, keepdim=True)

    target = torch.zeros_like(s)
    target.scatter_(1, y[:, None], 1.0)
    n = s.shape[0]
    soft = (softmax(s / temperature) - softmax(t / temperature)) * temperature
    return alpha * soft / n + (1 - alpha) * (softmax(s) - target) / n


@right
@torch.no_grad()
def one_row_at_a_time(s, t, y, temperature, alpha):
    rows = []
    for zs, zt, label in zip(s, t, y):
        row = alpha * temperature * ((zs / temperature).softmax(0) - (zt / temperature).softmax(0))
        hard = zs.softmax(0)
        hard[label] -= 1
        rows.append((row + (1 - alpha) * hard) / len(s))
    return torch.stack(rows)


@right
@torch.inference_mode()
def jacobian_of_the_log_softmax(s, t, y, temperature, alpha):
    """∂ log q_k / ∂z_c = (δ_kc − q_c) / T を、行列として書く。"""
    n, c = s.shape
    eye = torch.eye(c, dtype=s.dtype)
    p, q, q1 = (t / temperature).softmax(1), (s / temperature).softmax(1), s.softmax(1)
    soft = -torch.einsum("nk,nkc->nc", p, (eye - q[:, None, :]) / temperature)
    hard = -(eye - q1[:, None, :])[torch.arange(n), y]
    return (alpha * temperature**2 * soft + (1 - alpha) * hard) / n


@right
def through_log_probabilities(s, t, y, temperature, alpha):
    q, p, q1 = ((z - z.logsumexp(1, keepdim=True)).exp() for z in (s / temperature, t / temperature, s))
    onehot = (torch.arange(s.shape[1]) == y[:, None]).to(s.dtype)
    return torch.lerp(q1 - onehot, temperature * (q - p), alpha).div(s.size(0)).detach()


# ---------------------------------------------------------------- ソフトの項の誤り


@wrong("chain-rule-missing").each
def forgets_the_chain_rule():
    return with_soft(lambda s, t, temperature: temperature * soft_term(s, t, temperature))


@wrong("t-squared-missing").each
def forgets_t_squared():
    return with_soft(lambda s, t, temperature: soft_term(s, t, temperature) / temperature**2)


@wrong("temperature-cancelled").each
def divides_twice_by_t():
    return with_soft(lambda s, t, temperature: soft_term(s, t, temperature) / temperature)


@wrong("temperature-power").each
def multiplies_t_cubed():
    return with_soft(lambda s, t, temperature: soft_term(s, t, temperature) * temperature**2)


@wrong("temperature-ignored").each
def softens_nothing():
    return with_soft(lambda s, t, temperature: temperature * (s.softmax(1) - t.softmax(1)))


@wrong("agree-nonzero").each
def softens_the_teacher_only():
    return with_soft(lambda s, t, temperature: temperature * (s.softmax(1) - (t / temperature).softmax(1)))


@wrong("agree-nonzero").each
def softens_the_student_only():
    return with_soft(lambda s, t, temperature: temperature * ((s / temperature).softmax(1) - t.softmax(1)))


@wrong("soft-sign").each
def teacher_minus_student():
    return with_soft(lambda s, t, temperature: -soft_term(s, t, temperature))


@wrong("not-a-difference").each
def reversed_divergence():
    """KL(生徒 ‖ 教師) の勾配。"""

    def change(s, t, temperature):
        q = (s / temperature).softmax(1)
        d = (s / temperature).log_softmax(1) - (t / temperature).log_softmax(1)
        return temperature * q * (d - (q * d).sum(1, keepdim=True))

    return with_soft(change)


@wrong("not-a-difference").each
def softmax_derivative_twice():
    """q − p に、softmax の微分を余計に掛ける（確率での微分と取り違える）。"""

    def change(s, t, temperature):
        q = (s / temperature).softmax(1)
        d = q - (t / temperature).softmax(1)
        return temperature * q * (d - (q * d).sum(1, keepdim=True))

    return with_soft(change)


@wrong("soft-axis").each
def softmax_over_the_batch():
    return with_soft(
        lambda s, t, temperature: temperature * ((s / temperature).softmax(0) - (t / temperature).softmax(0))
    )


@wrong("soft-rows").each
def derivative_by_the_probabilities():
    """−p/q は、確率での微分。ロジットまで戻していない。"""
    return with_soft(
        lambda s, t, temperature: -temperature * (t / temperature).softmax(1) / (s / temperature).softmax(1)
    )


@wrong("soft-rows").each
def forgets_the_teacher_in_one_row():
    def change(s, t, temperature):
        soft = soft_term(s, t, temperature)
        return torch.cat([temperature * (s[:1] / temperature).softmax(1), soft[1:]])

    return with_soft(change)


@wrong("shift-sensitive").each
def matches_the_logits():
    return with_soft(lambda s, t, temperature: (s - t) / s.shape[1])


@wrong("soft-other").each
def powers_of_two():
    """e でなく 2 を底にした softmax。"""

    def change(s, t, temperature):
        q, p = (torch.exp2(z / temperature) for z in (s, t))
        return temperature * (q / q.sum(1, keepdim=True) - p / p.sum(1, keepdim=True))

    return with_soft(change)


@wrong("soft-other").each
def divides_by_the_root_of_t():
    return with_soft(lambda s, t, temperature: temperature**0.5 * soft_term(s, t, temperature**0.5))


@wrong("temperature-ignored").each
def limit_of_a_high_temperature():
    """T → ∞ の極限の式。T が消えている。"""

    def change(s, t, temperature):
        d = s - t
        return (d - d.mean(1, keepdim=True)) / s.shape[1]

    return with_soft(change)


@wrong("soft-classes").each
def mean_over_classes_too():
    """kl_div の reduction="mean" に当たる。"""
    return with_soft(lambda s, t, temperature: soft_term(s, t, temperature) / s.shape[1])


@wrong("soft-factor").each
def halves_the_soft_term():
    return with_soft(lambda s, t, temperature: soft_term(s, t, temperature) / 2)


@wrong("soft-not-averaged").each
def sums_the_soft_term():
    return with_soft(lambda s, t, temperature: len(s) * soft_term(s, t, temperature))


@wrong("soft-not-averaged")
def sums_everything(s, t, y, temperature, alpha):
    return len(s) * good(s, t, y, temperature, alpha)


@wrong("soft-batch").each
def divides_twice_by_n():
    return with_soft(lambda s, t, temperature: soft_term(s, t, temperature) / len(s))


# ---------------------------------------------------------------- 正解ラベルの項の誤り


@wrong("hard-tempered").each
def hard_term_softened():
    return with_hard(lambda s, y, temperature: hard_term(s / temperature, y))


@wrong("hard-scaled")
def temperature_on_both_terms(s, t, y, temperature, alpha):
    return temperature * mix(soft_term(s, t, temperature) / temperature, hard_term(s, y), alpha)


@wrong("hard-scaled").each
def t_squared_on_the_hard_term():
    return with_hard(lambda s, y, temperature: temperature**2 * hard_term(s, y))


@wrong("labels-ignored").each
def forgets_the_onehot():
    return with_hard(lambda s, y, temperature: s.softmax(1))


@wrong("hard-rows").each
def correct_class_only():
    return with_hard(lambda s, y, temperature: (s.softmax(1) - 1) * F.one_hot(y, s.shape[1]))


@wrong("hard-rows").each
def hard_softmax_over_the_batch():
    return with_hard(lambda s, y, temperature: s.softmax(0) - F.one_hot(y, s.shape[1]))


@wrong("hard-other").each
def centred_but_not_softmaxed():
    def change(s, y, temperature):
        z = s - s.mean(1, keepdim=True)
        onehot = F.one_hot(y, s.shape[1]).to(s.dtype)
        return z - onehot + onehot.mean(1, keepdim=True)

    return with_hard(change)


@wrong("hard-sign").each
def onehot_minus_probability():
    return with_hard(lambda s, y, temperature: -hard_term(s, y))


@wrong("hard-not-averaged").each
def sums_the_hard_term():
    return with_hard(lambda s, y, temperature: len(s) * hard_term(s, y))


@wrong("hard-batch").each
def divides_the_hard_term_twice():
    return with_hard(lambda s, y, temperature: hard_term(s, y) / len(s))


@wrong("hard-classes").each
def hard_mean_over_classes():
    return with_hard(lambda s, y, temperature: hard_term(s, y) / s.shape[1])


@wrong("hard-factor").each
def doubles_the_hard_term():
    return with_hard(lambda s, y, temperature: 2 * hard_term(s, y))


# ---------------------------------------------------------------- α の誤り


@wrong("alpha-swapped")
def alpha_on_the_hard_term(s, t, y, temperature, alpha):
    return good(s, t, y, temperature, 1 - alpha)


@wrong("alpha-ignored")
def plain_sum(s, t, y, temperature, alpha):
    return (soft_term(s, t, temperature) + hard_term(s, y)) / len(s)


@wrong("hard-at-one")
def hard_term_at_full_weight(s, t, y, temperature, alpha):
    return (alpha * soft_term(s, t, temperature) + hard_term(s, y)) / len(s)


@wrong("soft-at-zero")
def soft_term_at_full_weight(s, t, y, temperature, alpha):
    return (soft_term(s, t, temperature) + (1 - alpha) * hard_term(s, y)) / len(s)


@wrong("teacher-ignored")
def hard_labels_only(s, t, y, temperature, alpha):
    return (1 - alpha) * hard_term(s, y) / len(s) + alpha * s.softmax(1) / len(s)


@wrong("vanished")
def soft_term_only(s, t, y, temperature, alpha):
    return alpha * soft_term(s, t, temperature) / len(s)


@wrong("vanished")
def products_of_the_weights(s, t, y, temperature, alpha):
    return (alpha * (1 - alpha) * soft_term(s, t, temperature) + (1 - alpha) * hard_term(s, y)) / len(s)


@wrong("alpha-weights")
def alpha_squared(s, t, y, temperature, alpha):
    return good(s, t, y, temperature, alpha**2)


@wrong("alpha-weights")
def alpha_rounded(s, t, y, temperature, alpha):
    return good(s, t, y, temperature, round(alpha))


# ---------------------------------------------------------------- 計算のしかたと返り値の誤り


@wrong("autograd")
def by_autograd(s, t, y, temperature, alpha):
    z = s.clone().requires_grad_()
    return torch.autograd.grad(loss(z, t, y, temperature, alpha), z)[0]


@wrong("autograd")
def by_backward(s, t, y, temperature, alpha):
    z = s.detach().clone().requires_grad_()
    loss(z, t, y, temperature, alpha).backward()
    return z.grad


@wrong("autograd")
def by_torch_func(s, t, y, temperature, alpha):
    return torch.func.grad(loss)(s, t, y, temperature, alpha)


@wrong("rounded")
def central_differences(s, t, y, temperature, alpha):
    z, h, grad = s.double(), 1e-5, torch.zeros_like(s, dtype=torch.float64)
    for index in range(z.numel()):
        move = torch.zeros_like(z)
        move.view(-1)[index] = h
        up, down = (loss(z + sign * move, t.double(), y, temperature, alpha) for sign in (1, -1))
        grad.view(-1)[index] = (up - down) / (2 * h)
    return grad.to(s.dtype)


@wrong("value-mismatch")
def temperature_at_least_one(s, t, y, temperature, alpha):
    return good(s, t, y, max(temperature, 1.0), alpha)


@wrong("rounded")
def computes_in_float32(s, t, y, temperature, alpha):
    return good(s.float(), t.float(), y, temperature, alpha).to(s.dtype)


@wrong("overflow")
def exponentials_overflow(s, t, y, temperature, alpha):
    def softmax(z):
        return z.exp() / z.exp().sum(1, keepdim=True)

    hard = softmax(s) - F.one_hot(y, s.shape[1])
    return mix(temperature * (softmax(s / temperature) - softmax(t / temperature)), hard, alpha)


@wrong("large-wrong")
def clamps_the_logits(s, t, y, temperature, alpha):
    return good(s.clamp(-30, 30), t.clamp(-30, 30), y, temperature, alpha)


@wrong("not-finite")
def logarithm_of_zero(s, t, y, temperature, alpha):
    onehot = F.one_hot(y, s.shape[1]).to(s.dtype)
    return good(s, t, y, temperature, alpha) + 0 * onehot.log()


@wrong("attached")
def stays_in_the_graph(s, t, y, temperature, alpha):
    return (alpha * soft_term(s, t, temperature) + (1 - alpha) * hard_term(s, y)) / len(s)


@wrong("raised")
def numpy_of_the_logits(s, t, y, temperature, alpha):
    """勾配を求めるテンソルは、そのままでは NumPy にならない。"""
    q = torch.from_numpy(s.numpy()).softmax(1)
    return mix(soft_term(s, t, temperature), q - F.one_hot(y, s.shape[1]), alpha)


@wrong("dtype-changed")
def returns_float64(s, t, y, temperature, alpha):
    return good(s.double(), t.double(), y, temperature, alpha)


@wrong("scalar")
def returns_the_loss(s, t, y, temperature, alpha):
    return loss(s, t, y, temperature, alpha)


@wrong("shape")
def sums_over_the_batch(s, t, y, temperature, alpha):
    return good(s, t, y, temperature, alpha).sum(0)


@wrong("not-tensor")
def returns_numpy(s, t, y, temperature, alpha):
    return good(s, t, y, temperature, alpha).numpy()


@wrong("not-tensor")
def returns_both_terms(s, t, y, temperature, alpha):
    return soft_term(s, t, temperature), hard_term(s, y)


@wrong("argument-changed")
def divides_the_logits_in_place(s, t, y, temperature, alpha):
    hard = hard_term(s, y)
    s /= temperature
    return mix(temperature * (s.softmax(1) - (t / temperature).softmax(1)), hard, alpha)


@wrong("returned-none")
def forgets_return(s, t, y, temperature, alpha):
    grad = good(s, t, y, temperature, alpha)


@wrong("raised")
def onehot_of_a_wrong_size(s, t, y, temperature, alpha):
    return mix(soft_term(s, t, temperature), s.softmax(1) - F.one_hot(y), alpha)


@wrong("raised")
def fixed_number_of_classes(s, t, y, temperature, alpha):
    return mix(soft_term(s, t, temperature), s.softmax(1) - F.one_hot(y, 5), alpha)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(s, t, y, temperature, alpha):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(s, t, y, temperature, alpha):
    soft = ...
    return alpha * soft / len(s)


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@borrower
def differentiates_the_library(s, t, y, temperature, alpha):
    z = s.clone().requires_grad_()
    return torch.autograd.grad(BorrowedLoss(temperature, alpha)(z, t, y).total, z)[0]


@borrower
def borrows_the_scaling(s, t, y, temperature, alpha):
    q, p = (borrowed_scaled(z, temperature).softmax(1) for z in (s, t))
    return mix(temperature * (q - p), hard_term(s, y), alpha)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "student_logits → teacher_logits": "形を読むだけの所。二つの形は同じである",
}
