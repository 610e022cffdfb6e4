"""演習 01-5（並び順に頼る点数を見つける）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import random

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

from tlkit.losses import mmd2
from tlkit.transferability import spearman_mmd_score

# ---------------------------------------------------------------- 正しい答え


@right
def with_numpy_generator(score, source, target, seed, repeats=20):
    rng = np.random.default_rng(seed)
    s0 = float(score(source, target))
    gaps = []
    for _ in range(repeats):
        gaps.append(abs(float(score(source[rng.permutation(len(source))], target)) - s0))
        gaps.append(abs(float(score(source, target[rng.permutation(len(target))])) - s0))
    return max(gaps)


@right
def with_torch_generator_side_by_side(score, source, target, seed, repeats=20):
    """先に source だけ、次に target だけを試す。元の点数は毎回求め直す。"""
    g = torch.Generator().manual_seed(seed)
    worst = torch.zeros(())
    for side in (0, 1):
        for _ in range(repeats):
            pair = [source, target]
            pair[side] = pair[side][torch.randperm(len(pair[side]), generator=g)]
            change = torch.as_tensor(score(*pair)) - torch.as_tensor(score(source, target))
            worst = torch.maximum(worst, change.abs())
    return worst.item()


@right
def with_the_standard_library(score, source, target, seed, repeats=20):
    rng = random.Random(seed)

    def shuffled(z):
        return z[rng.sample(range(len(z)), len(z))]

    values = [score(shuffled(source), target) for _ in range(repeats)]
    values += [score(source, shuffled(target)) for _ in range(repeats)]
    return np.abs(np.array([float(v) for v in values]) - float(score(source, target))).max()


@right
def sorts_random_keys_in_a_forked_generator(score, source, target, seed, repeats=20):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        orders = [(torch.rand(len(source)).argsort(), torch.rand(len(target)).argsort()) for _ in range(repeats)]
    base = float(score(source, target))
    one = max(abs(float(score(source.index_select(0, a), target)) - base) for a, _ in orders)
    return max(one, *(abs(float(score(source, target.index_select(0, b))) - base) for _, b in orders))


# ---------------------------------------------------------------- 並べ替え方の誤り


def with_orders(shuffle_source, shuffle_target):
    """並べ替え方だけを差し替えた答え。"""

    def answer(score, source, target, seed, repeats=20):
        rng = np.random.default_rng(seed)
        s0 = float(score(source, target))
        gaps = []
        for _ in range(repeats):
            gaps.append(abs(float(score(shuffle_source(source, rng), target)) - s0))
            gaps.append(abs(float(score(source, shuffle_target(target, rng))) - s0))
        return max(gaps)

    return answer


def rows(z, rng):
    return z[rng.permutation(len(z))]


def unchanged(z, rng):
    return z


@wrong("features-shuffled").each
def permutes_the_columns():
    def columns(z, rng):
        return z[:, rng.permutation(z.shape[1])]

    return with_orders(columns, columns)


@wrong("values-shuffled").each
def permutes_the_flattened_values():
    def values(z, rng):
        return z.flatten()[rng.permutation(z.numel())].reshape(z.shape)

    return with_orders(values, values)


@wrong("values-shuffled").each
def adds_noise_instead():
    def noisy(z, rng):
        return z + torch.as_tensor(rng.normal(size=z.shape)).to(z)

    return with_orders(noisy, noisy)


@wrong("with-replacement").each
def draws_with_replacement():
    def drawn(z, rng):
        return z[rng.integers(len(z), size=len(z))]

    return with_orders(drawn, drawn)


@wrong("rows-dropped").each
def one_short():
    return with_orders(lambda z, rng: z[rng.permutation(len(z))[1:]], rows)


@wrong("rows-dropped")
def uses_the_order_of_source_for_both(score, source, target, seed, repeats=20):
    rng = np.random.default_rng(seed)
    s0 = float(score(source, target))
    n = min(len(source), len(target))
    gaps = []
    for _ in range(repeats):
        order = rng.permutation(n)
        gaps += [abs(float(score(source[order], target)) - s0), abs(float(score(source, target[order])) - s0)]
    return max(gaps)


@wrong("score-input").each
def hands_over_arrays():
    return with_orders(lambda z, rng: rows(z, rng).numpy(), lambda z, rng: rows(z, rng).numpy())


@wrong("target-not-shuffled").each
def shuffles_source_only():
    return with_orders(rows, unchanged)


@wrong("source-not-shuffled").each
def shuffles_target_only():
    return with_orders(unchanged, rows)


@wrong("not-shuffled").each
def sorts_instead_of_shuffling():
    def in_order(z, rng):
        return z[sorted(rng.permutation(len(z)))]

    return with_orders(in_order, in_order)


@wrong("moved-together")
def moves_both_together(score, source, target, seed, repeats=20):
    rng = np.random.default_rng(seed)
    s0 = float(score(source, target))
    gaps = []
    for _ in range(repeats):
        state = rng.bit_generator.state
        a = source[rng.permutation(len(source))]
        if len(source) == len(target):
            rng.bit_generator.state = state
        b = target[rng.permutation(len(target))]
        gaps.append(abs(float(score(a, b)) - s0))
    return max(gaps)


@wrong("arguments-swapped")
def hands_target_first(score, source, target, seed, repeats=20):
    return with_numpy_generator(lambda s, t: score(t, s), source, target, seed, repeats)


# ---------------------------------------------------------------- 乱数と繰り返しの誤り


@wrong("not-reproducible").each
def ignores_the_seed_and_uses_shared_random():
    return with_orders(lambda z, rng: z[torch.randperm(len(z))], lambda z, rng: z[torch.randperm(len(z))])


@wrong("shared-random")
def seeds_the_shared_generator(score, source, target, seed, repeats=20):
    torch.manual_seed(seed)
    return with_orders(*[lambda z, rng: z[torch.randperm(len(z))]] * 2)(score, source, target, seed, repeats)


@wrong("shared-random")
def seeds_the_shared_numpy(score, source, target, seed, repeats=20):
    np.random.seed(seed)
    return with_orders(*[lambda z, rng: z[np.random.permutation(len(z))]] * 2)(score, source, target, seed, repeats)


@wrong("seed-ignored")
def fixed_seed(score, source, target, seed, repeats=20):
    return with_numpy_generator(score, source, target, 0, repeats)


@wrong("seed-ignored").each
def reverses_the_rows():
    return with_orders(lambda z, rng: z.flip(0), lambda z, rng: z.flip(0))


@wrong("one-shuffle")
def tries_once(score, source, target, seed, repeats=20):
    return with_numpy_generator(score, source, target, seed, 1)


@wrong("same-shuffle")
def makes_the_generator_inside_the_loop(score, source, target, seed, repeats=20):
    return max(with_numpy_generator(score, source, target, seed, 1) for _ in range(repeats))


@wrong("repeats-ignored")
def always_twenty(score, source, target, seed, repeats=20):
    return with_numpy_generator(score, source, target, seed)


@wrong("no-baseline")
def compares_two_shuffles(score, source, target, seed, repeats=20):
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        values.append(float(score(rows(source, rng), target)))
        values.append(float(score(source, rows(target, rng))))
    return max(values) - min(values)


# ---------------------------------------------------------------- 差のまとめ方の誤り


def with_change(change, collect=max):
    def answer(score, source, target, seed, repeats=20):
        rng = np.random.default_rng(seed)
        s0 = float(score(source, target))
        values = []
        for _ in range(repeats):
            values.append(float(score(rows(source, rng), target)))
            values.append(float(score(source, rows(target, rng))))
        return float(collect([change(value, s0) for value in values]))

    return answer


@wrong("signed").each
def forgets_the_absolute_value():
    return with_change(lambda value, s0: s0 - value)


@wrong("signed").each
def signed_the_other_way():
    return with_change(lambda value, s0: value - s0)


@wrong("averaged").each
def takes_the_mean():
    return with_change(lambda value, s0: abs(value - s0), np.mean)


@wrong("not-proportional").each
def squares_the_difference():
    return with_change(lambda value, s0: (value - s0) ** 2)


@wrong("not-proportional").each
def counts_any_change_as_one():
    return with_change(lambda value, s0: abs(value - s0) > 1e-4)


@wrong("shift-dependent").each
def divides_by_the_score():
    return with_change(lambda value, s0: abs(value - s0) / max(abs(s0), 1e-9))


@wrong("order-free").each
def returns_the_score_after_the_shuffle():
    return with_change(lambda value, s0: abs(value))


@wrong("value-mismatch").each
def halves_the_difference():
    return with_change(lambda value, s0: abs(value - s0) / 2)


@wrong("value-mismatch").each
def takes_the_smallest():
    return with_change(lambda value, s0: abs(value - s0), min)


@wrong("not-float").each
def returns_a_tensor():
    return with_change_tensor


def with_change_tensor(score, source, target, seed, repeats=20):
    return torch.tensor(with_numpy_generator(score, source, target, seed, repeats))


@wrong("argument-changed")
def shuffles_in_place(score, source, target, seed, repeats=20):
    rng = np.random.default_rng(seed)
    s0 = float(score(source, target))
    gaps = []
    for _ in range(repeats):
        source[:] = rows(source, rng)
        gaps.append(abs(float(score(source, target)) - s0))
    return max(gaps)


@wrong("returned-none")
def forgets_return(score, source, target, seed, repeats=20):
    with_numpy_generator(score, source, target, seed, repeats)


@wrong("raised")
def misspelt_name(score, source, target, seed, repeats=20):
    return abs(score(source, target) - scor(source, target))  # noqa: F821


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(score, source, target, seed, repeats=20):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(score, source, target, seed, repeats=20):
    gaps = ...
    return gaps


@borrower
def measures_the_naive_score_instead(score, source, target, seed, repeats=20):
    s0 = spearman_mmd_score(source, source)
    return abs(spearman_mmd_score(source, source.flip(0)) - s0)


@borrower
def calls_mmd2_on_the_side(score, source, target, seed, repeats=20):
    mmd2(source, target)
    return with_numpy_generator(score, source, target, seed, repeats)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {"value - original → original - value": "差の符号は絶対値で消える"}
