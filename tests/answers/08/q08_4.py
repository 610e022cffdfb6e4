"""演習 08-4（エピソードを引く）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import random

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

from tlkit.fewshot import ClassSplit, EpisodeSampler

# ---------------------------------------------------------------- 共通の部品


def members(labels, c):
    return (labels == c).nonzero().flatten()


def refuse(pools, ways, need):
    if len(pools) < ways:
        raise ValueError(f"クラスが {len(pools)} 個しかありません。{ways} 個要ります。")
    if min(len(pool) for pool in pools.values()) < need:
        raise ValueError(f"画像が {need} 枚に足りないクラスがあります。")


def shuffle(values, generator):
    return values[torch.randperm(len(values), generator=generator)]


def choose(pools, ways, generator):
    names = list(pools)
    return [names[i] for i in torch.randperm(len(names), generator=generator)[:ways].tolist()]


def split(pool, shots, queries, generator):
    drawn = shuffle(pool, generator)
    return drawn[:shots], drawn[shots : shots + queries]


def numbers(ways, each):
    return torch.arange(ways).repeat_interleave(each)


def pack(sides, ways, shots, queries):
    support, query = (torch.cat(side) for side in zip(*sides, strict=True))
    return support, numbers(ways, shots), query, numbers(ways, queries)


def varied(collect=members, check=refuse, pick=choose, part=split, finish=lambda episode, labels, generator: episode):
    """一部だけを変えた答え。"""

    def answer(labels, classes, *, ways, shots, queries, generator):
        pools = {c: collect(labels, c) for c in classes}
        check(pools, ways, shots + queries)
        chosen = pick(pools, ways, generator)
        sides = [part(pools[c], shots, queries, generator) for c in chosen]
        return finish(pack(sides, ways, shots, queries), labels, generator)

    return answer


good = varied()

# ---------------------------------------------------------------- 正しい答え


@right
def sorts_random_keys(labels, classes, *, ways, shots, queries, generator):
    """乱数の鍵を並べ替えて引く。"""
    classes, need = torch.as_tensor(classes), shots + queries
    counts = (labels[None] == classes[:, None]).sum(1)
    if len(classes) < ways or bool((counts < need).any()):
        raise ValueError("クラスか画像が足りません。")
    chosen = classes[torch.rand(len(classes), generator=generator).argsort()[:ways]]
    keys = torch.rand(len(labels), generator=generator)
    keys = torch.where(labels[None] == chosen[:, None], keys, torch.inf)
    drawn = keys.argsort(dim=1)[:, :need]
    y = torch.arange(ways)[:, None]
    return (
        drawn[:, :shots].flatten(),
        y.expand(ways, shots).flatten(),
        drawn[:, shots:].flatten(),
        y.expand(ways, queries).flatten(),
    )


@right
def through_numpy(labels, classes, *, ways, shots, queries, generator):
    """渡された生成器から NumPy の種を引く。"""
    values = labels.numpy()
    pools = [np.flatnonzero(values == c) for c in classes]
    if len(pools) < ways:
        raise ValueError("クラスの数が足りません。")
    if any(len(pool) < shots + queries for pool in pools):
        raise ValueError("画像の数が足りません。")
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    rows = [rng.choice(pools[i], shots + queries, replace=False) for i in rng.permutation(len(pools))[:ways]]
    table = torch.from_numpy(np.stack(rows))
    parts = table[:, :shots].reshape(-1), table[:, shots:].reshape(-1)
    return parts[0], numbers(ways, shots), parts[1], numbers(ways, queries)


@right
def shuffles_everything_first(labels, classes, *, ways, shots, queries, generator):
    """すべての画像を並べ替えてから、クラスごとに初めから取る。"""
    allowed = [int(c) for c in classes]
    held = {c: [] for c in allowed}
    for i in torch.randperm(len(labels), generator=generator).tolist():
        if int(labels[i]) in held:
            held[int(labels[i])].append(i)
    if ways > len(allowed) or min(map(len, held.values())) < shots + queries:
        raise ValueError("足りないクラスがあるか、クラスの数が足りません。")
    order = torch.randperm(len(allowed), generator=generator).tolist()
    support, sy, query, qy = [], [], [], []
    for k, position in enumerate(order[:ways]):
        images = held[allowed[position]]
        support += images[:shots]
        query += images[shots : shots + queries]
        sy += [k] * shots
        qy += [k] * queries
    return tuple(torch.tensor(part) for part in (support, sy, query, qy))


@right
def multinomial_without_replacement(labels, classes, *, ways, shots, queries, generator):
    refuse({c: members(labels, c) for c in classes}, ways, shots + queries)
    sides = []
    for i in torch.multinomial(torch.ones(len(classes)), ways, generator=generator):
        weights = (labels == classes[int(i)]).double()
        drawn = torch.multinomial(weights, shots + queries, generator=generator)
        sides.append(drawn.split([shots, queries]))
    return list(pack(sides, ways, shots, queries))


# ---------------------------------------------------------------- 漏れ


@wrong("class-leak")
def uses_every_class(labels, classes, *, ways, shots, queries, generator):
    refuse({c: members(labels, c) for c in classes}, ways, shots + queries)
    known = [c for c in labels.unique().tolist() if (labels == c).sum() >= shots + queries]
    return good(labels, known, ways=ways, shots=shots, queries=queries, generator=generator)


@wrong("overlap").each
def draws_twice():
    return varied(part=lambda pool, shots, queries, g: (shuffle(pool, g)[:shots], shuffle(pool, g)[:queries]))


@wrong("overlap").each
def slices_overlap():
    def part(pool, shots, queries, g):
        drawn = shuffle(pool, g)
        return drawn[:shots], drawn[shots - 1 : shots - 1 + queries]

    return varied(part=part)


@wrong("image-repeated").each
def draws_images_with_replacement():
    def part(pool, shots, queries, g):
        half = len(pool) // 2
        mixed = shuffle(pool, g)

        def pick(some, n):
            return some[torch.randint(len(some), (n,), generator=g)]

        return pick(mixed[:half], shots), pick(mixed[half:], queries)

    return varied(part=part)


@wrong("class-repeated").each
def draws_classes_with_replacement():
    def pick(pools, ways, g):
        return [list(pools)[int(i)] for i in torch.randint(len(pools), (ways,), generator=g)]

    return varied(pick=pick)


@wrong("too-many-classes")
def a_class_for_every_image(labels, classes, *, ways, shots, queries, generator):
    """手本の 1 枚ごとに、違うクラスを引く。"""
    pools = {c: members(labels, c) for c in classes}
    refuse(pools, ways, shots + queries)
    chosen = choose(pools, ways * shots, generator)
    drawn = [shuffle(pools[c], generator) for c in chosen]
    query = [drawn[k % len(drawn)][1 + k // len(drawn)] for k in range(ways * queries)]
    support = [drawn[k % len(drawn)][-1 - k // len(drawn)] for k in range(ways * shots)]
    return torch.stack(support), numbers(ways, shots), torch.stack(query), numbers(ways, queries)


@wrong("query-classes")
def draws_other_classes_for_the_query(labels, classes, *, ways, shots, queries, generator):
    sizes = {"ways": ways, "shots": shots, "queries": queries, "generator": generator}
    first, second = good(labels, classes, **sizes), good(labels, classes, **sizes)
    if set(first[0].tolist()) & set(second[2].tolist()):
        other = [c for c in classes if c not in labels[first[0]]]
        if other:
            pool = members(labels, other[0])
            second = (second[0], second[1], torch.cat([pool[:queries], first[2][queries:]]), second[3])
    return first[0], first[1], second[2], second[3]


# ---------------------------------------------------------------- ラベルと並び


@wrong("not-relabelled").each
def keeps_the_class_numbers():
    return varied(finish=lambda e, labels, g: (e[0], labels[e[0]], e[2], labels[e[2]]))


@wrong("not-relabelled").each
def counts_from_one():
    return varied(finish=lambda e, labels, g: (e[0], e[1] + 1, e[2], e[3] + 1))


@wrong("labels-mixed").each
def shuffles_the_images_only():
    return varied(finish=lambda e, labels, g: (e[0], e[1], shuffle(e[2], g), e[3]))


@wrong("labels-mixed")
def repeats_instead_of_interleaving(labels, classes, *, ways, shots, queries, generator):
    e = good(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)
    return e[0], torch.arange(ways).repeat(shots), e[2], torch.arange(ways).repeat(queries)


@wrong("labels-inconsistent").each
def numbers_the_query_by_class_number():
    """クエリだけ、元の番号の小さい順に付け直す。"""

    def finish(e, labels, g):
        y = torch.unique(labels[e[2]], return_inverse=True)[1]
        order = y.argsort(stable=True)
        return e[0], e[1], e[2][order], y[order]

    return varied(finish=finish)


@wrong("labels-inconsistent").each
def relabels_the_query_again():
    def finish(e, labels, g):
        ways = int(e[1].max()) + 1
        return e[0], e[1], e[2].reshape(ways, -1).roll(1, 0).flatten(), e[3]

    return varied(finish=finish)


@wrong("order").each
def shuffles_both():
    def finish(e, labels, g):
        s, q = (torch.randperm(len(part), generator=g) for part in (e[0], e[2]))
        return e[0][s], e[1][s], e[2][q], e[3][q]

    return varied(finish=finish)


@wrong("unbalanced")
def draws_the_query_from_the_rest(labels, classes, *, ways, shots, queries, generator):
    """クラスごとに 1 枚ずつ確保し、残りは区別せずに引く。"""
    e = good(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)
    real = labels[e[0]][::shots]
    rest = torch.isin(labels, real)
    rest[e[0]] = False
    rest[e[2][::queries]] = False
    more = shuffle(rest.nonzero().flatten(), generator)[: ways * (queries - 1)]
    query = torch.cat([e[2][::queries], more])
    y = (labels[query][:, None] == real).long().argmax(1)
    order = y.argsort(stable=True)
    return e[0], e[1], query[order], y[order]


@wrong("class-order").each
def sorts_the_chosen_classes():
    return varied(pick=lambda pools, ways, g: sorted(choose(pools, ways, g)))


@wrong("class-order").each
def keeps_the_given_order():
    def pick(pools, ways, g):
        rows = torch.randperm(len(pools), generator=g)[:ways].sort().values
        return [list(pools)[i] for i in rows.tolist()]

    return varied(pick=pick)


# ---------------------------------------------------------------- 引かれ方


@wrong("class-uneven")
def draws_classes_by_their_images(labels, classes, *, ways, shots, queries, generator):
    """画像を 1 枚引いて、そのクラスを使う。画像の多いクラスほど、選ばれやすい。"""

    def pick(pools, ways, g):
        counts = torch.tensor([len(pool) ** 2 for pool in pools.values()]).double()
        return [list(pools)[int(i)] for i in torch.multinomial(counts, ways, generator=g)]

    return varied(pick=pick)(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)


@wrong("class-uneven").each
def shuffles_the_first_classes_only():
    return varied(pick=lambda pools, ways, g: choose(dict(list(pools.items())[:ways]), ways, g))


@wrong("image-never").each
def takes_the_first_images():
    return varied(part=lambda pool, shots, queries, g: (pool[:shots], pool[shots : shots + queries]))


@wrong("image-never").each
def fixes_the_halves():
    """クラスの画像の前のほうは手本だけ、後ろのほうは問いだけに使う。"""

    def part(pool, shots, queries, g):
        cut = max(shots, len(pool) - queries - 2)
        return shuffle(pool[:cut], g)[:shots], shuffle(pool[cut:], g)[:queries]

    return varied(part=part)


# ---------------------------------------------------------------- 乱数


@wrong("shared-random").each
def forgets_the_generator():
    return varied(part=lambda pool, shots, queries, g: split(pool, shots, queries, None))


@wrong("shared-random").each
def uses_the_standard_library():
    return varied(pick=lambda pools, ways, g: random.sample(list(pools), ways))


@wrong("generator-unused")
def makes_its_own_generator(labels, classes, *, ways, shots, queries, generator):
    own = torch.Generator().manual_seed(0)
    return good(labels, classes, ways=ways, shots=shots, queries=queries, generator=own)


@wrong("generator-unused")
def copies_the_generator(labels, classes, *, ways, shots, queries, generator):
    return good(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator.clone_state())


@wrong("reseeded")
def seeds_every_time(labels, classes, *, ways, shots, queries, generator):
    generator.manual_seed(0)
    return good(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)


@wrong("not-reproducible")
def seeds_from_the_clock(labels, classes, *, ways, shots, queries, generator):
    generator.seed()
    return good(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)


calls = torch.Generator()


@wrong("not-reproducible")
def keeps_a_generator_of_its_own(labels, classes, *, ways, shots, queries, generator):
    torch.rand(1, generator=generator)
    return good(labels, classes, ways=ways, shots=shots, queries=queries, generator=calls)


# ---------------------------------------------------------------- 足りないとき


@wrong("ways-unchecked").each
def shortens_the_episode():
    """足りなければ、黙って小さくする。"""
    return varied(
        check=lambda pools, ways, need: None, pick=lambda pools, ways, g: choose(pools, min(ways, len(pools)), g)
    )


@wrong("images-unchecked")
def checks_the_classes_only(labels, classes, *, ways, shots, queries, generator):
    if len(classes) < ways:
        raise ValueError("クラスの数が足りません。")
    return varied(check=lambda *_: None)(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)


@wrong("one-class-unchecked").each
def checks_what_it_drew():
    def part(pool, shots, queries, g):
        if len(pool) < shots + queries:
            raise ValueError("画像が足りません。")
        return split(pool, shots, queries, g)

    def check(pools, ways, need):
        refuse(pools, ways, 0)

    return varied(check=check, part=part)


@wrong("ways-unchecked-type").each
def fails_by_itself():
    def pick(pools, ways, g):
        names = list(pools)
        order = torch.randperm(len(names), generator=g).tolist()
        return [names[order[k]] for k in range(ways)]

    return varied(check=lambda pools, ways, need: refuse(pools, 0, need), pick=pick)


@wrong("images-unchecked-type").each
def asserts_instead():
    def check(pools, ways, need):
        refuse(pools, ways, 0)
        assert min(len(pool) for pool in pools.values()) >= need, "画像が足りません。"

    return varied(check=check)


@wrong("error-language").each
def refuses_in_english():
    def check(pools, ways, need):
        if len(pools) < ways or min(len(pool) for pool in pools.values()) < need:
            raise ValueError("not enough classes or images")

    return varied(check=check)


@wrong("raised").each
def refuses_the_exact_number():
    return varied(check=lambda pools, ways, need: refuse(pools, ways + 1, need + 1))


@wrong("raised")
def checks_every_class_of_the_data(labels, classes, *, ways, shots, queries, generator):
    refuse({c: members(labels, c) for c in labels.unique().tolist()}, ways, shots + queries)
    return good(labels, classes, ways=ways, shots=shots, queries=queries, generator=generator)


# ---------------------------------------------------------------- 返り値


@wrong("not-four")
def returns_two_pairs(*args, **options):
    e = good(*args, **options)
    return (e[0], e[1]), (e[2], e[3])


@wrong("not-int64").each
def returns_lists():
    return varied(finish=lambda e, labels, g: tuple(part.tolist() for part in e))


@wrong("not-int64").each
def returns_float_labels():
    return varied(finish=lambda e, labels, g: (e[0], e[1].float(), e[2], e[3].float()))


@wrong("shape").each
def returns_a_table():
    return varied(finish=lambda e, labels, g: tuple(part.reshape(int(e[1].max()) + 1, -1) for part in e))


@wrong("shape").each
def takes_one_query_less():
    return varied(part=lambda pool, shots, queries, g: split(pool, shots, max(queries - 1, 1), g))


@wrong("argument-changed")
def relabels_in_place(labels, classes, **options):
    e = good(labels, classes, **options)
    labels[e[0]] = e[1]
    return e


@wrong("returned-none")
def forgets_return(*args, **options):
    good(*args, **options)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(labels, classes, *, ways, shots, queries, generator):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(labels, classes, *, ways, shots, queries, generator):
    pools = ...
    return pools[0], pools[1], pools[2], pools[3]


@borrower
def draws_by_the_library(labels, classes, *, ways, shots, queries, generator):
    split_ = ClassSplit(train=tuple(classes), val=(), test=())
    sampler = EpisodeSampler(
        labels[:, None], labels, split_, "train", ways=ways, shots=shots, queries=queries, episodes=1, seed=0
    )
    draw = sampler.draw(generator)
    return draw.support, draw.support_y, draw.query, draw.query_y


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

BODY = """\
    pools = [torch.nonzero(labels == c).flatten() for c in classes]
    fewest = min(map(len, pools))
    if len(pools) < ways or fewest < need:
        raise ValueError(f'クラスが{len(pools)}個、画像が最少で{fewest}枚です。{ways}個、{need}枚が要ります。')
    support, query = ([], [])
    for i in torch.randperm(len(pools), generator=generator)[:ways]:
        order = torch.randperm(len(pools[i]), generator=generator)
        support.append(pools[i][order[:shots]])
        query.append(pools[i][order[shots:need]])
    numbers = torch.arange(ways)
    support_y, query_y = (numbers.repeat_interleave(shots), numbers.repeat_interleave(queries))
    return (torch.cat(support), support_y, torch.cat(query), query_y)"""

EQUIVALENT = {
    f"with torch.no_grad():\n{BODY} → if True:\n{BODY}": "渡されるラベルは勾配を求めないので、no_grad がなくても同じである",
}
