"""演習 08-5（プロトタイプまでの距離のロジット）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong

from tlkit.fewshot import prototypes
from tlkit.fewshot import prototypical_logits as library_logits

# ---------------------------------------------------------------- 共通の部品


def refuse(support_y):
    ways = int(support_y.max()) + 1
    if len(support_y.unique()) != ways:
        raise ValueError("サポートのないクラスがあります。")
    return ways


def per_class(support, support_y, ways, merge=lambda rows: rows.mean(0)):
    return torch.stack([merge(support[support_y == k]) for k in range(ways)])


def squared(query, points):
    return (query[:, None] - points).square().sum(-1)


def varied(check=refuse, points=per_class, finish=lambda query, centres: -squared(query, centres)):
    """一部だけを変えた答え。"""

    def answer(support, support_y, query):
        return finish(query, points(support, support_y, check(support_y)))

    return answer


good = varied()

# ---------------------------------------------------------------- 正しい答え


@right
def multiplies_by_one_hot(support, support_y, query):
    """one-hot の行列で平均し、二乗を展開する。"""
    hot = F.one_hot(support_y).to(support.dtype)
    counts = hot.sum(0)
    if (counts == 0).any():
        raise ValueError("クラスのサポートが 0 枚です。")
    c = (hot / counts).T @ support
    return 2 * query @ c.T - c.square().sum(1) - query.square().sum(1, keepdim=True)


@right
def adds_by_index(support, support_y, query):
    """番号で足しこみ、一つずつの距離を積む。"""
    counts = torch.bincount(support_y)
    if counts.min() == 0:
        raise ValueError(f"クラス {int(counts.argmin())} のサポートがありません。")
    c = support.new_zeros(len(counts), support.shape[1]).index_add(0, support_y, support) / counts[:, None]
    return torch.stack([-((query - point) ** 2).sum(dim=1) for point in c], dim=1)


@right
def asks_cdist(support, support_y, query):
    """並べ替えてから分け、torch.cdist の距離を 2 乗する。0 での勾配は cdist が 0 とする。"""
    counts = support_y.bincount()
    if not counts.all():
        raise ValueError("足りないクラスがあります。")
    parts = support[support_y.argsort()].split(counts.tolist())
    c = torch.stack([part.mean(0) for part in parts])
    return -torch.cdist(query, c, compute_mode="donot_use_mm_for_euclid_dist").pow(2)


@right
def loops_over_queries(support, support_y, query):
    ways = refuse(support_y)
    c = [
        sum(s for s, y in zip(support, support_y, strict=True) if y == k) / (support_y == k).sum() for k in range(ways)
    ]
    return torch.stack([torch.stack([-((q - point) @ (q - point)) for point in c]) for q in query])


# ---------------------------------------------------------------- 距離


@wrong("sign").each
def keeps_the_distance_positive():
    return varied(finish=squared)


@wrong("not-squared").each
def forgets_to_square():
    return varied(finish=lambda q, c: -squared(q, c).sqrt())


@wrong("dimension-mean").each
def averages_the_dimensions():
    return varied(finish=lambda q, c: -(q[:, None] - c).square().mean(-1))


@wrong("factor").each
def halves_like_a_gaussian():
    return varied(finish=lambda q, c: -squared(q, c) / 2)


@wrong("query-constant").each
def keeps_only_the_linear_classifier():
    return varied(finish=lambda q, c: 2 * q @ c.T - c.square().sum(1))


@wrong("query-constant").each
def subtracts_the_largest():
    def finish(q, c):
        found = -squared(q, c)
        return found - found.max(1, keepdim=True).values

    return varied(finish=finish)


@wrong("softmaxed").each
def returns_log_probabilities():
    return varied(finish=lambda q, c: (-squared(q, c)).log_softmax(1))


@wrong("softmaxed").each
def returns_probabilities():
    return varied(finish=lambda q, c: (-squared(q, c)).softmax(1))


@wrong("distance").each
def uses_the_cosine():
    return varied(finish=lambda q, c: F.cosine_similarity(q[:, None], c, dim=-1))


@wrong("distance").each
def uses_the_inner_product():
    return varied(finish=lambda q, c: q @ c.T)


@wrong("distance").each
def adds_absolute_values():
    return varied(finish=lambda q, c: -(q[:, None] - c).abs().sum(-1))


@wrong("precision").each
def computes_in_float32():
    return varied(finish=lambda q, c: -squared(q.float(), c.float()).to(q.dtype))


@wrong("not-finite").each
def divides_by_the_spread():
    return varied(finish=lambda q, c: -squared(q, c) / c[:1].std(0).mean())


@wrong("queries-mixed").each
def centres_the_queries():
    """クエリの平均を、サポートの平均に合わせる。"""
    return varied(finish=lambda q, c: -squared(q - q.mean(0) + c.mean(0), c))


# ---------------------------------------------------------------- プロトタイプ


@wrong("not-mean").each
def takes_the_median():
    return varied(points=lambda s, y, ways: per_class(s, y, ways, lambda rows: rows.median(0).values))


@wrong("summed").each
def forgets_to_divide():
    return varied(points=lambda s, y, ways: per_class(s, y, ways, lambda rows: rows.sum(0)))


@wrong("one-row").each
def takes_the_first_row():
    return varied(points=lambda s, y, ways: per_class(s, y, ways, lambda rows: rows[0]))


@wrong("same-count").each
def divides_by_the_average_count():
    return varied(points=lambda s, y, ways: per_class(s, y, ways, lambda rows: rows.sum(0)) * ways / len(y))


@wrong("unequal-shots").each
def uses_the_two_first_rows():
    return varied(points=lambda s, y, ways: per_class(s, y, ways, lambda rows: rows[:2].mean(0)))


@wrong("unequal-shots").each
def averages_the_extremes():
    return varied(points=lambda s, y, ways: per_class(s, y, ways, lambda rows: (rows.amax(0) + rows.amin(0)) / 2))


@wrong("raised").each
def reshapes_into_classes():
    """どのクラスも同じ枚数で、クラスの順に並ぶとみなす。"""
    return varied(points=lambda s, y, ways: s.reshape(ways, -1, s.shape[1]).mean(1))


@wrong("order-assumed").each
def cuts_into_equal_parts():
    return varied(points=lambda s, y, ways: torch.stack([part.mean(0) for part in s.tensor_split(ways)]))


@wrong("class-order").each
def keeps_the_order_of_appearance():
    def points(s, y, ways):
        return torch.stack([s[y == k].mean(0) for k in dict.fromkeys(y.tolist())])

    return varied(points=points)


@wrong("averaged-distances")
def averages_the_distances(support, support_y, query):
    ways, found = refuse(support_y), -squared(query, support)
    return torch.stack([found[:, support_y == k].mean(1) for k in range(ways)], dim=1)


@wrong("not-one-point")
def takes_the_nearest_row(support, support_y, query):
    ways, found = refuse(support_y), -squared(query, support)
    return torch.stack([found[:, support_y == k].amax(1) for k in range(ways)], dim=1)


# ---------------------------------------------------------------- 足りないクラス


@wrong("empty-accepted").each
def lets_the_mean_of_nothing_pass():
    return varied(check=lambda y: int(y.max()) + 1)


@wrong("empty-accepted")
def closes_the_gap(support, support_y, query):
    classes, packed = support_y.unique(return_inverse=True)
    return -squared(query, per_class(support, packed, len(classes)))


@wrong("empty-accepted")
def counts_from_the_smallest(support, support_y, query):
    if len(support_y.unique()) != int(support_y.max() - support_y.min()) + 1:
        raise ValueError("番号が続いていません。")
    return good(support, support_y - support_y.min(), query)


@wrong("empty-type").each
def asserts_instead():
    def check(y):
        assert (y.bincount() > 0).all(), "サポートのないクラスがあります。"
        return int(y.max()) + 1

    return varied(check=check)


@wrong("error-language").each
def refuses_in_english():
    def check(y):
        if (y.bincount() == 0).any():
            raise ValueError("empty class")
        return int(y.max()) + 1

    return varied(check=check)


@wrong("raised").each
def demands_equal_shots():
    def check(y):
        if len(y.bincount().unique()) > 1:
            raise ValueError("枚数がそろっていません。")
        return int(y.max()) + 1

    return varied(check=check)


# ---------------------------------------------------------------- 勾配


@wrong("support-cut").each
def detaches_the_prototypes():
    return varied(finish=lambda q, c: -squared(q, c.detach()))


@wrong("query-cut").each
def detaches_the_queries():
    return varied(finish=lambda q, c: -squared(q.detach(), c))


@wrong("support-cut")
def works_without_gradients(support, support_y, query):
    with torch.no_grad():
        return good(support, support_y, query)


@wrong("gradient-not-finite").each
def squares_a_square_root():
    return varied(finish=lambda q, c: -(squared(q, c).sqrt() ** 2))


@wrong("gradient-mismatch").each
def detaches_one_term():
    return varied(finish=lambda q, c: 2 * q @ c.T - c.square().sum(1).detach() - q.square().sum(1, keepdim=True))


# ---------------------------------------------------------------- 返り値


@wrong("shape").each
def returns_the_transpose():
    return varied(finish=lambda q, c: -squared(c, q))


@wrong("shape").each
def squeezes_the_result():
    return varied(finish=lambda q, c: -squared(q, c).squeeze())


@wrong("shape").each
def returns_the_class():
    return varied(finish=lambda q, c: squared(q, c).argmin(1))


@wrong("dtype-changed").each
def always_returns_float64():
    return varied(finish=lambda q, c: -squared(q.double(), c.double()))


@wrong("not-tensor").each
def returns_a_list():
    return varied(finish=lambda q, c: (-squared(q, c)).tolist())


@wrong("argument-changed")
def shifts_in_place(support, support_y, query):
    support -= support.mean(0)
    return good(support, support_y, query)


@wrong("returned-none")
def forgets_return(support, support_y, query):
    good(support, support_y, query)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(support, support_y, query):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(support, support_y, query):
    points = ...
    return points[0]


@borrower
def borrows_the_library(support, support_y, query):
    refuse(support_y)
    return library_logits(query, prototypes(support, support_y))


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "query[:, None] - centres → centres - query[:, None]": "差の符号は、二乗すると同じになる",
}
