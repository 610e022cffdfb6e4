"""演習 02-7（チェックポイントの選び方の報告）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import statistics

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from scipy import stats

from tlkit.stats import mean_ci

# ---------------------------------------------------------------- 正しい答え


def chosen(validation, test):
    return test[np.arange(len(test)), validation.argmax(axis=1)]


def half_width(d, quantile=None, ddof=1):
    quantile = stats.t.ppf(0.975, len(d) - 1) if quantile is None else quantile
    return quantile * d.std(ddof=ddof) / np.sqrt(len(d))


def summary(honest, optimistic, half=half_width):
    return honest.mean(), optimistic.mean(), (optimistic - honest).mean(), half(optimistic - honest)


@right
def with_integer_indices(validation, test):
    return summary(chosen(validation, test), test.max(axis=1))


@right
def with_take_along_axis(validation, test):
    picks = validation.argmax(axis=1)[:, None]
    honest, best = np.take_along_axis(test, picks, axis=1)[:, 0], np.sort(test, axis=1)[:, -1]
    return [float(value) for value in summary(honest, best)]


@right
def one_repetition_at_a_time(validation, test):
    """標準ライブラリの統計だけを使う。"""
    honest, best = [], []
    for v, t in zip(validation.tolist(), test.tolist()):
        honest.append(t[v.index(max(v))])
        best.append(max(t))
    gaps = [b - h for h, b in zip(honest, best)]
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return statistics.fmean(honest), statistics.fmean(best), statistics.fmean(gaps), half


@right
def with_torch(validation, test):
    v, t = torch.from_numpy(validation), torch.from_numpy(test)
    honest, best = t.gather(1, torch.stack([row.argmax() for row in v])[:, None]).squeeze(1), t.amax(dim=1)
    d = best - honest
    half = stats.t.isf(0.025, len(d) - 1) * d.std(correction=1).item() / len(d) ** 0.5
    return honest.mean().item(), best.mean().item(), d.mean().item(), half


@right
def from_the_interval_of_scipy(validation, test):
    honest, best = chosen(validation, test), test.max(axis=1)
    d = best - honest
    spread = stats.sem(d)
    half = stats.t.interval(0.95, len(d) - 1, 0, spread)[1] if spread > 0 else 0.0
    return honest.mean(), best.mean(), d.mean(), half


# ---------------------------------------------------------------- 選び方の誤り


@wrong("validation-unused")
def chooses_by_the_test(validation, test):
    return summary(chosen(test, test), test.max(axis=1))


@wrong("validation-unused")
def always_the_last_checkpoint(validation, test):
    return summary(test[:, -1], test.max(axis=1))


@wrong("validation-reported")
def validation_score_as_the_honest_one(validation, test):
    return summary(validation.max(axis=1), test.max(axis=1))


@wrong("worst-chosen")
def chooses_the_smallest(validation, test):
    return summary(chosen(-validation, test), test.max(axis=1))


@wrong("one-for-all")
def one_candidate_for_all_repetitions(validation, test):
    return summary(test[:, validation.mean(axis=0).argmax()], test.max(axis=1))


@wrong("ties")
def the_last_on_ties(validation, test):
    last = validation.shape[1] - 1 - validation[:, ::-1].argmax(axis=1)
    return summary(test[np.arange(len(test)), last], test.max(axis=1))


@wrong("ties")
def the_mean_over_ties(validation, test):
    best = validation == validation.max(axis=1, keepdims=True)
    return summary((test * best).sum(axis=1) / best.sum(axis=1), test.max(axis=1))


@wrong("ties-by-test")
def the_better_on_test_on_ties(validation, test):
    best = validation == validation.max(axis=1, keepdims=True)
    return summary(np.where(best, test, -1).max(axis=1), test.max(axis=1))


@wrong("axis")
def best_repetition_of_each_candidate(validation, test):
    return summary(test[validation.argmax(axis=0), np.arange(test.shape[1])], test.max(axis=0), lambda d: 0.0)


@wrong("axis")
def argmax_over_everything(validation, test):
    place = np.unravel_index(validation.argmax(), validation.shape)
    return test[place], test.max(axis=1).mean(), test.max(axis=1).mean() - test[place], 0.0


@wrong("axis")
def takes_from_the_first_row(validation, test):
    return summary(test.take(validation.argmax(axis=1)), test.max(axis=1))


# ---------------------------------------------------------------- 最大と差の誤り


@wrong("max-of-means")
def best_candidate_on_average(validation, test):
    honest, best = chosen(validation, test), test.mean(axis=0).max()
    return honest.mean(), best, best - honest.mean(), half_width(best - honest)


@wrong("max-of-means")
def best_candidate_against_the_choices(validation, test):
    return summary(chosen(validation, test), test[:, test.mean(axis=0).argmax()])


@wrong("single-max")
def the_largest_of_the_table(validation, test):
    return summary(chosen(validation, test), np.full(len(test), test.max()))


@wrong("order")
def honest_and_optimistic_swapped(validation, test):
    honest, optimistic, gap, half = with_integer_indices(validation, test)
    return optimistic, honest, gap, half


@wrong("gap-sign")
def subtracts_the_other_way(validation, test):
    honest, optimistic, gap, half = with_integer_indices(validation, test)
    return honest, optimistic, -gap, half


@wrong("gap-mismatch")
def gap_as_a_ratio(validation, test):
    honest, optimistic, gap, half = with_integer_indices(validation, test)
    return honest, optimistic, optimistic / honest - 1, half


@wrong("gap-mismatch")
def gap_to_the_validation_score(validation, test):
    honest, optimistic, gap, half = with_integer_indices(validation, test)
    return honest, optimistic, (validation.max(axis=1) - chosen(validation, test)).mean(), half


# ---------------------------------------------------------------- 区間の誤り


def with_half(half):
    def answer(validation, test):
        return summary(chosen(validation, test), test.max(axis=1), half)

    return answer


@wrong("se-returned").each
def standard_error():
    return with_half(lambda d: half_width(d, 1.0))


@wrong("normal-not-t").each
def normal_quantile():
    return with_half(lambda d: half_width(d, 1.96))


@wrong("confidence-level").each
def one_sided():
    return with_half(lambda d: half_width(d, stats.t.ppf(0.95, len(d) - 1)))


@wrong("ddof").each
def population_standard_deviation():
    return with_half(lambda d: half_width(d, ddof=0))


@wrong("degrees-of-freedom").each
def degrees_of_freedom_r():
    return with_half(lambda d: half_width(d, stats.t.ppf(0.975, len(d))))


@wrong("sd-not-se").each
def forgets_the_root():
    return with_half(lambda d: half_width(d) * len(d) ** 0.5)


@wrong("too-wide").each
def full_width():
    return with_half(lambda d: 2 * half_width(d))


@wrong("too-wide").each
def ninety_nine_percent():
    return with_half(lambda d: half_width(d, stats.t.ppf(0.995, len(d) - 1)))


@wrong("fixed-quantile").each
def quantile_written_by_hand():
    return with_half(lambda d: half_width(d, 2.7764451))


@wrong("zero-spread").each
def interval_of_scipy_without_care():
    def half(d):
        low, high = stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d))
        return (high - low) / 2

    return with_half(half)


@wrong("unpaired")
def two_separate_intervals(validation, test):
    honest, best = chosen(validation, test), test.max(axis=1)
    return honest.mean(), best.mean(), best.mean() - honest.mean(), np.hypot(half_width(honest), half_width(best))


@wrong("unpaired")
def interval_of_the_honest_one(validation, test):
    honest, best = chosen(validation, test), test.max(axis=1)
    return honest.mean(), best.mean(), (best - honest).mean(), half_width(honest)


# ---------------------------------------------------------------- 返り値の誤り


@wrong("not-four-numbers")
def gap_and_half_only(validation, test):
    return with_integer_indices(validation, test)[2:]


@wrong("not-four-numbers")
def returns_a_dictionary(validation, test):
    names = ("honest", "optimistic", "gap", "half")
    return dict(zip(names, map(float, with_integer_indices(validation, test))))


@wrong("percent")
def in_percent(validation, test):
    return tuple(100 * value for value in with_integer_indices(validation, test))


@wrong("returned-none")
def forgets_return(validation, test):
    with_integer_indices(validation, test)


@wrong("argument-changed")
def sorts_in_place(validation, test):
    honest = chosen(validation, test)
    test.sort(axis=1)
    return summary(honest, test[:, -1])


@wrong("raised")
def compares_the_shapes(validation, test):
    return summary(test[validation.argmax(axis=1)], test.max(axis=1))


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(validation, test):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(validation, test):
    picks = ...
    return test[:, 0] - picks, 0, 0, 0


@borrower
def calls_mean_ci(validation, test):
    honest, best = chosen(validation, test), test.max(axis=1)
    return honest.mean(), best.mean(), *mean_ci(best - honest)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {"test → validation": "二つの表の形は、いつも等しい"}
