"""演習 02-3（斜め三角の学習率）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import math

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

import tlkit.finetune

# ---------------------------------------------------------------- 正しい答え


def whole(total_steps, cut_frac):
    return max(1, math.floor(total_steps * cut_frac))


def fall(step, cut, cut_frac):
    return max(0.0, 1 - (step - cut) / (cut * (1 / cut_frac - 1)))


def rate_of(p, peak, ratio):
    return peak * (1 + p * (ratio - 1)) / ratio


@right
def as_in_the_paper(step, total_steps, peak, cut_frac=0.1, ratio=32):
    cut = whole(total_steps, cut_frac)
    p = step / cut if step < cut else fall(step, cut, cut_frac)
    return rate_of(p, peak, ratio)


@right
def lower_of_two_lines(step, total_steps, peak, cut_frac=0.1, ratio=32):
    """上り坂と下り坂の、低いほう。"""
    cut = int(total_steps * cut_frac) or 1
    down = 1 / cut_frac - 1
    p = min(step / cut, 1 - (step / cut - 1) / down)
    return max(p, 0) * (peak - peak / ratio) + peak / ratio


@right
def interpolated(step, total_steps, peak, cut_frac=0.1, ratio=32):
    """折れ線の補間。両端の外では端の値になる。"""
    cut = max(total_steps * cut_frac // 1, 1)
    return np.interp(step, [0, cut, cut / cut_frac], [peak / ratio, peak, peak / ratio])


@right
def step_by_step(step, total_steps, peak, cut_frac=0.1, ratio=32):
    """1 ステップずつ、上げるか下げるかする。"""
    floor, cut = peak / ratio, max(1, math.trunc(cut_frac * total_steps))
    rate = floor
    for now in range(step):
        if now < cut:
            rate += (peak - floor) / cut
        else:
            rate = max(floor, rate - (peak - floor) * cut_frac / (cut * (1 - cut_frac)))
    return rate


@right
def with_torch(step, total_steps, peak, cut_frac=0.1, ratio=32):
    cut = torch.tensor(total_steps * cut_frac, dtype=torch.float64).floor().clamp(min=1)
    t = torch.tensor(step, dtype=torch.float64)
    p = torch.where(t < cut, t / cut, (1 - (t - cut) / (cut * (1 / cut_frac - 1))).clamp(min=0))
    return (peak * (1 + p * (ratio - 1)) / ratio).item()


# ---------------------------------------------------------------- 山の誤り


@wrong("one-origin")
def counts_from_one(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step + 1, total_steps, peak, cut_frac, ratio)


@wrong("peak-place")
def rises_for_the_long_part(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step, total_steps, peak, 1 - cut_frac, ratio)


@wrong("peak-place")
def falls_first(step, total_steps, peak, cut_frac=0.1, ratio=32):
    cut = whole(total_steps, cut_frac)
    p = step / cut if step < cut else fall(step, cut, cut_frac)
    return rate_of(1 - p, peak, ratio)


@wrong("peak-height")
def forgets_the_peak(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step, total_steps, 1.0, cut_frac, ratio)


@wrong("peak-height")
def ratio_without_minus_one(step, total_steps, peak, cut_frac=0.1, ratio=32):
    cut = whole(total_steps, cut_frac)
    p = step / cut if step < cut else fall(step, cut, cut_frac)
    return peak * (1 + p * ratio) / ratio


@wrong("constant")
def never_uses_p(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return rate_of(1, peak, ratio)


@wrong("no-floor")
def starts_from_zero(step, total_steps, peak, cut_frac=0.1, ratio=32):
    cut = whole(total_steps, cut_frac)
    return peak * (step / cut if step < cut else fall(step, cut, cut_frac))


@wrong("start")
def floor_is_the_square_of_the_ratio(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step, total_steps, peak, cut_frac, ratio**2)


# ---------------------------------------------------------------- 坂の誤り


def with_p(rise, down):
    def answer(step, total_steps, peak, cut_frac=0.1, ratio=32):
        cut = whole(total_steps, cut_frac)
        return rate_of(rise(step, cut) if step < cut else down(step, cut, cut_frac, total_steps), peak, ratio)

    return answer


@wrong("rise-not-linear").each
def integer_division():
    return with_p(lambda t, cut: t // cut, lambda t, cut, frac, total: fall(t, cut, frac))


@wrong("rise-not-linear").each
def square_rise():
    return with_p(lambda t, cut: (t / cut) ** 2, lambda t, cut, frac, total: fall(t, cut, frac))


@wrong("fall-not-linear").each
def cosine_fall():
    return with_p(
        lambda t, cut: t / cut, lambda t, cut, frac, total: 0.5 + 0.5 * math.cos(math.pi * (1 - fall(t, cut, frac)))
    )


@wrong("fall-not-linear").each
def cut_everything_below_a_tenth():
    return with_p(lambda t, cut: t / cut, lambda t, cut, frac, total: max(0.1, fall(t, cut, frac)))


@wrong("fall-too-slow").each
def forgets_the_parentheses():
    return with_p(lambda t, cut: t / cut, lambda t, cut, frac, total: 1 - (t - cut) / (cut * 1 / frac - 1))


@wrong("fall-too-slow").each
def stays_at_the_peak():
    return with_p(lambda t, cut: t / cut, lambda t, cut, frac, total: 1)


@wrong("fall-too-fast").each
def reaches_the_floor_too_early():
    return with_p(lambda t, cut: t / cut, lambda t, cut, frac, total: 1 - (t - cut) / (0.75 * (total - cut)))


@wrong("fall-denominator").each
def divides_by_the_remaining_steps():
    return with_p(lambda t, cut: t / cut, lambda t, cut, frac, total: 1 - (t - cut) / (total - cut))


@wrong("below-floor").each
def lets_p_go_below_zero():
    return with_p(lambda t, cut: t / cut, lambda t, cut, frac, total: 1 - (t - cut) / (cut * (1 / frac - 1)))


# ---------------------------------------------------------------- 切り捨てと短い予定の誤り


def with_cut(cut_of):
    def answer(step, total_steps, peak, cut_frac=0.1, ratio=32):
        cut = cut_of(total_steps, cut_frac)
        return rate_of(step / cut if step < cut else fall(step, cut, cut_frac), peak, ratio)

    return answer


@wrong("not-floored").each
def rounds_the_cut():
    return with_cut(lambda total, frac: max(1, round(total * frac)))


@wrong("not-floored").each
def raises_the_cut():
    return with_cut(lambda total, frac: math.ceil(total * frac))


@wrong("not-floored").each
def keeps_the_fraction():
    return with_cut(lambda total, frac: max(1, total * frac))


@wrong("cut-zero").each
def cut_may_be_zero():
    return with_cut(lambda total, frac: math.floor(total * frac))


@wrong("cut-at-least-one").each
def cut_may_be_zero_in_numpy():
    return with_cut(lambda total, frac: np.floor(total * frac))


@wrong("cut-at-least-one").each
def falls_from_the_start_when_short():
    return with_cut(lambda total, frac: math.floor(total * frac) or 1e-9)


@wrong("value-mismatch")
def peak_for_a_single_step(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return peak if total_steps == 1 else as_in_the_paper(step, total_steps, peak, cut_frac, ratio)


# ---------------------------------------------------------------- 引数と返り値の誤り


@wrong("ratio-ignored")
def ratio_written_by_hand(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step, total_steps, peak, cut_frac, 32)


@wrong("cut-frac-ignored")
def cut_frac_written_by_hand(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step, total_steps, peak, 0.1, ratio)


@wrong("defaults")
def another_default(step, total_steps, peak, cut_frac=0.1, ratio=10):
    return as_in_the_paper(step, total_steps, peak, cut_frac, ratio)


@wrong("not-number")
def returns_the_whole_schedule(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return [as_in_the_paper(t, total_steps, peak, cut_frac, ratio) for t in range(total_steps)]


@wrong("not-scalar")
def returns_an_array(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return np.array([as_in_the_paper(t, total_steps, peak, cut_frac, ratio) for t in range(total_steps)])


@wrong("not-finite")
def compares_with_a_missing_case(step, total_steps, peak, cut_frac=0.1, ratio=32):
    return as_in_the_paper(step, total_steps, peak, cut_frac, ratio) if step else float("nan")


@wrong("returned-none")
def forgets_return(step, total_steps, peak, cut_frac=0.1, ratio=32):
    as_in_the_paper(step, total_steps, peak, cut_frac, ratio)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(step, total_steps, peak, cut_frac=0.1, ratio=32):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(step, total_steps, peak, cut_frac=0.1, ratio=32):
    cut = ...
    return peak * step / cut


@borrower
def calls_the_scheduler(step, total_steps, peak, cut_frac=0.1, ratio=32):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = tlkit.finetune.slanted_triangular(optimizer, total_steps, cut_frac=cut_frac, ratio=ratio)
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return scheduler.get_last_lr()[0]


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

_SYMMETRIC = "最大は、引数の順によらない"
EQUIVALENT = {
    "max(1, int(total_steps * cut_frac)) → max(int(total_steps * cut_frac), 1)": _SYMMETRIC,
    "max(0.0, 1 - (step - cut) / (cut * (1 / cut_frac - 1))) → max(1 - (step - cut) / (cut * (1 / cut_frac - 1)), 0.0)": _SYMMETRIC,
}
