"""演習 03-8（重要度重みと実効標本数）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from scipy import special

import tlkit


def checked(p):
    if not ((p >= 0) & (p < 1)).all():
        raise ValueError("確率は0以上1未満にしてください。")
    return p


def ratio(p, n_source, n_target):
    return n_source / n_target * checked(p) / (1 - p)


def size(w):
    return w.sum() ** 2 / (w**2).sum()


# ---------------------------------------------------------------- 正しい答え


@right.each
def as_in_the_formula():
    return ratio, size


@right.each
def by_the_log_odds():
    def weights(p, n_source, n_target):
        if np.isnan(p).any() or p.min() < 0 or p.max() >= 1:
            raise ValueError("確率の範囲が違います。")
        return np.exp(special.logit(p) + np.log(n_source) - np.log(n_target))

    def effective(w):
        return float(1 / np.square(w / w.sum()).sum())

    return weights, effective


@right.each
def by_the_two_densities():
    def weights(p, n_source, n_target):
        target, source = checked(p) / n_target, (1 - p) / n_source
        return target / source

    def effective(w):
        return len(w) * w.mean() ** 2 / np.mean(w**2)

    return weights, effective


@right.each
def row_by_row():
    def weights(p, n_source, n_target):
        found = []
        for value in p:
            if not 0 <= value < 1:
                raise ValueError(f"{value} は使えません。")
            found.append((1 / (1 - value) - 1) * n_source / n_target)
        return np.array(found)

    def effective(w):
        return sum(w) ** 2 / sum(x * x for x in w)

    return weights, effective


@right.each
def in_torch():
    def weights(p, n_source, n_target):
        q = torch.from_numpy(checked(p))
        return (n_source * q / (n_target * (1 - q))).numpy()

    def effective(w):
        w = torch.from_numpy(w)
        return (w.sum() / w.norm()).square()

    return weights, effective


# ---------------------------------------------------------------- 重みの誤り


@wrong("inverse").each
def source_over_target():
    return lambda p, n, m: m / n * (1 - checked(p)) / np.maximum(p, 1e-12), size


@wrong("inverse").each
def domain_labels_swapped():
    return lambda p, n, m: ratio(1 - np.clip(checked(p), 1e-9, 1), n, m), size


@wrong("not-a-ratio").each
def the_probability_itself():
    return lambda p, n, m: n / m * checked(p), size


@wrong("not-a-ratio").each
def share_of_the_two_densities():
    def weights(p, n, m):
        target, source = checked(p) / m, (1 - p) / n
        return target / (source + target)

    return weights, size


@wrong("odds").each
def one_over_source_probability():
    """1/(1 − P) とする。P(T|x) を掛け忘れている。"""
    return lambda p, n, m: n / m / (1 - checked(p)), size


@wrong("odds").each
def square_root_of_the_ratio():
    return lambda p, n, m: np.sqrt(ratio(p, n, m)), size


@wrong("odds").each
def log_of_the_ratio():
    return lambda p, n, m: np.log1p(ratio(p, n, m)), size


@wrong("counts-ignored").each
def forgets_the_counts():
    return lambda p, n, m: checked(p) / (1 - p), size


@wrong("counts-turned").each
def counts_upside_down():
    return lambda p, n, m: m / n * checked(p) / (1 - p), size


@wrong("counts").each
def counts_by_the_number_of_rows():
    """n_source の代わりに、渡された行の数を使う。"""
    return lambda p, n, m: ratio(p, len(p), m) * (n / len(p) if n == m else 1), size


@wrong("depends-on-others").each
def mean_made_one():
    def weights(p, n, m):
        w = ratio(p, n, m)
        return w / w.mean() if len(w) > 4 else w

    return weights, size


@wrong("odds").each
def always_mean_one():
    def weights(p, n, m):
        w = ratio(p, n, m)
        return w / w.mean()

    return weights, size


@wrong("large-clipped").each
def cuts_large_weights():
    return lambda p, n, m: np.minimum(ratio(p, n, m), 10), size


@wrong("large-clipped").each
def clips_the_probability():
    return lambda p, n, m: ratio(np.clip(checked(p), 0.0, 0.99), n, m), size


@wrong("large-clipped").each
def adds_a_small_number_below():
    return lambda p, n, m: n / m * checked(p) / (1 - p + 1e-5 * (p > 0.9)), size


@wrong("small-clipped").each
def lower_limit():
    return lambda p, n, m: np.maximum(ratio(p, n, m), 1e-3), size


@wrong("value-mismatch").each
def counts_in_whole_numbers():
    """件数の比を整数に丸める。"""
    return lambda p, n, m: (max(n // m, 1) / max(m // n, 1)) * checked(p) / (1 - p) * (1 if len(p) < 5 else 1.01), size


@wrong("not-finite").each
def log_of_zero():
    return lambda p, n, m: ratio(p, n, m) * np.exp(0 * np.log(checked(p))), size


@wrong("shape").each
def returns_a_column():
    return lambda p, n, m: ratio(p, n, m)[:, None], size


@wrong("shape").each
def returns_the_sum():
    return lambda p, n, m: ratio(p, n, m).sum(), size


@wrong("not-array").each
def returns_a_list():
    return lambda p, n, m: ratio(p, n, m).tolist(), size


@wrong("argument-changed").each
def divides_in_place():
    def weights(p, n, m):
        checked(p)
        p /= 1 - p
        return n / m * p

    return weights, size


@wrong("raised").each
def pairs_the_rows_with_the_counts():
    return lambda p, n, m: ratio(p, n, m) * np.ones(n) / np.ones(n), size


# ---------------------------------------------------------------- 断り方の誤り


def unchecked(p, n_source, n_target):
    with np.errstate(all="ignore"):
        return n_source / n_target * p / (1 - p)


@wrong("accepts-one").each
def no_check():
    return unchecked, size


@wrong("accepts-one").each
def clips_one_away():
    return lambda p, n, m: unchecked(np.where(p >= 1, 1 - 1e-9, np.maximum(p, 0)), n, m), size


@wrong("accepts-above-one").each
def refuses_only_one():
    def weights(p, n, m):
        if (p == 1).any():
            raise ValueError("1があります。")
        return unchecked(p, n, m)

    return weights, size


@wrong("accepts-negative").each
def refuses_only_large_values():
    def weights(p, n, m):
        if not (p < 1).all():
            raise ValueError("1以上があります。")
        return unchecked(p, n, m)

    return weights, size


@wrong("accepts-nan").each
def lets_nan_pass():
    def weights(p, n, m):
        if (p >= 1).any() or (p < 0).any():
            raise ValueError("範囲の外です。")
        return unchecked(p, n, m)

    return weights, size


@wrong("other-error").each
def asserts_instead():
    def weights(p, n, m):
        assert ((p >= 0) & (p < 1)).all()
        return unchecked(p, n, m)

    return weights, size


# ---------------------------------------------------------------- 実効標本数の誤り


@wrong("size-equal").each
def mean_of_squares_below():
    return ratio, lambda w: w.sum() ** 2 / (w**2).mean()


@wrong("size-equal").each
def turned_over():
    return ratio, lambda w: (w**2).sum() / w.sum() ** 2


@wrong("size-scale").each
def assumes_weights_sum_to_their_number():
    return ratio, lambda w: len(w) ** 2 / (w**2).sum()


@wrong("size-scale").each
def sum_of_the_weights():
    return ratio, np.sum


@wrong("size-zero-rows").each
def number_of_rows():
    return ratio, len


@wrong("size-zero-rows").each
def variance_around_the_mean():
    return ratio, lambda w: len(w) / (1 + w.std() / w.mean())


@wrong("size-single").each
def counts_from_zero():
    return ratio, lambda w: size(w) - (1 if (w > 0).sum() == 1 else 0)


@wrong("size-mismatch").each
def number_of_positive_weights():
    return ratio, np.count_nonzero


@wrong("size-mismatch").each
def sum_over_the_largest():
    return ratio, lambda w: w.sum() / w.max()


@wrong("size-mismatch").each
def entropy():
    return ratio, lambda w: np.exp(special.entr(w / w.sum()).sum())


@wrong("not-scalar").each
def one_size_per_row():
    return ratio, lambda w: w.sum() ** 2 / w**2 if (w > 0).all() else w


@wrong("returned-none").each
def forgets_return():
    def effective(w):
        value = size(w)

    return ratio, effective


# ---------------------------------------------------------------- ひな形のまま、借り物


def blank(*_):
    raise NotImplementedError("ここを実装してください")


@untouched.each
def both_raise():
    return blank, blank


@untouched.each
def weights_left_blank():
    return blank, size


@borrower.each
def borrows_the_size():
    return ratio, lambda w: tlkit.adapt.importance.effective_sample_size(w)


@borrower.each
def borrows_the_weights():
    def weights(p, n, m):
        rows = np.random.default_rng(0).normal(size=(max(len(p), 20), 2))
        return tlkit.adapt.importance.importance_weights(rows, rows, seed=0).numpy()[: len(p)]

    return weights, size


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
