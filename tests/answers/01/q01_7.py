"""演習 01-7（転移元を選ぶ: 順位の一致）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import random

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong
from scipy import stats

import tlkit.stats
from tlkit.stats import mean_ci

# ---------------------------------------------------------------- 正しい答え


def rho_of(a, b):
    """順位相関。定義できなければ None。何千回も呼ぶので、SciPy を使わずに速く求める。"""
    x, y = (np.sign(values[:, None] - values).sum(1) for values in (a, b))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else None


def rho_of_scipy(a, b):
    return None if np.ptp(a) == 0 or np.ptp(b) == 0 else float(stats.spearmanr(a, b).statistic)


def drawn(scores, accuracies, seed, resamples, statistic=rho_of):
    rng = np.random.default_rng(seed)
    n = len(scores)
    values = [statistic(scores[rows], accuracies[rows]) for rows in rng.integers(n, size=(resamples, n))]
    return [value for value in values if value is not None]


@right
def with_scipy_in_a_loop(scores, accuracies, seed, resamples=2000):
    low, high = np.percentile(drawn(scores, accuracies, seed, resamples, rho_of_scipy), [2.5, 97.5])
    return rho_of_scipy(scores, accuracies), low, high, 1.96 / np.sqrt(len(scores) - 1)


@right
def in_a_plain_loop(scores, accuracies, seed, resamples=2000):
    low, high = np.percentile(drawn(scores, accuracies, seed, resamples), [2.5, 97.5])
    return rho_of(scores, accuracies), low, high, 1.96 / np.sqrt(len(scores) - 1)


@right
def vectorised_with_torch(scores, accuracies, seed, resamples=2000):
    """順位を、自分より小さい数と大きい数の個数から求める。"""
    a, b = torch.as_tensor(scores), torch.as_tensor(accuracies)
    n = len(a)
    g = torch.Generator().manual_seed(seed)
    rows = torch.randint(n, (resamples, n), generator=g)

    def spearman(x, y):
        x, y = (torch.sign(z[:, :, None] - z[:, None]).sum(2) for z in (x, y))
        scale = (x.square().sum(1) * y.square().sum(1)).sqrt()
        return ((x * y).sum(1) / scale)[scale > 0]

    draws = spearman(a[rows], b[rows])
    ends = torch.quantile(draws, torch.tensor([0.025, 0.975], dtype=draws.dtype))
    return [spearman(a[None], b[None]).item(), *ends.tolist(), 1.959964 / (n - 1) ** 0.5]


@right
def redraws_until_defined_and_sorts(scores, accuracies, seed, resamples=2000):
    """退化した引き直しはやり直す。分位点は、並べた値の番目から取る。"""
    rng = random.Random(seed)
    n = len(scores)
    values = []
    while len(values) < resamples:
        rows = [rng.randrange(n) for _ in range(n)]
        value = rho_of(scores[rows], accuracies[rows])
        values += [] if value is None else [value]
    values.sort()
    last = resamples - 1
    ends = values[int(0.025 * last)], values[-1 - int(0.025 * last)]
    return np.array([rho_of(scores, accuracies), *ends, 1.96 / (n - 1) ** 0.5])


# ---------------------------------------------------------------- 順位相関の誤り


def with_statistic(statistic):
    def answer(scores, accuracies, seed, resamples=2000):
        low, high = np.percentile(drawn(scores, accuracies, seed, resamples, statistic), [2.5, 97.5])
        return statistic(scores, accuracies), low, high, 1.96 / np.sqrt(len(scores) - 1)

    return answer


def defined(statistic):
    return lambda a, b: None if np.ptp(a) == 0 or np.ptp(b) == 0 else float(statistic(a, b))


@wrong("not-rank").each
def pearson():
    return with_statistic(defined(lambda a, b: np.corrcoef(a, b)[0, 1]))


@wrong("not-spearman").each
def kendall():
    return with_statistic(defined(lambda a, b: stats.kendalltau(a, b).statistic))


@wrong("sign").each
def ranks_one_side_from_the_top():
    return with_statistic(defined(lambda a, b: rho_of(-a, b)))


@wrong("ties-by-position").each
def ranks_by_argsort():
    def ranks(values):
        return values.argsort(kind="stable").argsort(kind="stable")

    return with_statistic(defined(lambda a, b: np.corrcoef(ranks(a), ranks(b))[0, 1]))


@wrong("ties-formula").each
def formula_without_ties():
    def statistic(a, b):
        n = len(a)
        return 1 - 6 * np.sum((stats.rankdata(a) - stats.rankdata(b)) ** 2) / (n * (n**2 - 1))

    return with_statistic(defined(statistic))


@wrong("ties-formula").each
def smallest_rank_for_ties():
    def statistic(a, b):
        return np.corrcoef(stats.rankdata(a, method="min"), stats.rankdata(b, method="min"))[0, 1]

    return with_statistic(defined(statistic))


# ---------------------------------------------------------------- 引き直しの誤り


def with_draws(make, ends=(2.5, 97.5), percentile=np.percentile):
    """引き直した ρ の作り方と分位点だけを差し替えた答え。"""

    def answer(scores, accuracies, seed, resamples=2000):
        values = make(scores, accuracies, np.random.default_rng(seed), resamples)
        low, high = percentile([value for value in values if value is not None], ends)
        return rho_of(scores, accuracies), low, high, 1.96 / np.sqrt(len(scores) - 1)

    return answer


def bootstrap(a, b, rng, resamples):
    n = len(a)
    return [rho_of(a[rows], b[rows]) for rows in rng.integers(n, size=(resamples, n))]


@wrong("pairs-broken").each
def draws_the_two_sides_apart():
    def make(a, b, rng, resamples):
        n = len(a)
        return [rho_of(a[rng.integers(n, size=n)], b[rng.integers(n, size=n)]) for _ in range(resamples)] + [0.0]

    return with_draws(make)


@wrong("pairs-broken").each
def permutes_one_side():
    return with_draws(lambda a, b, rng, resamples: [rho_of(a, rng.permutation(b)) for _ in range(resamples)])


@wrong("without-replacement").each
def draws_without_replacement():
    def make(a, b, rng, resamples):
        orders = [rng.permutation(len(a)) for _ in range(resamples)]
        return [rho_of(a[rows], b[rows]) for rows in orders]

    return with_draws(make)


@wrong("not-reranked").each
def ranks_only_once():
    def make(a, b, rng, resamples):
        x, y = stats.rankdata(a), stats.rankdata(b)
        rows = rng.integers(len(a), size=(resamples, len(a)))
        return [defined(lambda p, q: np.corrcoef(p, q)[0, 1])(x[r], y[r]) for r in rows]

    return with_draws(make)


@wrong("not-reranked").each
def draws_one_more():
    def make(a, b, rng, resamples):
        return [rho_of(a[r], b[r]) for r in rng.integers(len(a), size=(resamples, len(a) + 1))]

    return with_draws(make)


@wrong("nan-interval").each
def keeps_the_undefined_ones():
    def make(a, b, rng, resamples):
        return [np.nan if value is None else value for value in bootstrap(a, b, rng, resamples)]

    return with_draws(make)


@wrong("degenerate-counted").each
def undefined_counts_as_zero():
    return with_draws(lambda a, b, rng, resamples: [value or 0.0 for value in bootstrap(a, b, rng, resamples)])


def by_position(share):
    """並べた値の番目から端を取る。"""

    def percentile(values, ends):
        cut = int(share * (len(values) - 1))
        return sorted(values)[cut], sorted(values)[-1 - cut]

    return percentile


@wrong("percentile").each
def ninety_percent():
    return with_draws(bootstrap, (5, 95))


@wrong("percentile").each
def ninety_nine_percent():
    return with_draws(bootstrap, (0.5, 99.5))


@wrong("percentile").each
def quantiles_given_as_fractions():
    return with_draws(bootstrap, (0.025, 0.975))


@wrong("level-wide").each
def smallest_and_largest():
    return with_draws(bootstrap, percentile=by_position(0))


@wrong("level-narrow").each
def eighty_percent_by_position():
    return with_draws(bootstrap, percentile=by_position(0.1))


@wrong("ends-swapped").each
def upper_end_first():
    return with_draws(bootstrap, (97.5, 2.5))


@wrong("outside-range")
def normal_approximation(scores, accuracies, seed, resamples=2000):
    values = drawn(scores, accuracies, seed, resamples)
    rho, half = rho_of(scores, accuracies), 1.96 * np.std(values)
    return rho, rho - half, rho + half, 1.96 / np.sqrt(len(scores) - 1)


@wrong("resamples-ignored")
def always_a_hundred(scores, accuracies, seed, resamples=2000):
    return in_a_plain_loop(scores, accuracies, seed, 100)


@wrong("seed-ignored")
def fixed_seed(scores, accuracies, seed, resamples=2000):
    return in_a_plain_loop(scores, accuracies, 0, resamples)


@wrong("not-reproducible")
def unseeded_generator(scores, accuracies, seed, resamples=2000):
    return in_a_plain_loop(scores, accuracies, None, resamples)


@wrong("shared-random")
def seeds_the_shared_numpy(scores, accuracies, seed, resamples=2000):
    np.random.seed(seed)
    n = len(scores)
    values = [rho_of(scores[r], accuracies[r]) for r in np.random.randint(n, size=(resamples, n))]
    low, high = np.percentile([value for value in values if value is not None], [2.5, 97.5])
    return rho_of(scores, accuracies), low, high, 1.96 / np.sqrt(n - 1)


# ---------------------------------------------------------------- 帰無分布と返り値の誤り


def with_null(null):
    def answer(scores, accuracies, seed, resamples=2000):
        *front, _ = in_a_plain_loop(scores, accuracies, seed, resamples)
        return (*front, float(null(scores, accuracies, seed)))

    return answer


@wrong("null-count").each
def root_of_n():
    return with_null(lambda a, b, seed: 1.96 / np.sqrt(len(a)))


@wrong("null-count").each
def forgets_the_root():
    return with_null(lambda a, b, seed: 1.96 / (len(a) - 1))


@wrong("null-scale").each
def one_standard_deviation():
    return with_null(lambda a, b, seed: 1 / np.sqrt(len(a) - 1))


@wrong("null-scale").each
def full_width():
    return with_null(lambda a, b, seed: 2 * 1.96 / np.sqrt(len(a) - 1))


@wrong("null-varies").each
def simulates_the_null():
    def null(a, b, seed):
        rng = np.random.default_rng(seed)
        return np.quantile([abs(rho_of(a, rng.permutation(b))) for _ in range(200)], 0.95)

    return with_null(null)


@wrong("not-four-numbers")
def returns_a_dict(scores, accuracies, seed, resamples=2000):
    names = ("rho", "low", "high", "null")
    return dict(zip(names, in_a_plain_loop(scores, accuracies, seed, resamples)))


@wrong("not-four-numbers")
def nests_the_interval(scores, accuracies, seed, resamples=2000):
    rho, low, high, null = in_a_plain_loop(scores, accuracies, seed, resamples)
    return rho, (low, high), null


@wrong("argument-changed")
def sorts_in_place(scores, accuracies, seed, resamples=2000):
    order = scores.argsort()[::-1]
    scores[:], accuracies[:] = scores[order], accuracies[order]
    return in_a_plain_loop(scores, accuracies, seed, resamples)


@wrong("returned-none")
def forgets_return(scores, accuracies, seed, resamples=2000):
    in_a_plain_loop(scores, accuracies, seed, resamples)


@wrong("raised")
def misspelt_name(scores, accuracies, seed, resamples=2000):
    return rho_of(scores, accuracy), 0, 0, 0  # noqa: F821


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(scores, accuracies, seed, resamples=2000):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(scores, accuracies, seed, resamples=2000):
    draws = ...
    return float(draws)


@borrower
def calls_mean_ci(scores, accuracies, seed, resamples=2000):
    mean, half = mean_ci(drawn(scores, accuracies, seed, resamples))
    return mean, mean - half, mean + half, 1.96 / np.sqrt(len(scores) - 1)


@borrower
def calls_it_by_its_full_name(scores, accuracies, seed, resamples=2000):
    tlkit.stats.mean_ci(scores)
    return in_a_plain_loop(scores, accuracies, seed, resamples)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {"scores → accuracies": "二つの配列の長さは等しいので、nは変わらない"}
