"""演習 07-1（温度付きのソフトマックス）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong

from tlkit.losses.distillation import _scaled

HAND = [1 / 2, 1 / 3, 1 / 6]


def checked(temperature):
    if not temperature > 0:
        raise ValueError("温度は正の数にしてください。")


def with_hand(mark, hand=HAND):
    """関数の答えに、手計算の答えを添える。"""

    def decorate(answer):
        def pair():
            return answer, hand

        pair.__name__ = answer.__name__
        mark.each(pair)
        return answer

    return decorate


def by(weights):
    """確率 = weights(ロジット, T) / 行の和、という答えを作る。"""

    def answer(logits, temperature):
        checked(temperature)
        made = weights(logits, temperature)
        return made / made.sum(1, keepdim=True)

    return answer


def centred(logits):
    return logits - logits.amax(1, keepdim=True)


def good(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / temperature, dim=1)


# ---------------------------------------------------------------- 正しい答え


@with_hand(right)
def library_softmax(logits, temperature):
    return good(logits, temperature)


@with_hand(right, (0.5, 0.333, 0.167))
def subtracts_the_maximum(logits, temperature):
    checked(temperature)
    weights = torch.exp(centred(logits) / temperature)
    return weights / weights.sum(1, keepdim=True)


@with_hand(right, [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)])
def exp_of_log_softmax(logits, temperature):
    if temperature <= 0 or temperature != temperature:
        raise ValueError("温度は正の数にしてください。")
    return F.log_softmax(logits * (1 / temperature), dim=-1).exp()


@with_hand(right, torch.tensor([3.0, 2.0, 1.0]) / 6)
def log_sum_exp(logits, temperature):
    checked(temperature)
    z = logits / temperature
    return torch.exp(z - torch.logsumexp(z, dim=1, keepdim=True))


@with_hand(right, np.array([1 / 2, 1 / 3, 1 / 6]))
def row_by_row(logits, temperature):
    if not temperature > 0:
        raise ValueError(f"温度 {temperature} は正の数ではありません。")
    rows = []
    for row in logits:
        weights = ((row - row.max()) / temperature).exp()
        rows.append(weights / weights.sum())
    return torch.stack(rows)


# ---------------------------------------------------------------- 手計算の誤り


@with_hand(wrong("hand-ratio"), [3 / 4, 2 / 9, 1 / 36])
def hand_at_temperature_one(logits, temperature):
    return good(logits, temperature)


@with_hand(wrong("hand-ratio"), [1 / 6, 1 / 3, 1 / 2])
def hand_in_reverse(logits, temperature):
    return good(logits, temperature)


@with_hand(wrong("hand-sum"), [3, 2, 1])
def hand_without_the_sum(logits, temperature):
    return good(logits, temperature)


@with_hand(wrong("hand-form"), 0.5)
def hand_is_one_number(logits, temperature):
    return good(logits, temperature)


@with_hand(wrong("hand-form"), [0.5, 0.5])
def hand_has_two_numbers(logits, temperature):
    return good(logits, temperature)


# ---------------------------------------------------------------- 温度の使い方の誤り


@with_hand(wrong("temperature-unused"))
def divides_the_probabilities(logits, temperature):
    checked(temperature)
    p = torch.softmax(logits, 1) / temperature
    return p / p.sum(1, keepdim=True)


@with_hand(wrong("temperature-unused"))
def forgets_the_temperature(logits, temperature):
    return good(logits, temperature / temperature if temperature > 0 else temperature)


@with_hand(wrong("temperature-inverted"))
def multiplies_by_the_temperature(logits, temperature):
    checked(temperature)
    return torch.softmax(logits * temperature, 1)


@with_hand(wrong("temperature-inverted"))
def power_of_the_probabilities(logits, temperature):
    return by(lambda z, t: torch.softmax(z, 1) ** t)(logits, temperature)


@with_hand(wrong("temperature-scale"))
def squares_the_temperature(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / temperature**2, 1)


@with_hand(wrong("temperature-scale"))
def never_sharpens(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / max(temperature, 1.0), 1)


@with_hand(wrong("temperature-scale"))
def caps_the_temperature(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / min(temperature, 100.0), 1)


@with_hand(wrong("temperature-misplaced"))
def mixes_with_uniform(logits, temperature):
    checked(temperature)
    share = min(1 / temperature, 1.0)
    return share * torch.softmax(logits / min(temperature, 1.0), 1) + (1 - share) / logits.shape[1]


@with_hand(wrong("temperature-misplaced"))
def keeps_a_floor(logits, temperature):
    return by(lambda z, t: torch.softmax(z / t, 1).clamp(min=0.01))(logits, temperature)


@with_hand(wrong("not-softmax"))
def base_two(logits, temperature):
    return by(lambda z, t: torch.exp2(centred(z) / t))(logits, temperature)


@with_hand(wrong("not-softmax"))
def one_plus_temperature(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / (1 + temperature), 1)


@with_hand(wrong("not-exponential"))
def standardises_each_row(logits, temperature):
    checked(temperature)
    z = centred(logits)
    return torch.softmax(z / z.std(1, keepdim=True) / temperature, 1)


# ---------------------------------------------------------------- 正規化の誤り


@with_hand(wrong("wrong-axis"))
def normalises_over_the_batch(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / temperature, dim=0)


@with_hand(wrong("row-sum"))
def one_sum_for_all_rows(logits, temperature):
    checked(temperature)
    weights = torch.exp(centred(logits) / temperature)
    return weights / weights.sum()


@with_hand(wrong("row-sum"))
def forgets_to_divide(logits, temperature):
    checked(temperature)
    return torch.exp(centred(logits) / temperature)


@with_hand(wrong("row-sum"))
def power_without_dividing(logits, temperature):
    checked(temperature)
    return torch.softmax(logits, 1) ** (1 / temperature)


@with_hand(wrong("negative"))
def returns_log_probabilities(logits, temperature):
    checked(temperature)
    return F.log_softmax(logits / temperature, 1)


@with_hand(wrong("negative"))
def divides_by_the_sum_of_logits(logits, temperature):
    return by(lambda z, t: z / t)(logits, temperature)


@with_hand(wrong("order-changed"))
def minus_sign(logits, temperature):
    checked(temperature)
    return torch.softmax(-logits / temperature, 1)


@with_hand(wrong("order-changed"))
def absolute_values(logits, temperature):
    return by(lambda z, t: z.abs() / t)(logits, temperature)


@with_hand(wrong("order-changed"))
def only_the_winner(logits, temperature):
    checked(temperature)
    return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits)


@with_hand(wrong("row-dependent"))
def centres_and_scales_the_batch(logits, temperature):
    checked(temperature)
    return torch.softmax(logits / logits.abs().max() / temperature, 1)


@with_hand(wrong("shift-dependent"))
def sigmoids(logits, temperature):
    return by(lambda z, t: torch.sigmoid(z / t))(logits, temperature)


@with_hand(wrong("not-finite"))
def softmax_of_the_logarithm(logits, temperature):
    checked(temperature)
    return torch.softmax(logits.log() / temperature, 1)


# ---------------------------------------------------------------- 計算があふれる誤り


@with_hand(wrong("overflow"))
def by_the_formula(logits, temperature):
    return by(lambda z, t: torch.exp(z / t))(logits, temperature)


@with_hand(wrong("underflow"))
def subtracts_the_maximum_of_the_batch(logits, temperature):
    return by(lambda z, t: torch.exp((z - z.max()) / t))(logits, temperature)


@with_hand(wrong("underflow"))
def subtracts_before_the_division_only(logits, temperature):
    return by(lambda z, t: torch.exp(z / t - z.amax(1, keepdim=True) / min(t, 2.0)))(logits, temperature)


@with_hand(wrong("lost-small"))
def power_of_the_softmax(logits, temperature):
    return by(lambda z, t: torch.softmax(z, 1) ** (1 / t))(logits, temperature)


@with_hand(wrong("clipped"))
def clips_the_exponent(logits, temperature):
    return by(lambda z, t: torch.exp((z / t).clamp(-80, 80)))(logits, temperature)


@with_hand(wrong("clipped"))
def replaces_nan(logits, temperature):
    checked(temperature)
    weights = torch.exp(logits / temperature)
    return torch.nan_to_num(weights / weights.sum(1, keepdim=True), nan=0.25)


# ---------------------------------------------------------------- 返り値と勾配の誤り


@with_hand(wrong("not-tensor"))
def returns_an_array(logits, temperature):
    return good(logits, temperature).detach().numpy()


@with_hand(wrong("not-tensor"))
def returns_a_list(logits, temperature):
    return good(logits, temperature).tolist()


@with_hand(wrong("wrong-shape"))
def transposed(logits, temperature):
    return good(logits, temperature).T


@with_hand(wrong("wrong-shape"))
def squeezes_a_single_row(logits, temperature):
    return good(logits, temperature).squeeze()


@with_hand(wrong("dtype-changed"))
def always_double(logits, temperature):
    return good(logits.double(), temperature)


@with_hand(wrong("dtype-changed"))
def always_float(logits, temperature):
    return good(logits.float(), temperature)


@with_hand(wrong("gradient-cut"))
def without_gradient(logits, temperature):
    with torch.no_grad():
        return good(logits, temperature)


@with_hand(wrong("gradient-wrong"))
def detaches_the_sum(logits, temperature):
    checked(temperature)
    weights = torch.exp(centred(logits) / temperature)
    return weights / weights.sum(1, keepdim=True).detach()


@with_hand(wrong("gradient-not-finite"))
def repairs_the_overflow(logits, temperature):
    """あふれた行だけを選び直す。値は正しいが、選ばなかった側から NaN の勾配が来る。"""
    checked(temperature)
    naive = torch.exp(logits / temperature)
    naive = naive / naive.sum(1, keepdim=True)
    return torch.where(naive.isfinite(), naive, good(logits, temperature))


@with_hand(wrong("argument-changed"))
def divides_in_place(logits, temperature):
    checked(temperature)
    with torch.no_grad():
        logits /= temperature
    return torch.softmax(logits, 1)


@with_hand(wrong("returned-none"))
def forgets_return(logits, temperature):
    good(logits, temperature)


@with_hand(wrong("raised"))
def keepdim_forgotten(logits, temperature):
    checked(temperature)
    return logits - logits.amax(1)


# ---------------------------------------------------------------- 温度の確認の誤り


@with_hand(wrong("nonpositive-accepted"))
def checks_nothing(logits, temperature):
    return torch.softmax(logits / temperature, 1)


@with_hand(wrong("nonpositive-accepted"))
def refuses_only_negative(logits, temperature):
    if not temperature >= 0:
        raise ValueError("温度は正の数にしてください。")
    return torch.softmax(logits / temperature, 1)


@with_hand(wrong("nan-accepted"))
def lets_nan_through(logits, temperature):
    if temperature <= 0:
        raise ValueError("温度は正の数にしてください。")
    return torch.softmax(logits / temperature, 1)


@with_hand(wrong("wrong-exception"))
def asserts(logits, temperature):
    assert temperature > 0
    return torch.softmax(logits / temperature, 1)


@with_hand(wrong("rejects-valid"))
def wants_at_least_one(logits, temperature):
    if not temperature >= 1:
        raise ValueError("温度は1以上にしてください。")
    return torch.softmax(logits / temperature, 1)


# ---------------------------------------------------------------- ひな形のまま、借り物


@with_hand(untouched)
def raises(logits, temperature):
    raise NotImplementedError("ここを実装してください")


@with_hand(untouched, ...)
def leaves_the_hand_computation(logits, temperature):
    return good(logits, temperature)


@with_hand(untouched)
def leaves_a_blank(logits, temperature):
    weights = ...
    return weights / weights.sum(1)


@with_hand(borrower)
def borrows_the_scaling(logits, temperature):
    checked(temperature)
    return _scaled(logits, temperature).softmax(1)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
