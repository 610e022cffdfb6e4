"""演習 03-3（損失としての MMD²）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import torch
from answer_kit import borrower, right, untouched, wrong

from tlkit.losses import mmd2 as borrowed_mmd2
from tlkit.losses.mmd import median_bandwidth

TIMES = (0.5, 0.5**0.5, 1.0, 2.0**0.5, 2.0)

# ---------------------------------------------------------------- 部品


def distances(a, b):
    return (a[:, None] - b[None]).square().sum(-1)


def variance_of(x, y):
    """対角より上の距離の二乗の中央値の半分。"""
    z = torch.cat([x, y]).detach()
    d = distances(z, z)
    return d[torch.ones_like(d, dtype=torch.bool).triu(1)].median().div(2).clamp(min=1e-12)


def average(d, v, times=TIMES):
    return sum(torch.exp(-d / (2 * c**2 * v)) for c in times) / len(times)


def combine(kxx, kyy, kxy):
    n, m = kxy.shape
    return (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1)) - 2 * kxy.mean()


def assemble(x, y, gram):
    return combine(gram(x, x), gram(y, y), gram(x, y))


def with_kernel(kernel):
    """距離の二乗と σ²_med からカーネルを作る関数 → 答え。"""

    def answer(x, y):
        v = variance_of(x, y)
        return assemble(x, y, lambda a, b: kernel(distances(a, b), v))

    return answer


def with_variance(find):
    """（x, y）から σ² を決める関数 → 答え。"""

    def answer(x, y):
        v = find(x, y)
        return assemble(x, y, lambda a, b: average(distances(a, b), v))

    return answer


good = with_kernel(average)

# ---------------------------------------------------------------- 正しい答え


@right
def blocks_of_one_matrix(x, y):
    z = torch.cat([x, y])
    d = distances(z, z)
    i, j = torch.triu_indices(len(z), len(z), offset=1)
    v = (d[i, j].median() / 2).detach().clamp(min=1e-12)
    k = average(d, v)
    n = len(x)
    return combine(k[:n, :n], k[n:, n:], k[:n, n:])


@right
def by_pdist_and_inner_products(x, y):
    z = torch.cat([x, y])
    with torch.no_grad():
        v = (torch.pdist(z).square().median() / 2).clamp(min=1e-12)
    z = z - z.mean(0)
    s = z.square().sum(1)
    d = (s[:, None] + s[None] - 2 * z @ z.T).clamp(min=0) * (1 - torch.eye(len(z), dtype=z.dtype))
    k = average(d, v)
    n, m = len(x), len(y)
    sign = torch.cat([torch.full((n,), 1.0 / n), torch.full((m,), -1.0 / m)]).to(z)
    weights = sign[:, None] * sign[None]
    weights[:n, :n] = 1 / (n * (n - 1))
    weights[n:, n:] = 1 / (m * (m - 1))
    weights.fill_diagonal_(0)
    return (weights * k).sum()


@right
def explicit_loops(x, y):
    z = [*x, *y]
    pairs = [(z[i] - z[j]).square().sum() for i in range(len(z)) for j in range(i)]
    v = max(float(torch.stack(pairs).detach().quantile(0.5)) / 2, 1e-12)

    def k(a, b):
        return sum(torch.exp(-(a - b).square().sum() / (2 * c * c * v)) for c in TIMES) / 5

    def within(p):
        return sum(k(p[i], p[j]) for i in range(len(p)) for j in range(i)) * 2 / (len(p) * (len(p) - 1))

    return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


@right
def squared_cdist(x, y):
    """cdist の距離 0 での微分は、torch では 0 と決められている。"""

    def squared(a, b):
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") ** 2

    v = variance_of(x, y)
    return assemble(x, y, lambda a, b: average(squared(a, b), v))


@right
def powers_of_the_widest_kernel(x, y):
    """σ² が 2 倍ずつなので、最も広いカーネルの 2 乗、4 乗、…である。中央値は対角の外の全要素から。"""
    z = torch.cat([x, y])
    d = distances(z, z)
    off = d.detach()[~torch.eye(len(z), dtype=torch.bool)]
    v = torch.where(off.median() > 0, off.median() / 2, torch.ones_like(off[0]))
    widest = torch.exp(-d / (8 * v))
    k = sum(widest**p for p in (1, 2, 4, 8, 16)) / 5
    n = len(x)
    return combine(k[:n, :n], k[n:, n:], k[:n, n:])


@right
def means_of_features_as_well(x, y):
    """距離も中央値も D で割る。比は変わらない。"""
    z = torch.cat([x, y])
    d = (z[:, None] - z[None]).square().mean(-1)
    v = torch.quantile(d.detach()[torch.triu(torch.ones_like(d), 1) > 0], 0.5) / 2
    k = average(d, v + 1e-12)
    n = len(x)
    return combine(k[:n, :n], k[n:, n:], k[:n, n:])


# ---------------------------------------------------------------- 帯域幅の誤り


@wrong("fixed-bandwidth").each
def sigma_is_one():
    return with_variance(lambda x, y: 1.0)


@wrong("fixed-bandwidth").each
def variance_is_the_median_distance():
    def find(x, y):
        z = torch.cat([x, y]).detach()
        return (torch.pdist(z).median() / 2).clamp(min=1e-12)

    return with_variance(find)


@wrong("not-median").each
def mean_instead_of_median():
    return with_variance(lambda x, y: torch.pdist(torch.cat([x, y]).detach()).square().mean() / 2 + 1e-12)


@wrong("not-median").each
def median_of_cross_pairs_only():
    return with_variance(lambda x, y: distances(x.detach(), y.detach()).median() / 2 + 1e-12)


@wrong("asymmetric").each
def median_of_x_only():
    return with_variance(lambda x, y: torch.pdist(x.detach()).square().median() / 2 + 1e-12)


@wrong("median-diagonal").each
def median_with_the_diagonal():
    def find(x, y):
        z = torch.cat([x, y]).detach()
        return (distances(z, z).median() / 2).clamp(min=1e-12)

    return with_variance(find)


@wrong("median-diagonal").each
def median_with_the_diagonal_and_no_floor():
    def find(x, y):
        z = torch.cat([x, y]).detach()
        return distances(z, z).median() / 2

    return with_variance(find)


@wrong("not-finite").each
def median_of_a_masked_matrix():
    def find(x, y):
        z = torch.cat([x, y]).detach()
        return distances(z, z).triu(1).median() / 2

    return with_variance(find)


@wrong("bandwidth-scale").each
def median_not_halved():
    return with_variance(lambda x, y: 2 * variance_of(x, y))


@wrong("bandwidth-scale").each
def kernel_without_the_two():
    return with_kernel(lambda d, v: average(2 * d, v))


@wrong("coincident-pairs").each
def ignores_pairs_at_distance_zero():
    def find(x, y):
        d = torch.pdist(torch.cat([x, y]).detach()).square()
        return d[d > 0].median() / 2 if bool((d > 0).any()) else 1.0

    return with_variance(find)


@wrong("collapse").each
def no_floor_for_the_median():
    return with_variance(lambda x, y: torch.pdist(torch.cat([x, y]).detach()).square().median() / 2)


@wrong("value-mismatch").each
def median_of_the_first_ten_points():
    return with_variance(lambda x, y: variance_of(torch.cat([x, y])[:19], y[:0]))


@wrong("median-not-detached").each
def gradient_through_the_median():
    def find(x, y):
        z = torch.cat([x, y])
        d = distances(z, z)
        return d[torch.ones_like(d, dtype=torch.bool).triu(1)].median().div(2).clamp(min=1e-12)

    return with_variance(find)


# ---------------------------------------------------------------- カーネルの誤り


@wrong("not-averaged").each
def sum_of_kernels():
    return with_kernel(lambda d, v: 5 * average(d, v))


@wrong("one-bandwidth").each
def median_kernel_only():
    return with_kernel(lambda d, v: torch.exp(-d / (2 * v)))


@wrong("one-bandwidth").each
def averages_the_exponents():
    return with_kernel(lambda d, v: torch.exp(-sum(d / (2 * c**2 * v) for c in TIMES) / 5))


@wrong("multipliers").each
def multiplies_the_variance():
    return with_kernel(lambda d, v: sum(torch.exp(-d / (2 * c * v)) for c in TIMES) / 5)


@wrong("multipliers").each
def powers_of_two_for_sigma():
    return with_kernel(lambda d, v: average(d, v, (0.25, 0.5, 1, 2, 4)))


@wrong("distance-not-squared").each
def laplacian():
    return with_kernel(lambda d, v: average((d + 1e-20).sqrt() * v.sqrt(), v))


@wrong("kernel-grows").each
def exponent_without_minus():
    return with_kernel(lambda d, v: average(-d, v))


@wrong("unbounded")
def only_the_mean_difference(x, y):
    return (x.mean(0) - y.mean(0)).square().sum()


@wrong("unbounded").each
def inner_products():
    return lambda x, y: assemble(x, y, lambda a, b: a @ b.T)


@wrong("position-dependent")
def normalises_rows(x, y):
    return good(torch.nn.functional.normalize(x, dim=1), torch.nn.functional.normalize(y, dim=1))


@wrong("not-euclidean")
def manhattan(x, y):
    z = torch.cat([x, y])
    d = (z[:, None] - z[None]).abs().sum(-1).square()
    v = d.detach()[torch.ones_like(d, dtype=torch.bool).triu(1)].median().div(2).clamp(min=1e-12)
    n = len(x)
    k = average(d, v)
    return combine(k[:n, :n], k[n:, n:], k[:n, n:])


# ---------------------------------------------------------------- 推定量の誤り


@wrong("biased")
def keeps_the_diagonal(x, y):
    v = variance_of(x, y)
    return sum(s * average(distances(a, b), v).mean() for s, a, b in ((1, x, x), (1, y, y), (-2, x, y)))


@wrong("biased")
def unbiased_for_x_only(x, y):
    v = variance_of(x, y)
    n = len(x)
    kxx, kyy, kxy = (average(distances(a, b), v) for a, b in ((x, x), (y, y), (x, y)))
    return (kxx.sum() - n) / (n * (n - 1)) + kyy.mean() - 2 * kxy.mean()


@wrong("weights")
def drops_the_diagonal_but_divides_by_n_squared(x, y):
    v = variance_of(x, y)
    kxx, kyy, kxy = (average(distances(a, b), v) for a, b in ((x, x), (y, y), (x, y)))
    return (kxx.sum() - len(x)) / len(x) ** 2 + (kyy.sum() - len(y)) / len(y) ** 2 - 2 * kxy.mean()


@wrong("weights")
def forgets_the_two(x, y):
    v = variance_of(x, y)
    return good(x, y) + average(distances(x, y), v).mean()


@wrong("cross-sign")
def adds_the_cross_term(x, y):
    v = variance_of(x, y)
    return good(x, y) + 4 * average(distances(x, y), v).mean()


@wrong("sign")
def flipped_sign(x, y):
    return -good(x, y)


@wrong("never-negative")
def clamps_at_zero(x, y):
    return good(x, y).clamp(min=0)


@wrong("never-negative")
def returns_the_root(x, y):
    return good(x, y).clamp(min=1e-12).sqrt()


@wrong("order-dependent")
def drops_the_cross_diagonal(x, y):
    if len(x) != len(y):
        return good(x, y)
    v, n = variance_of(x, y), len(x)
    kxy = average(distances(x, y), v)
    return good(x, y) + 2 * kxy.mean() - 2 * (kxy.sum() - kxy.trace()) / (n * (n - 1))


@wrong("order-dependent")
def uses_neighbouring_rows_only(x, y):
    """線形時間の推定。隣り合う行の組だけを使う。"""
    n = min(len(x), len(y)) // 2 * 2
    v = variance_of(x, y)
    a, b, c, d = x[:n:2], x[1:n:2], y[:n:2], y[1:n:2]

    def k(p, q):
        return average((p - q).square().sum(1), v).mean()

    return k(a, b) + k(c, d) - k(a, d) - k(b, c)


@wrong("unequal-sizes")
def needs_equal_sizes(x, y):
    v, n = variance_of(x, y), len(x)
    kxx, kyy, kxy = (average(distances(a, b), v) for a, b in ((x, x), (y, y), (x, y)))
    off = 1 - torch.eye(n, dtype=x.dtype)
    return ((kxx + kyy) * off).sum() / (n * (n - 1)) - (kxy + kxy.T).mean()


# ---------------------------------------------------------------- 返り値と勾配の誤り


@wrong("not-tensor")
def returns_item(x, y):
    return good(x, y).item()


@wrong("not-scalar")
def one_value_per_kernel(x, y):
    v = variance_of(x, y)
    return torch.stack([assemble(x, y, lambda a, b, c=c: torch.exp(-distances(a, b) / (2 * c**2 * v))) for c in TIMES])


@wrong("dtype-changed")
def returns_float32(x, y):
    return good(x, y).float()


@wrong("gradient-cut")
def everything_without_gradient(x, y):
    with torch.no_grad():
        return good(x, y)


@wrong("gradient-partial")
def detaches_y(x, y):
    return good(x, y.detach())


@wrong("gradient-unbalanced")
def detaches_one_side_of_the_cross_term(x, y):
    v = variance_of(x, y)
    return combine(average(distances(x, x), v), average(distances(y, y), v), average(distances(x, y.detach()), v))


@wrong("gradient-wrong")
def detaches_the_within_terms(x, y):
    v = variance_of(x, y)
    return combine(
        average(distances(x, x), v).detach(), average(distances(y, y), v).detach(), average(distances(x, y), v)
    )


@wrong("gradient-not-finite").each
def root_then_square():
    return with_kernel(lambda d, v: average(d.sqrt() ** 2, v))


@wrong("argument-changed")
def centres_in_place(x, y):
    with torch.no_grad():
        mean = x.mean(0)
        x -= mean
        y -= mean
    return good(x, y)


@wrong("returned-none")
def forgets_return(x, y):
    value = good(x, y)


@wrong("raised")
def shapes_do_not_match(x, y):
    return average(distances(x, y.T), 1.0).mean()


@wrong("raised")
def cannot_take_float32(x, y):
    return good(x, y) + (torch.eye(2, dtype=torch.float64) @ x[:2, :1]).sum() * 0


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(x, y):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(x, y):
    squared = ...
    return torch.exp(squared)


@borrower
def calls_the_library(x, y):
    sigma = median_bandwidth(x, y)
    return borrowed_mmd2(x, y, bandwidth=[sigma * c for c in TIMES])


@borrower
def borrows_the_bandwidth(x, y):
    v = median_bandwidth(x, y) ** 2
    return assemble(x, y, lambda a, b: average(distances(a, b), v))


@borrower.each
def the_library_function_itself():
    return borrowed_mmd2


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "(z[:, None, :] - z[None, :, :]).square().sum(dim=2) → (z[:, None, :] - z[None, :, :]).square().mean(dim=2)": (
        "距離も中央値も1/Dになり、比は同じ"
    ),
    "z[:, None, :] - z[None, :, :] → z[None, :, :] - z[:, None, :]": "差の符号は二乗で消える",
    "0.5 → -0.5": "倍率は二乗して使う",
    "2 * c ** 2 → 2 / c ** 2": "五つの倍率は、逆数を取っても同じ組になる",
    "1e-12 → 2e-12": "全点が一致するときの下限なので、大きさは問わない",
    "(:n, n:) → (n:, :n)": "対称な行列の、転置した部分の平均",
}
