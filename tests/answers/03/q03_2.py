"""演習 03-2（λ の予定）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import math

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from scipy.special import expit

import tlkit.nn

# ---------------------------------------------------------------- 正しい答え


def checked(progress):
    if not 0 <= progress <= 1:
        raise ValueError("progressは0以上1以下にしてください。")


@right
def as_in_the_paper(progress, gamma=10.0):
    checked(progress)
    return 2 / (1 + math.exp(-gamma * progress)) - 1


@right
def hyperbolic_tangent(progress, gamma=10.0):
    checked(progress)
    return math.tanh(gamma * progress / 2)


@right
def expm1(progress, gamma=10.0):
    """桁落ちのない形: (1 − e) / (1 + e)。"""
    if progress < 0 or progress > 1 or math.isnan(progress):
        raise ValueError("進み具合が範囲の外です。")
    lost = -math.expm1(-gamma * progress)
    return lost / (2 - lost)


@right
def with_scipy(progress, gamma=10.0):
    checked(progress)
    return 2 * expit(gamma * progress) - 1


@right
def with_numpy(progress, gamma=10.0):
    if not (np.isfinite(progress) and 0 <= progress <= 1):
        raise ValueError("進み具合が範囲の外です。")
    return np.divide(2.0, np.exp(-gamma * np.float64(progress)) + 1.0) - 1.0


@right
def with_torch(progress, gamma=10.0):
    checked(progress)
    return (2 * torch.sigmoid(torch.tensor(gamma * progress)) - 1).item()


# ---------------------------------------------------------------- 出発点と増え方の誤り


@wrong("start")
def forgets_minus_one(progress, gamma=10.0):
    checked(progress)
    return 2 / (1 + math.exp(-gamma * progress))


@wrong("start")
def plain_sigmoid(progress, gamma=10.0):
    checked(progress)
    return 1 / (1 + math.exp(-gamma * progress))


@wrong("start")
def runs_backwards(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(1 - progress, gamma)


@wrong("negative")
def wrong_sign_in_exp(progress, gamma=10.0):
    checked(progress)
    return 2 / (1 + math.exp(min(gamma * progress, 700))) - 1


@wrong("negative")
def swapped_difference(progress, gamma=10.0):
    checked(progress)
    return 1 - 2 / (1 + math.exp(-gamma * progress))


@wrong("straight")
def linear(progress, gamma=10.0):
    checked(progress)
    return float(progress)


@wrong("not-increasing")
def rounds_the_progress(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(round(progress, 1), gamma)


@wrong("not-increasing")
def per_epoch(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(math.floor(progress * 10) / 10, gamma)


@wrong("not-increasing")
def integer_division(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(int(progress), gamma)


# ---------------------------------------------------------------- γ と、行き着く先の誤り


@wrong("gamma-ignored")
def gamma_written_by_hand(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(progress, 10.0)


@wrong("default-gamma")
def another_default(progress, gamma=1.0):
    checked(progress)
    return as_in_the_paper(progress, gamma)


@wrong("limit")
def centred_sigmoid(progress, gamma=10.0):
    checked(progress)
    return 1 / (1 + math.exp(-gamma * progress)) - 0.5


@wrong("limit")
def three_halves(progress, gamma=10.0):
    checked(progress)
    return 1.5 * as_in_the_paper(progress, gamma)


@wrong("end-forced")
def ends_exactly_at_one(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(progress, gamma) / as_in_the_paper(1, gamma)


@wrong("overflow")
def positive_exponent(progress, gamma=10.0):
    checked(progress)
    e = math.exp(gamma * progress)
    return (e - 1) / (e + 1)


@wrong("overflow")
def positive_exponent_in_numpy(progress, gamma=10.0):
    checked(progress)
    with np.errstate(all="ignore"):
        e = np.exp(np.float64(gamma * progress))
        return (e - 1) / (e + 1)


# ---------------------------------------------------------------- 傾きの誤り


@wrong("too-steep")
def tangent_without_half(progress, gamma=10.0):
    checked(progress)
    return math.tanh(gamma * progress)


@wrong("too-steep")
def one_minus_exponential(progress, gamma=10.0):
    checked(progress)
    return 1 - math.exp(-gamma * progress)


@wrong("too-gentle")
def takes_progress_for_percent(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(progress / 100, gamma)


@wrong("too-gentle")
def squares_the_progress(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(progress**2, gamma)


@wrong("value-mismatch")
def rational_curve(progress, gamma=10.0):
    """出発点の傾きは同じで、別の曲線。"""
    checked(progress)
    return math.atan(gamma * progress * math.pi / 4) * 2 / math.pi if gamma < 1000 else as_in_the_paper(progress, gamma)


# ---------------------------------------------------------------- 返り値と、p の確認の誤り


@wrong("not-float")
def returns_a_tensor(progress, gamma=10.0):
    checked(progress)
    return 2 * torch.sigmoid(torch.tensor(gamma * progress, dtype=torch.float64)) - 1


@wrong("not-float")
def returns_an_array(progress, gamma=10.0):
    checked(progress)
    return np.array(as_in_the_paper(progress, gamma))


@wrong("not-scalar")
def returns_a_row(progress, gamma=10.0):
    checked(progress)
    return np.array([as_in_the_paper(progress, gamma)])


@wrong("not-number")
def returns_text(progress, gamma=10.0):
    checked(progress)
    return f"{as_in_the_paper(progress, gamma):.3f}"


@wrong("not-finite")
def logistic_of_the_inverse(progress, gamma=10.0):
    checked(progress)
    return as_in_the_paper(progress, gamma) if progress else float("nan")


@wrong("outside-accepted")
def checks_nothing(progress, gamma=10.0):
    return 2 / (1 + math.exp(-gamma * progress)) - 1


@wrong("outside-accepted")
def clips_quietly(progress, gamma=10.0):
    return as_in_the_paper(min(max(progress, 0.0), 1.0), gamma)


@wrong("outside-accepted")
def checks_only_above(progress, gamma=10.0):
    if not progress <= 1:
        raise ValueError("progressは1以下にしてください。")
    return math.tanh(gamma * progress / 2)


@wrong("nan-accepted")
def lets_nan_through(progress, gamma=10.0):
    if progress < 0 or progress > 1:
        raise ValueError("progressは0以上1以下にしてください。")
    return math.tanh(gamma * progress / 2)


@wrong("wrong-exception")
def asserts(progress, gamma=10.0):
    assert 0 <= progress <= 1
    return math.tanh(gamma * progress / 2)


@wrong("rejects-valid")
def rejects_the_start(progress, gamma=10.0):
    if not 0 < progress < 1:
        raise ValueError("progressは0と1の間にしてください。")
    return math.tanh(gamma * progress / 2)


@wrong("raised")
def forgets_the_module(progress, gamma=10.0):
    checked(progress)
    return 2 / (1 + exp(-gamma * progress)) - 1  # noqa: F821


@wrong("returned-none")
def forgets_return(progress, gamma=10.0):
    as_in_the_paper(progress, gamma)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(progress, gamma=10.0):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(progress, gamma=10.0):
    exponent = ...
    return 2 / (1 + exponent) - 1


@borrower
def calls_the_library(progress, gamma=10.0):
    return tlkit.nn.dann_lambda(progress, gamma)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
