"""演習 07-2（蒸留の損失）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from torch import nn

from tlkit.losses import DistillationLoss
from tlkit.losses import kd_loss as borrowed_kd_loss

# ---------------------------------------------------------------- 部品


def soft_of(s, t, temperature):
    """正しいソフトの項。"""
    p = F.softmax(t.detach() / temperature, dim=1)
    return F.kl_div(F.log_softmax(s / temperature, dim=1), p, reduction="batchmean") * temperature**2


def mix(soft, hard, alpha):
    return alpha * soft + (1 - alpha) * hard


def with_soft(soft):
    """（生徒のロジット, 教師のロジット, T）からソフトの項を求める関数 → 答え。"""

    def answer(student_logits, teacher_logits, labels, temperature, alpha):
        hard = F.cross_entropy(student_logits, labels)
        return mix(soft(student_logits, teacher_logits, temperature), hard, alpha)

    return answer


def with_hard(hard):
    """（生徒のロジット, 教師のロジット, ラベル, T）から正解ラベルの項を求める関数 → 答え。"""

    def answer(student_logits, teacher_logits, labels, temperature, alpha):
        soft = soft_of(student_logits, teacher_logits, temperature)
        return mix(soft, hard(student_logits, teacher_logits, labels, temperature), alpha)

    return answer


def with_mix(combine):
    """（ソフトの項, 正解ラベルの項, α, T）を混ぜる関数 → 答え。"""

    def answer(student_logits, teacher_logits, labels, temperature, alpha):
        soft = soft_of(student_logits, teacher_logits, temperature)
        return combine(soft, F.cross_entropy(student_logits, labels), alpha, temperature)

    return answer


def logs(s, t, temperature):
    """対数の確率 log q（生徒）と log p（教師、勾配なし）。"""
    return F.log_softmax(s / temperature, 1), F.log_softmax(t.detach() / temperature, 1)


good = with_mix(lambda soft, hard, alpha, _: mix(soft, hard, alpha))

# ---------------------------------------------------------------- 正しい答え


@right
def kl_div_with_batchmean(student_logits, teacher_logits, labels, temperature, alpha):
    with torch.no_grad():
        p = (teacher_logits / temperature).softmax(1)
    log_q = (student_logits / temperature).log_softmax(1)
    soft = F.kl_div(log_q, p, reduction="batchmean") * temperature**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


@right
def by_the_definition(student_logits, teacher_logits, labels, temperature, alpha):
    log_q, log_p = logs(student_logits, teacher_logits, temperature)
    soft = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    hard = -F.log_softmax(student_logits, 1).gather(1, labels[:, None]).mean()
    return alpha * temperature**2 * soft + (1 - alpha) * hard


@right
def log_target_module(student_logits, teacher_logits, labels, temperature, alpha):
    log_q, log_p = logs(student_logits, teacher_logits, temperature)
    soft = nn.KLDivLoss(reduction="batchmean", log_target=True)(log_q, log_p)
    hard = nn.CrossEntropyLoss()(student_logits, labels)
    return (alpha * temperature * temperature) * soft + (1.0 - alpha) * hard


@right
def cross_entropy_minus_entropy(student_logits, teacher_logits, labels, temperature, alpha):
    p = F.softmax(teacher_logits / temperature, 1).detach()
    crossed = F.cross_entropy(student_logits / temperature, p)
    own = torch.special.entr(p).sum(1).mean()
    hard = F.nll_loss(F.log_softmax(student_logits, dim=1), labels)
    return hard + alpha * ((crossed - own) * temperature**2 - hard)


@right
def one_image_at_a_time(student_logits, teacher_logits, labels, temperature, alpha):
    total = 0.0
    for s, t, y in zip(student_logits, teacher_logits.detach(), labels, strict=True):
        log_p, log_q = torch.log_softmax(t / temperature, 0), torch.log_softmax(s / temperature, 0)
        soft = F.kl_div(log_q, log_p, reduction="sum", log_target=True) * temperature**2
        total = total + alpha * soft + (1 - alpha) * (s.logsumexp(0) - s[y])
    return total / len(student_logits)


# ---------------------------------------------------------------- kl_div の引数の誤り


@wrong("direction-swapped").each
def swapped_direction():
    def soft(s, t, temperature):
        log_q, log_p = logs(s, t, temperature)
        return F.kl_div(log_p, log_q.exp(), reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("direction-swapped").each
def swapped_direction_with_log_target():
    def soft(s, t, temperature):
        return F.kl_div(*logs(s, t, temperature)[::-1], reduction="batchmean", log_target=True) * temperature**2

    return with_soft(soft)


@wrong("not-finite").each
def swapped_arguments():
    def soft(s, t, temperature):
        p = F.softmax(t.detach() / temperature, 1)
        return F.kl_div(p, F.log_softmax(s / temperature, 1), reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("not-finite").each
def log_target_forgotten():
    def soft(s, t, temperature):
        return F.kl_div(*logs(s, t, temperature), reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("not-zero").each
def softmax_for_log_softmax():
    def soft(s, t, temperature):
        p, q = (F.softmax(z / temperature, 1) for z in (t.detach(), s))
        return F.kl_div(q, p, reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("not-zero").each
def softmax_and_then_log_softmax():
    def soft(s, t, temperature):
        p, q = (F.softmax(z / temperature, 1) for z in (t.detach(), s))
        return F.kl_div(F.log_softmax(q, 1), p, reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("soft-not-normalised").each
def raw_logits_into_kl_div():
    def soft(s, t, temperature):
        return F.kl_div(s / temperature, F.softmax(t.detach() / temperature, 1), reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("negative").each
def difference_the_wrong_way():
    def soft(s, t, temperature):
        log_q, log_p = logs(s, t, temperature)
        return (log_p.exp() * (log_q - log_p)).sum(1).mean() * temperature**2

    return with_soft(soft)


@wrong("entropy-kept").each
def cross_entropy_with_soft_targets():
    def soft(s, t, temperature):
        return F.cross_entropy(s / temperature, F.softmax(t.detach() / temperature, 1)) * temperature**2

    return with_soft(soft)


# ---------------------------------------------------------------- 平均の取り方の誤り


def reduced(reduction):
    def soft(s, t, temperature):
        log_q, log_p = logs(s, t, temperature)
        return F.kl_div(log_q, log_p.exp(), reduction=reduction) * temperature**2

    return with_soft(soft)


@wrong("class-mean").each
def mean_over_all_elements():
    return reduced("mean")


@wrong("batch-summed").each
def sum_over_all_elements():
    return reduced("sum")


@wrong("not-scalar").each
def no_reduction():
    return reduced("none")


@wrong("hard-summed").each
def sums_the_cross_entropy():
    return with_hard(lambda s, t, y, temperature: F.cross_entropy(s, y, reduction="sum"))


# ---------------------------------------------------------------- 温度の誤り


@wrong("t-squared").each
def forgets_t_squared():
    return with_soft(lambda s, t, temperature: soft_of(s, t, temperature) / temperature**2)


@wrong("t-squared").each
def first_power_of_t():
    return with_soft(lambda s, t, temperature: soft_of(s, t, temperature) / temperature)


@wrong("t-squared").each
def divides_by_t_squared():
    return with_soft(lambda s, t, temperature: soft_of(s, t, temperature) / temperature**4)


@wrong("one-sided-temperature").each
def temperature_for_the_teacher_only():
    def soft(s, t, temperature):
        p = F.softmax(t.detach() / temperature, 1)
        return F.kl_div(F.log_softmax(s, 1), p, reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("one-sided-temperature").each
def temperature_for_the_student_only():
    def soft(s, t, temperature):
        p = F.softmax(t.detach(), 1)
        return F.kl_div(F.log_softmax(s / temperature, 1), p, reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("temperature-unused").each
def only_multiplies_t_squared():
    return with_soft(lambda s, t, temperature: soft_of(s, t, 1.0) * temperature**2)


@wrong("temperature-unused").each
def divides_the_probabilities():
    def soft(s, t, temperature):
        p = F.softmax(t.detach(), 1) / temperature
        p = p / p.sum(1, keepdim=True)
        return F.kl_div(F.log_softmax(s, 1), p, reduction="batchmean") * temperature**2

    return with_soft(soft)


@wrong("hard-scaled").each
def t_squared_on_both_terms():
    return with_mix(lambda soft, hard, alpha, t: t**2 * (alpha * soft / t**2 + (1 - alpha) * hard))


@wrong("hard-scaled").each
def t_squared_on_the_hard_term():
    return with_mix(lambda soft, hard, alpha, t: alpha * soft / t**2 + (1 - alpha) * hard * t**2)


@wrong("hard-softened").each
def temperature_in_the_hard_term():
    return with_hard(lambda s, t, y, temperature: F.cross_entropy(s / temperature, y))


# ---------------------------------------------------------------- α の誤り


@wrong("alpha-swapped").each
def alpha_weighs_the_labels():
    return with_mix(lambda soft, hard, alpha, t: (1 - alpha) * soft + alpha * hard)


@wrong("hard-remains").each
def hard_term_unweighted():
    return with_mix(lambda soft, hard, alpha, t: alpha * soft + hard)


@wrong("soft-remains").each
def soft_term_unweighted():
    return with_mix(lambda soft, hard, alpha, t: soft + (1 - alpha) * hard)


@wrong("alpha-unused").each
def plain_sum():
    return with_mix(lambda soft, hard, alpha, t: soft + hard)


@wrong("alpha-unused").each
def plain_average():
    return with_mix(lambda soft, hard, alpha, t: 0.5 * soft + 0.5 * hard)


@wrong("alpha-mix").each
def squared_alpha():
    return with_mix(lambda soft, hard, alpha, t: alpha**2 * soft + (1 - alpha) * hard)


@wrong("alpha-mix").each
def rounds_alpha():
    return with_mix(lambda soft, hard, alpha, t: soft if alpha >= 0.5 else hard)


# ---------------------------------------------------------------- 二つの項の、そのほかの誤り


@wrong("labels-unused").each
def learns_the_prediction_of_the_teacher():
    return with_hard(lambda s, t, y, temperature: F.cross_entropy(s, t.argmax(1)))


@wrong("teacher-unused").each
def distils_from_itself():
    return with_soft(lambda s, t, temperature: soft_of(s, s, temperature))


@wrong("soft-remains").each
def cross_entropy_of_the_teacher():
    return with_hard(lambda s, t, y, temperature: F.cross_entropy(s, y) + F.cross_entropy(t.detach(), y))


@wrong("hard-not-normalised").each
def nll_of_the_logits():
    return with_hard(lambda s, t, y, temperature: F.nll_loss(s, y))


@wrong("hard-bounded").each
def softmax_twice():
    return with_hard(lambda s, t, y, temperature: F.cross_entropy(F.softmax(s, 1), y))


@wrong("hard-value").each
def smoothed_labels():
    return with_hard(lambda s, t, y, temperature: F.cross_entropy(s, y, label_smoothing=0.1))


@wrong("soft-not-normalised").each
def squared_error_of_the_logits():
    return with_soft(lambda s, t, temperature: (s - t.detach()).square().sum(1).mean())


@wrong("symmetric").each
def averages_both_directions():
    return with_soft(lambda s, t, temperature: (soft_of(s, t, temperature) + soft_of(t.detach(), s, temperature)) / 2)


@wrong("symmetric").each
def squared_error_of_the_probabilities():
    def soft(s, t, temperature):
        p, q = (F.softmax(z / temperature, 1) for z in (t.detach(), s))
        return (p - q).square().sum(1).mean() * temperature**2

    return with_soft(soft)


@wrong("soft-scale").each
def base_two_logarithm():
    return with_soft(lambda s, t, temperature: soft_of(s, t, temperature) / torch.tensor(2.0, dtype=s.dtype).log())


@wrong("soft-value").each
def adds_the_squared_error():
    def soft(s, t, temperature):
        log_q, log_p = logs(s, t, temperature)
        p = log_p.exp()
        return ((p * (log_p - log_q)).sum(1).mean() + (p - log_q.exp()).square().sum(1).mean()) * temperature**2

    return with_soft(soft)


@wrong("not-stable").each
def logarithm_of_the_softmax():
    def soft(s, t, temperature):
        p, q = (F.softmax(z / temperature, 1) for z in (t.detach(), s))
        return (p * (p.log() - q.log())).sum(1).mean() * temperature**2

    return with_soft(soft)


@wrong("clipped").each
def small_number_in_the_logarithm():
    def soft(s, t, temperature):
        p, q = (F.softmax(z / temperature, 1) for z in (t.detach(), s))
        return F.kl_div((q + 1e-30).log(), p, reduction="batchmean") * temperature**2

    return with_soft(soft)


# ---------------------------------------------------------------- 返り値と勾配の誤り


@wrong("not-tensor")
def returns_item(student_logits, teacher_logits, labels, temperature, alpha):
    return good(student_logits, teacher_logits, labels, temperature, alpha).item()


@wrong("not-tensor")
def returns_both_terms(student_logits, teacher_logits, labels, temperature, alpha):
    soft = soft_of(student_logits, teacher_logits, temperature)
    return alpha * soft, (1 - alpha) * F.cross_entropy(student_logits, labels)


@wrong("dtype-changed")
def returns_float32(student_logits, teacher_logits, labels, temperature, alpha):
    return good(student_logits, teacher_logits, labels, temperature, alpha).float()


@wrong("teacher-gradient")
def teacher_not_detached(student_logits, teacher_logits, labels, temperature, alpha):
    p = F.softmax(teacher_logits / temperature, 1)
    soft = F.kl_div(F.log_softmax(student_logits / temperature, 1), p, reduction="batchmean") * temperature**2
    return mix(soft, F.cross_entropy(student_logits, labels), alpha)


@wrong("gradient-cut")
def everything_without_gradient(student_logits, teacher_logits, labels, temperature, alpha):
    with torch.no_grad():
        return good(student_logits, teacher_logits, labels, temperature, alpha)


@wrong("gradient-wrong")
def detaches_the_student_in_the_soft_term(student_logits, teacher_logits, labels, temperature, alpha):
    soft = soft_of(student_logits.detach(), teacher_logits, temperature)
    return mix(soft, F.cross_entropy(student_logits, labels), alpha)


@wrong("gradient-wrong")
def detaches_the_hard_term(student_logits, teacher_logits, labels, temperature, alpha):
    soft = soft_of(student_logits, teacher_logits, temperature)
    return mix(soft, F.cross_entropy(student_logits, labels).detach(), alpha)


@wrong("teacher-gradient")
def detaches_the_wrong_side(student_logits, teacher_logits, labels, temperature, alpha):
    p = F.softmax(teacher_logits / temperature, 1)
    log_q = F.log_softmax(student_logits.detach() / temperature, 1)
    soft = F.kl_div(log_q, p, reduction="batchmean") * temperature**2
    return mix(soft, F.cross_entropy(student_logits, labels), alpha)


@wrong("argument-changed")
def divides_in_place(student_logits, teacher_logits, labels, temperature, alpha):
    hard = F.cross_entropy(student_logits, labels)
    with torch.no_grad():
        teacher_logits /= temperature
    p = F.softmax(teacher_logits, 1)
    soft = F.kl_div(F.log_softmax(student_logits / temperature, 1), p, reduction="batchmean") * temperature**2
    return mix(soft, hard, alpha)


@wrong("returned-none")
def forgets_return(student_logits, teacher_logits, labels, temperature, alpha):
    good(student_logits, teacher_logits, labels, temperature, alpha)


@wrong("raised")
def unknown_reduction(student_logits, teacher_logits, labels, temperature, alpha):
    log_q, log_p = logs(student_logits, teacher_logits, temperature)
    return F.kl_div(log_q, log_p.exp(), reduction="batch_mean")


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(student_logits, teacher_logits, labels, temperature, alpha):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(student_logits, teacher_logits, labels, temperature, alpha):
    soft = ...
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


@borrower
def calls_the_library(student_logits, teacher_logits, labels, temperature, alpha):
    return DistillationLoss(temperature, alpha)(student_logits, teacher_logits, labels).total


@borrower
def borrows_the_soft_term(student_logits, teacher_logits, labels, temperature, alpha):
    soft = borrowed_kd_loss(student_logits, teacher_logits.detach(), temperature=temperature)
    return mix(soft, F.cross_entropy(student_logits, labels), alpha)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "F.softmax(teacher_logits / temperature, dim=1) → F.softmax(teacher_logits / temperature)": (
        "(N, C) では、dim を省いても 1 が選ばれる（警告は出る）"
    ),
    "F.log_softmax(student_logits / temperature, dim=1) → F.log_softmax(student_logits / temperature)": (
        "(N, C) では、dim を省いても 1 が選ばれる（警告は出る）"
    ),
}
