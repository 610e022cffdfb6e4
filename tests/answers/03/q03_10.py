"""演習 03-10（二つのローダーを組にする）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import itertools
import random

from answer_kit import borrower, right, untouched, wrong

# ---------------------------------------------------------------- 正しい答え


def refuse_empty(source, target):
    for name, loader in (("source", source), ("target", target)):
        if len(loader) == 0:
            raise ValueError(f"{name} のローダーが空です。")


def forever(loader):
    while True:
        yield from loader


@right
def islice_of_two_forevers(source, target):
    refuse_empty(source, target)
    return itertools.islice(zip(forever(source), forever(target)), max(len(source), len(target)))


@right
def catches_stop_iteration(source, target):
    """ジェネレータなので、ValueError は最初の組を取り出すときに出る。"""
    refuse_empty(source, target)
    sources, targets = iter(source), iter(target)
    for _ in range(max(len(source), len(target))):
        try:
            s = next(sources)
        except StopIteration:
            sources = iter(source)
            s = next(sources)
        try:
            t = next(targets)
        except StopIteration:
            targets = iter(target)
            t = next(targets)
        yield s, t


@right
def chain_of_repeats(source, target):
    refuse_empty(source, target)
    endless = [itertools.chain.from_iterable(itertools.repeat(loader)) for loader in (source, target)]
    return ([next(side) for side in endless] for _ in range(max(len(source), len(target))))


class Paired:
    """読む側が短いほうを引き直すクラス。"""

    def __init__(self, source, target):
        if not (len(source) and len(target)):
            raise ValueError("空のローダーがあります。")
        self.loaders = source, target

    def __len__(self):
        return max(map(len, self.loaders))

    def __iter__(self):
        source, target = self.loaders
        if len(source) < len(target):
            short = iter(())
            for t in target:
                s = next(short, None)
                if s is None:
                    short = iter(source)
                    s = next(short)
                yield s, t
        else:
            short = iter(())
            for s in source:
                t = next(short, None)
                if t is None:
                    short = iter(target)
                    t = next(short)
                yield s, t


@right
def class_with_iter(source, target):
    return Paired(source, target)


class EmptyLoaderError(ValueError):
    pass


@right
def counts_down(source, target):
    """残りの数を数え、0 になったら引き直す。ValueError を継いだ例外を出す。"""
    if min(len(source), len(target)) < 1:
        raise EmptyLoaderError
    state = {}

    def draw(loader):
        if not state.get(id(loader), (0, None))[0]:
            state[id(loader)] = len(loader), iter(loader)
        left, batches = state[id(loader)]
        state[id(loader)] = left - 1, batches
        return next(batches)

    for _ in range(max(len(source), len(target))):
        yield draw(source), draw(target)


# ---------------------------------------------------------------- 組の数の誤り


@wrong("truncated")
def plain_zip(source, target):
    refuse_empty(source, target)
    return zip(source, target)


@wrong("truncated")
def forever_but_min(source, target):
    refuse_empty(source, target)
    return itertools.islice(zip(forever(source), forever(target)), min(len(source), len(target)))


@wrong("source-not-restarted")
def loops_over_the_source(source, target):
    refuse_empty(source, target)
    return zip(source, forever(target))


@wrong("target-not-restarted")
def loops_over_the_target(source, target):
    refuse_empty(source, target)
    targets = iter(target)
    return ((s, t) for t, s in zip(targets, forever(source)))


@wrong("source-not-restarted")
def cycles_the_target_only(source, target):
    refuse_empty(source, target)
    return zip(source, itertools.cycle(target))


@wrong("endless")
def never_stops(source, target):
    refuse_empty(source, target)
    return zip(forever(source), forever(target))


@wrong("pair-count")
def drops_the_last_pair(source, target):
    refuse_empty(source, target)
    return itertools.islice(zip(forever(source), forever(target)), max(len(source), len(target)) - 1)


@wrong("pair-count")
def sum_of_lengths_over_two(source, target):
    refuse_empty(source, target)
    count = max(len(source), len(target), (len(source) + len(target) + 2) // 2)
    return itertools.islice(zip(forever(source), forever(target)), count)


@wrong("ran-out")
def forgets_to_restart(source, target):
    refuse_empty(source, target)
    sources, targets = iter(source), iter(target)
    for _ in range(max(len(source), len(target))):
        yield next(sources), next(targets)


# ---------------------------------------------------------------- 引き直し方の誤り


@wrong("same-batches")
def cycles_the_shorter(source, target):
    refuse_empty(source, target)
    if len(source) < len(target):
        return ((s, t) for t, s in zip(target, itertools.cycle(source)))
    return zip(source, itertools.cycle(target))


@wrong("read-ahead")
def caches_both_in_lists(source, target):
    refuse_empty(source, target)
    sources, targets = list(source), list(target)
    return [(sources[k % len(sources)], targets[k % len(targets)]) for k in range(max(len(sources), len(targets)))]


@wrong("read-ahead")
def shuffles_a_cached_list(source, target):
    refuse_empty(source, target)
    kept = [list(source), list(target)]
    for k in range(max(len(source), len(target))):
        for batches in kept:
            if k % len(batches) == 0:
                random.shuffle(batches)
        yield tuple(batches[k % len(batches)] for batches in kept)


@wrong("longer-restarted")
def restarts_both(source, target):
    refuse_empty(source, target)
    pairs = itertools.chain.from_iterable(zip(source, target) for _ in itertools.count())
    return itertools.islice(pairs, max(len(source), len(target)))


@wrong("first-batch-only")
def new_iterator_at_every_step(source, target):
    refuse_empty(source, target)
    if len(source) < len(target):
        return ((next(iter(source)), t) for t in target)
    return ((s, next(iter(target))) for s in source)


@wrong("round-cut")
def restarts_one_too_early(source, target):
    refuse_empty(source, target)

    def draw(loader, most):
        while True:
            yield from itertools.islice(loader, max(1, len(loader) - 1) if len(loader) < most else None)

    most = max(len(source), len(target))
    return itertools.islice(zip(draw(source, most), draw(target, most)), most)


# ---------------------------------------------------------------- 余分な読み込み、順


@wrong("extra-batch")
def zip_notices_too_late(source, target):
    refuse_empty(source, target)
    if len(source) < len(target):
        return zip(forever(source), target)
    return ((s, t) for t, s in zip(forever(target), source))


@wrong("extra-batch")
def peeks_for_emptiness(source, target):
    if next(iter(source), None) is None or next(iter(target), None) is None:
        raise ValueError("空のローダーがあります。")
    return islice_of_two_forevers(source, target)


@wrong("order")
def swaps_neighbours(source, target):
    refuse_empty(source, target)
    held = []
    for pair in islice_of_two_forevers(source, target):
        held.insert(0, pair)
        if len(held) == 2:
            yield held.pop(0)
    yield from held


# ---------------------------------------------------------------- 組の形の誤り


@wrong("changed-batch")
def takes_the_images_only(source, target):
    refuse_empty(source, target)
    return ((x, t) for (x, _), t in islice_of_two_forevers(source, target))


@wrong("changed-batch")
def copies_the_target(source, target):
    return ((s, t.clone()) for s, t in islice_of_two_forevers(source, target))


@wrong("not-pair")
def flattens(source, target):
    return ((x, y, t) for (x, y), t in islice_of_two_forevers(source, target))


@wrong("swapped")
def swaps_when_the_target_is_longer(source, target):
    refuse_empty(source, target)
    if len(source) < len(target):
        return swaps_when_the_target_is_longer(target, source)
    return zip(source, forever(target))


@wrong("not-iterable")
def returns_the_count(source, target):
    refuse_empty(source, target)
    return max(len(source), len(target))


@wrong("returned-none")
def forgets_return(source, target):
    islice_of_two_forevers(source, target)


# ---------------------------------------------------------------- 空のローダー


@wrong("empty-endless")
def does_not_look_for_empty(source, target):
    return itertools.islice(zip(forever(source), forever(target)), max(len(source), len(target)))


@wrong("empty-silent")
def stops_quietly(source, target):
    if len(source) and len(target):
        yield from islice_of_two_forevers(source, target)


@wrong("empty-silent")
def looks_at_the_target_only(source, target):
    if len(target) == 0:
        raise ValueError("ターゲットが空です。")
    if len(source) == 0:
        return iter(())
    return islice_of_two_forevers(source, target)


@wrong("empty-error")
def asserts(source, target):
    assert len(source) > 0
    assert len(target) > 0
    return islice_of_two_forevers(source, target)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(source, target):
    raise NotImplementedError("ここを実装してください")


@untouched
def leaves_a_blank(source, target):
    count = ...
    return itertools.islice(zip(source, target), count + 0)


@borrower
def calls_the_library(source, target):
    from tlkit.adapt import PairLoader

    return iter(PairLoader(source, target))


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "max(len(source), len(target)) → max(len(target), len(source))": "最大は、引数の順によらない",
}
