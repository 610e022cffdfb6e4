"""演習 08-8（手法の比べ方）の答え。正しいもの、誤り、ひな形、借り物。"""

import functools
import statistics

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from scipy import stats

import tlkit.stats

# ---------------------------------------------------------------- 共通の部品


def by_mean(validation, test, baseline):
    return max((name for name in validation if name != baseline), key=lambda name: float(validation[name].mean()))


def paired(test, chosen, baseline):
    return test[chosen].mean(dim=1) - test[baseline].mean(dim=1)


def t_interval(gaps, test, chosen, baseline):
    return float(stats.t.ppf(0.975, len(gaps) - 1)) * gaps.std().item() / len(gaps) ** 0.5


def decide(difference, half):
    if abs(difference) <= half:
        return "unclear"
    return "better" if difference > 0 else "worse"


def compare(choose=by_mean, gap=paired, interval=t_interval, conclude=decide, give=dict):
    """一か所だけを変えた答え。選び方、差、区間、結論、返り値。"""

    def answer(validation, test, baseline):
        chosen = choose(validation, test, baseline)
        gaps = gap(test, chosen, baseline)
        difference, half = gaps.mean().item(), interval(gaps, test, chosen, baseline)
        return give(chosen=chosen, difference=difference, half=half, verdict=conclude(difference, half))

    return answer


plain = compare()

# ---------------------------------------------------------------- 正しい答え


@right
def straightforward(validation, test, baseline):
    chosen = by_mean(validation, test, baseline)
    gaps = (test[chosen] - test[baseline]).mean(dim=1)
    low, high = stats.t.interval(0.95, len(gaps) - 1, loc=gaps.mean().item(), scale=stats.sem(gaps.numpy()) or 1e-30)
    verdict = "better" if low > 0 else "worse" if high < 0 else "unclear"
    return {"chosen": chosen, "difference": float(gaps.mean()), "half": float(high - low) / 2, "verdict": verdict}


@right
def with_the_standard_library(validation, test, baseline):
    """リストと statistics だけで数える。"""
    ranking = sorted((statistics.fmean(v.flatten().tolist()), k) for k, v in validation.items() if k != baseline)
    name = ranking[-1][1]
    gaps = [
        statistics.fmean(a) - statistics.fmean(b)
        for a, b in zip(test[name].tolist(), test[baseline].tolist(), strict=True)
    ]
    count, middle = len(gaps), statistics.fmean(gaps)
    half = float(stats.t(df=count - 1).isf(0.025)) * statistics.stdev(gaps) / count**0.5
    words = ("unclear", "better", "worse")
    sign = (middle > half) - (middle < -half)
    return dict(zip(("chosen", "difference", "half", "verdict"), (name, middle, half, words[sign]), strict=True))


@right
def with_arrays(validation, test, baseline):
    names = [name for name in validation if name != baseline]
    chosen = names[int(np.argmax([validation[name].numpy().mean() for name in names]))]
    gaps = test[chosen].numpy().mean(1) - test[baseline].numpy().mean(1)
    half = -stats.t.ppf(0.025, gaps.size - 1) * np.sqrt(gaps.var(ddof=1) / gaps.size)
    verdict = "unclear" if gaps.mean() - half <= 0 <= gaps.mean() + half else "better" if gaps.mean() > 0 else "worse"
    return {"chosen": chosen, "difference": float(gaps.mean()), "half": float(half), "verdict": verdict}


# ---------------------------------------------------------------- 選び方


@wrong("chose-baseline").each
def the_baseline_is_a_candidate():
    return compare(lambda validation, test, baseline: max(validation, key=lambda name: validation[name].mean()))


@wrong("chosen-on-test").each
def chooses_on_the_test():
    return compare(lambda validation, test, baseline: by_mean(test, test, baseline))


@wrong("chosen-on-test").each
def chooses_on_both():
    return compare(
        lambda validation, test, baseline: by_mean(
            {name: validation[name].mean() + 2 * test[name].mean() for name in test}, test, baseline
        )
    )


@wrong("chosen-count").each
def chooses_by_the_sum():
    return compare(lambda v, test, baseline: max((n for n in v if n != baseline), key=lambda n: v[n].sum()))


@wrong("chosen-other").each
def chooses_the_worst():
    return compare(lambda v, test, baseline: min((n for n in v if n != baseline), key=lambda n: v[n].mean()))


# ---------------------------------------------------------------- 差


@wrong("difference-on-validation")
def measures_on_the_validation(validation, test, baseline):
    return plain(validation, validation | {k: v[:, :8] for k, v in validation.items()}, baseline)


@wrong("difference-sign").each
def subtracts_the_chosen():
    return compare(gap=lambda test, chosen, baseline: paired(test, baseline, chosen))


@wrong("difference-other").each
def uses_one_episode():
    return compare(gap=lambda test, chosen, baseline: test[chosen][:, 0] - test[baseline][:, 0])


# ---------------------------------------------------------------- 区間


@wrong("pooled-episodes").each
def counts_episodes():
    return compare(gap=lambda test, chosen, baseline: (test[chosen] - test[baseline]).flatten())


@wrong("pooled-episodes").each
def divides_by_the_number_of_all_values():
    return compare(
        interval=lambda gaps, test, c, b: t_interval(gaps, test, c, b) * (len(gaps) / test[c].numel()) ** 0.5
    )


@wrong("unpaired").each
def two_samples():
    def interval(gaps, test, chosen, baseline):
        spread = sum(test[name].mean(dim=1).var() for name in (chosen, baseline))
        return float(stats.t.ppf(0.975, 2 * len(gaps) - 2)) * (spread / len(gaps)).sqrt().item()

    return compare(interval=interval)


@wrong("quantile-fixed").each
def normal_quantile():
    return compare(interval=lambda gaps, *_: 1.96 * gaps.std().item() / len(gaps) ** 0.5)


@wrong("half-other").each
def one_sided():
    return compare(interval=lambda gaps, *_: stats.t.ppf(0.95, len(gaps) - 1) * gaps.std().item() / len(gaps) ** 0.5)


@wrong("half-other").each
def population_spread():
    return compare(
        interval=lambda gaps, *_: stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(correction=0).item() / len(gaps) ** 0.5
    )


@wrong("half-other").each
def forgets_the_root():
    return compare(interval=lambda gaps, *_: float(stats.t.ppf(0.975, len(gaps) - 1)) * gaps.std().item())


@wrong("half-positive").each
def lower_quantile():
    return compare(interval=lambda *args: -t_interval(*args))


@wrong("half-elsewhere").each
def never_quite_zero():
    return compare(interval=lambda *args: max(t_interval(*args), 1e-3))


# ---------------------------------------------------------------- 結論


@wrong("verdict-overclaims").each
def looks_only_at_the_sign():
    return compare(conclude=lambda difference, half: decide(difference, 0))


@wrong("verdict-sign").each
def swaps_the_words():
    return compare(conclude=lambda difference, half: decide(-difference, half))


@wrong("verdict-timid").each
def never_says_worse():
    return compare(conclude=lambda difference, half: "better" if difference > half else "unclear")


@wrong("verdict-zero").each
def an_end_at_zero_counts():
    return compare(conclude=lambda d, half: "unclear" if abs(d) < half else "better" if d >= 0 else "worse")


@wrong("verdict-words").each
def own_words():
    return compare(conclude=lambda difference, half: "差なし")


# ---------------------------------------------------------------- 返り値


@wrong("form").each
def returns_a_tuple():
    return compare(give=lambda **found: tuple(found.values()))


@wrong("form").each
def forgets_the_half():
    return compare(give=lambda chosen, difference, half, verdict: {"chosen": chosen, "difference": difference})


@wrong("not-float").each
def returns_tensors():
    return compare(interval=lambda *args: torch.tensor(t_interval(*args)))


@wrong("not-finite").each
def divides_by_the_spread():
    return compare(interval=lambda gaps, *rest: t_interval(gaps, *rest) + float(0 * (1 / gaps.std())))


@wrong("returned-none").each
def returns_nothing():
    return compare(give=lambda **_: None)


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(validation, test, baseline):
    raise NotImplementedError("ここを実装してください")


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


# ---------------------------------------------------------------- 借り物


@borrower.each
def calls_the_interval_of_the_library():
    return compare(interval=lambda gaps, *_: tlkit.stats.mean_ci(gaps.numpy()).half)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {"accuracy.numpy() → accuracy": "テンソルのままでも、平均は同じ"}
