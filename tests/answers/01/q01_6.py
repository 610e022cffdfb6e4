"""演習 01-6（転移の曲線を読む）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import warnings

import numpy as np
from answer_kit import borrower, right, untouched, wrong
from scipy import stats

import tlkit.stats
from tlkit.stats import mean_ci

# ---------------------------------------------------------------- 正しい答え


def lower_ends(pretrained, scratch, quantile=None, ddof=1):
    d = pretrained - scratch
    k = d.shape[1]
    quantile = stats.t.ppf(0.975, k - 1) if quantile is None else quantile
    return d.mean(axis=1) - quantile * d.std(axis=1, ddof=ddof) / np.sqrt(k)


def from_lower(sizes, lower):
    """下端から、利得の消える枚数を求める。"""
    found = None
    for size, low in sorted(zip(sizes.tolist(), lower.tolist()), reverse=True):
        if low > 0:
            break
        found = size
    return found


@right
def from_the_largest_down(sizes, pretrained, scratch):
    return from_lower(sizes, lower_ends(pretrained, scratch))


@right
def after_the_last_gain(sizes, pretrained, scratch):
    """利得のある最大の枚数を見つけ、その次を返す。"""
    order = np.argsort(sizes)
    gains = np.flatnonzero(lower_ends(pretrained, scratch)[order] > 0)
    after = gains[-1] + 1 if len(gains) else 0
    return sizes[order][after] if after < len(sizes) else None


@right
def with_cumulative_all(sizes, pretrained, scratch):
    order = np.argsort(sizes)
    lost = lower_ends(pretrained, scratch)[order] <= 0
    onwards = np.logical_and.accumulate(lost[::-1])[::-1]
    return int(sizes[order][onwards].min()) if onwards.any() else None


@right
def with_paired_t_test(sizes, pretrained, scratch):
    """対応のある t 検定。p 値と向きで判断する。"""
    ended = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size, a, b in zip(sizes, pretrained, scratch):
            p = stats.ttest_rel(a, b).pvalue
            gain = np.mean(a - b) > 0 and (np.ptp(a - b) == 0 or p < 0.05)
            ended[int(size)] = not gain
    candidates = [s for s in sorted(ended) if all(ended[t] for t in ended if t >= s)]
    return candidates[0] if candidates else None


# ---------------------------------------------------------------- 区間の誤り


def with_lower(lower):
    def answer(sizes, pretrained, scratch):
        return from_lower(sizes, lower(pretrained, scratch))

    return answer


@wrong("normal-not-t").each
def normal_quantile():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=1.96))


@wrong("normal-not-t").each
def one_standard_error():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=1.0))


@wrong("confidence-level").each
def one_sided_quantile():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=stats.t.ppf(0.95, a.shape[1] - 1)))


@wrong("ddof").each
def population_standard_deviation():
    return with_lower(lambda a, b: lower_ends(a, b, ddof=0))


@wrong("degrees-of-freedom").each
def degrees_of_freedom_k():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=stats.t.ppf(0.975, a.shape[1])))


@wrong("sd-not-se").each
def forgets_the_root_of_k():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=stats.t.ppf(0.975, a.shape[1] - 1) * a.shape[1] ** 0.5))


@wrong("too-wide").each
def ninety_nine_percent():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=stats.t.ppf(0.995, a.shape[1] - 1)))


@wrong("fixed-quantile").each
def quantile_written_by_hand():
    return with_lower(lambda a, b: lower_ends(a, b, quantile=2.776))


@wrong("no-interval").each
def compares_the_means():
    return with_lower(lambda a, b: a.mean(axis=1) - b.mean(axis=1))


@wrong("unpaired").each
def two_separate_intervals():
    def lower(a, b):
        k = a.shape[1]
        half = [stats.t.ppf(0.975, k - 1) * z.std(axis=1, ddof=1) / np.sqrt(k) for z in (a, b)]
        return (a.mean(axis=1) - half[0]) - (b.mean(axis=1) + half[1])

    return with_lower(lower)


@wrong("unpaired").each
def welch_interval():
    def lower(a, b):
        k = a.shape[1]
        va, vb = a.var(axis=1, ddof=1) / k, b.var(axis=1, ddof=1) / k
        df = (va + vb) ** 2 / (va**2 / (k - 1) + vb**2 / (k - 1) + 1e-30)
        return a.mean(axis=1) - b.mean(axis=1) - stats.t.ppf(0.975, np.maximum(df, 1)) * np.sqrt(va + vb)

    return with_lower(lower)


@wrong("pooled-spread").each
def one_standard_deviation_for_all_sizes():
    def lower(a, b):
        d, k = a - b, a.shape[1]
        spread = (d - d.mean(axis=1, keepdims=True)).std(ddof=1)
        return d.mean(axis=1) - stats.t.ppf(0.975, k - 1) * spread / np.sqrt(k)

    return with_lower(lower)


@wrong("sign-reversed").each
def subtracts_the_other_way():
    return with_lower(lambda a, b: lower_ends(b, a))


@wrong("zero-gain").each
def interval_of_scipy_without_care():
    def lower(a, b):
        d, k = a - b, a.shape[1]
        return stats.t.interval(0.95, k - 1, d.mean(axis=1), stats.sem(d, axis=1))[0]

    def answer(sizes, pretrained, scratch):
        low = lower(pretrained, scratch)
        return from_lower(sizes, np.where(low <= 0, low, 1.0))

    return answer


@wrong("zero-spread").each
def nan_counts_as_no_gain():
    def lower(a, b):
        d, k = a - b, a.shape[1]
        return stats.t.interval(0.95, k - 1, d.mean(axis=1), stats.sem(d, axis=1))[0]

    def answer(sizes, pretrained, scratch):
        low = lower(pretrained, scratch)
        return from_lower(sizes, np.where(low > 0, low, -1.0))

    return answer


@wrong("zero-gain").each
def zero_counts_as_gain():
    return with_lower(lambda a, b: np.where(lower_ends(a, b) >= 0, 1.0, -1.0))


# ---------------------------------------------------------------- 枚数の読み取りの誤り


@wrong("first-crossing")
def first_size_without_gain(sizes, pretrained, scratch):
    for size, low in sorted(zip(sizes.tolist(), lower_ends(pretrained, scratch).tolist())):
        if low <= 0:
            return size
    return None


@wrong("last-gain")
def largest_size_with_gain(sizes, pretrained, scratch):
    low = lower_ends(pretrained, scratch)
    if not (low > 0).any():
        return int(sizes.min())
    largest = int(sizes[low > 0].max())
    return None if largest == sizes.max() else largest


@wrong("not-smallest")
def largest_size_without_gain(sizes, pretrained, scratch):
    low = lower_ends(pretrained, scratch)
    if low[sizes.argmax()] > 0:
        return None
    return int(sizes.min()) if (low <= 0).all() else int(sizes.max())


@wrong("unsorted")
def trusts_the_given_order(sizes, pretrained, scratch):
    found = None
    for size, low in zip(sizes[::-1], lower_ends(pretrained, scratch)[::-1]):
        if low > 0:
            break
        found = int(size)
    return found


@wrong("unsorted")
def sorts_the_sizes_only(sizes, pretrained, scratch):
    return from_lower(np.sort(sizes), lower_ends(pretrained, scratch))


@wrong("loss-ignored")
def looks_for_zero_inside_the_interval(sizes, pretrained, scratch):
    d = pretrained - scratch
    low = lower_ends(pretrained, scratch)
    high = 2 * d.mean(axis=1) - low
    return from_lower(sizes, np.where((low <= 0) & (high >= 0), -1.0, 1.0))


@wrong("clear-gain-lost")
def largest_when_the_gain_lasts(sizes, pretrained, scratch):
    found = from_the_largest_down(sizes, pretrained, scratch)
    return int(sizes.max()) if found is None else found


# ---------------------------------------------------------------- 返り値の誤り


@wrong("index-returned")
def returns_the_index(sizes, pretrained, scratch):
    found = from_the_largest_down(sizes, pretrained, scratch)
    return None if found is None else sizes.tolist().index(found)


@wrong("not-int")
def returns_a_float(sizes, pretrained, scratch):
    found = from_the_largest_down(sizes, pretrained, scratch)
    return None if found is None else float(found)


@wrong("not-int")
def returns_all_sizes_without_gain(sizes, pretrained, scratch):
    return sizes[lower_ends(pretrained, scratch) <= 0]


@wrong("not-a-size")
def minus_one_for_never(sizes, pretrained, scratch):
    found = from_the_largest_down(sizes, pretrained, scratch)
    return -1 if found is None else found


@wrong("always-none")
def forgets_return(sizes, pretrained, scratch):
    found = from_the_largest_down(sizes, pretrained, scratch)


@wrong("value-mismatch")
def needs_two_sizes(sizes, pretrained, scratch):
    return from_the_largest_down(sizes, pretrained, scratch) if len(sizes) > 1 else None


@wrong("argument-changed")
def sorts_in_place(sizes, pretrained, scratch):
    order = np.argsort(sizes)
    low = lower_ends(pretrained, scratch)[order]
    sizes.sort()
    return from_lower(sizes, low)


@wrong("raised")
def averages_over_sizes(sizes, pretrained, scratch):
    low = (pretrained - scratch).mean(axis=0)
    return int(sizes[np.flatnonzero(low <= 0)[0]])


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(sizes, pretrained, scratch):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(sizes, pretrained, scratch):
    lower = ...
    return int(sizes[lower > 0][0])


@borrower
def calls_mean_ci(sizes, pretrained, scratch):
    found = None
    for size, d in sorted(zip(sizes.tolist(), (pretrained - scratch).tolist()), reverse=True):
        mean, half = mean_ci(d)
        if mean - half > 0:
            break
        found = size
    return found


@borrower
def calls_it_by_its_full_name(sizes, pretrained, scratch):
    tlkit.stats.mean_ci((pretrained - scratch)[0])
    return from_the_largest_down(sizes, pretrained, scratch)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

_SAME_LENGTH = "二つの配列の長さはいつも等しい"
EQUIVALENT = {
    "zip(sizes[order], gain.mean(axis=1) - half, strict=True) → zip(sizes[order], gain.mean(axis=1) - half)": _SAME_LENGTH,
    "True → False": _SAME_LENGTH,
}
