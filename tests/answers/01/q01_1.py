"""演習 01-1（MMD²）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import functools

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

import tlkit
import tlkit.losses
from tlkit.losses import mmd2 as borrowed_mmd2
from tlkit.losses._rbf_sums import RBFDiscrepancy

# ---------------------------------------------------------------- 正しい答え


def kernel(a, b, sigma):
    return torch.exp(-(a[:, None] - b[None]).square().sum(-1) / (2 * sigma**2))


def combine(kxx, kyy, kxy, estimator):
    n, m = kxy.shape
    if estimator == "biased":
        return kxx.mean() + kyy.mean() - 2 * kxy.mean()
    return (kxx.sum() - n) / (n * (n - 1)) + (kyy.sum() - m) / (m * (m - 1)) - 2 * kxy.mean()


@right
def broadcast(x, y, sigma, estimator="biased"):
    return combine(kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma), estimator)


@right
def by_cdist(x, y, sigma, estimator="biased"):
    def gram(a, b):
        return torch.exp(-(torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / (2 * sigma**2))

    return combine(gram(x, x), gram(y, y), gram(x, y), estimator)


@right
def by_inner_products(x, y, sigma, estimator="biased"):
    z = torch.cat([x, y])
    z = z - z.mean(0)
    squares = (z * z).sum(1)
    k = torch.exp(-(squares[:, None] + squares[None] - 2 * z @ z.T).clamp(min=0) / (2 * sigma**2))
    n, m = len(x), len(y)
    if estimator == "unbiased":
        k = k * (1 - torch.eye(n + m, dtype=k.dtype))
    extra = 1 if estimator == "unbiased" else 0
    weights = torch.cat([torch.full((n,), 1.0 / n), torch.full((m,), -1.0 / m)]).to(k)
    within = k[:n, :n].sum() * (1 / (n * (n - extra)) - 1 / n**2) + k[n:, n:].sum() * (1 / (m * (m - extra)) - 1 / m**2)
    return weights @ k @ weights + within


@right
def explicit_loops(x, y, sigma, estimator="biased"):
    def k(a, b):
        return torch.exp(-((a - b) ** 2).sum() / (2 * sigma**2))

    def within(z):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if estimator == "biased" or i != j]
        return sum(k(z[i], z[j]) for i, j in pairs) / len(pairs)

    cross = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * cross


@right
def by_vmap(x, y, sigma, estimator="biased"):
    def k(a, b):
        return torch.exp(-(a - b).pow(2).sum() / (2 * sigma**2))

    def gram(a, b):
        return torch.vmap(lambda row: torch.vmap(lambda other: k(row, other))(b))(a)

    return combine(gram(x, x), gram(y, y), gram(x, y), estimator)


@right
def float32_inside(x, y, sigma, estimator="biased"):
    a, b = x.float(), y.float()
    return broadcast(a, b, sigma, estimator).to(x.dtype)


@right
def masked_triangles(x, y, sigma, estimator="biased"):
    """上三角だけの和を 2 倍する。"""

    def within(z):
        n = len(z)
        upper = torch.pdist(z).square().div(-2 * sigma**2).exp().sum() * 2 if n > 1 else z.sum() * 0
        return upper / (n * (n - 1)) if estimator == "unbiased" else (upper + n) / n**2

    return within(x) + within(y) - 2 * kernel(x, y, sigma).mean()


@right
def prints_and_changes_settings(x, y, sigma, estimator="biased"):
    print("途中の値", sigma)
    torch.manual_seed(1)
    np.seterr(all="ignore")
    return broadcast(x, y, sigma, estimator)


@right.each
def callable_object():
    class Mmd2:
        def __call__(self, x, y, sigma, estimator="biased"):
            return broadcast(x, y, sigma, estimator)

    return Mmd2()


# ---------------------------------------------------------------- 推定量の誤り


@wrong("diagonal-kept")
def keeps_the_diagonal(x, y, sigma, estimator="biased"):
    kxx, kyy, kxy = kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma)
    if estimator == "biased":
        return combine(kxx, kyy, kxy, "biased")
    n, m = kxy.shape
    return kxx.sum() / (n * (n - 1)) + kyy.sum() / (m * (m - 1)) - 2 * kxy.mean()


@wrong("diagonal-kept")
def drops_the_diagonal_of_x_only(x, y, sigma, estimator="biased"):
    kxx, kyy, kxy = kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma)
    n = len(x)
    within = (kxx.sum() - n) / (n * (n - 1)) if estimator == "unbiased" else kxx.mean()
    return within + kyy.mean() - 2 * kxy.mean()


@wrong("estimator-ignored")
def always_biased(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, "biased")


@wrong("biased-drops-diagonal")
def always_unbiased(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, "unbiased")


@wrong("estimators-swapped")
def swapped_estimators(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, "unbiased" if estimator == "biased" else "biased")


@wrong("wrong-denominator")
def drops_the_diagonal_but_divides_by_n_squared(x, y, sigma, estimator="biased"):
    kxx, kyy, kxy = kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma)
    if estimator == "unbiased":
        kxx, kyy = kxx - torch.diag(kxx.diagonal()), kyy - torch.diag(kyy.diagonal())
    return kxx.mean() + kyy.mean() - 2 * kxy.mean()


@wrong("never-negative")
def clamps_at_zero(x, y, sigma, estimator="biased"):
    return torch.relu(broadcast(x, y, sigma, estimator))


@wrong("never-negative")
def takes_the_absolute_value(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator).abs()


@wrong("cross-diagonal-dropped")
def drops_the_cross_diagonal(x, y, sigma, estimator="biased"):
    kxx, kyy, kxy = kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma)
    if estimator == "biased" or len(x) != len(y):
        return combine(kxx, kyy, kxy, estimator)
    n = len(x)
    off = n * (n - 1)
    return (kxx.sum() - n + kyy.sum() - n - 2 * (kxy.sum() - kxy.trace())) / off


@wrong("rows-paired")
def pairs_rows(x, y, sigma, estimator="biased"):
    cross = torch.stack([kernel(a[None], b[None], sigma).squeeze() for a, b in zip(x, y)]).mean()
    value = broadcast(x, y, sigma, estimator)
    return value + 2 * kernel(x, y, sigma).mean() - 2 * cross


@wrong("cross-weights")
def averages_half_of_the_pairs(x, y, sigma, estimator="biased"):
    kxy = kernel(x, y, sigma)
    half = torch.ones_like(kxy).triu()
    return broadcast(x, y, sigma, estimator) + 2 * kxy.mean() - 2 * (kxy * half).sum() / half.sum()


@wrong("biased-weights")
def averages_the_upper_triangle(x, y, sigma, estimator="biased"):
    def within(z):
        mask = torch.ones(len(z), len(z), dtype=z.dtype).triu(0 if estimator == "biased" else 1)
        return (kernel(z, z, sigma) * mask).sum() / mask.sum()

    return within(x) + within(y) - 2 * kernel(x, y, sigma).mean()


@wrong("cross-coefficient")
def forgets_the_two_of_the_cross_term(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator) + kernel(x, y, sigma).mean()


@wrong("not-averaged")
def sums_instead_of_means(x, y, sigma, estimator="biased"):
    return kernel(x, x, sigma).sum() + kernel(y, y, sigma).sum() - 2 * kernel(x, y, sigma).sum()


@wrong("not-averaged")
def averages_over_rows_only(x, y, sigma, estimator="biased"):
    return kernel(x, x, sigma).mean(0).sum() + kernel(y, y, sigma).mean(0).sum() - 2 * kernel(x, y, sigma).mean(0).sum()


@wrong("sign")
def flipped_sign(x, y, sigma, estimator="biased"):
    return -broadcast(x, y, sigma, estimator)


@wrong("square-root")
def returns_the_root(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator).clamp(min=1e-12).sqrt()


@wrong("unequal-weights")
def uses_n_for_both(x, y, sigma, estimator="biased"):
    n = len(x)
    if estimator == "biased":
        return broadcast(x, y, sigma, "biased")
    kxx, kyy, kxy = kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma)
    return (kxx.sum() - n + kyy.sum() - n) / (n * (n - 1)) - 2 * kxy.mean()


@wrong("unequal-sizes")
def needs_equal_sizes(x, y, sigma, estimator="biased"):
    kxx, kyy, kxy = kernel(x, x, sigma), kernel(y, y, sigma), kernel(x, y, sigma)
    if estimator == "biased":
        return (kxx + kyy - 2 * kxy).mean()
    mask = 1 - torch.eye(len(x), dtype=x.dtype)
    n = len(x)
    return ((kxx + kyy) * mask).sum() / (n * (n - 1)) - 2 * kxy.mean()


# ---------------------------------------------------------------- カーネルの誤り


def with_kernel(gram):
    def answer(x, y, sigma, estimator="biased"):
        return combine(gram(x, x, sigma), gram(y, y, sigma), gram(x, y, sigma), estimator)

    return answer


@wrong("kernel-coefficient").each
def no_two_in_the_kernel():
    return with_kernel(lambda a, b, s: torch.exp(-(torch.cdist(a, b) ** 2) / s**2))


@wrong("distance-not-squared").each
def distance_not_squared():
    return with_kernel(lambda a, b, s: torch.exp(-torch.cdist(a, b) / (2 * s**2)))


@wrong("bandwidth-not-squared").each
def bandwidth_not_squared():
    return with_kernel(lambda a, b, s: torch.exp(-(torch.cdist(a, b) ** 2) / (2 * s)))


@wrong("bandwidth-ignored").each
def bandwidth_ignored():
    return with_kernel(lambda a, b, s: torch.exp(-(torch.cdist(a, b) ** 2) / 2))


@wrong("bandwidth-inverted").each
def bandwidth_is_gamma():
    return with_kernel(lambda a, b, s: torch.exp(-s * torch.cdist(a, b) ** 2))


@wrong("features-averaged").each
def mean_over_features():
    return with_kernel(lambda a, b, s: torch.exp(-(a[:, None] - b[None]).square().mean(-1) / (2 * s**2)))


@wrong("not-euclidean").each
def manhattan_distance():
    return with_kernel(lambda a, b, s: torch.exp(-(torch.cdist(a, b, p=1) ** 2) / (2 * s**2)))


@wrong("kernel-grows").each
def exponent_without_minus():
    return with_kernel(lambda a, b, s: torch.exp(torch.cdist(a, b) ** 2 / (2 * s**2)))


@wrong("kernel-shape").each
def rational_quadratic():
    return with_kernel(lambda a, b, s: 1 / (1 + torch.cdist(a, b) ** 2 / (2 * s**2)) ** 2)


@wrong("position-dependent").each
def normalises_rows():
    def unit(a):
        return torch.nn.functional.normalize(a, dim=1)

    return with_kernel(lambda a, b, s: torch.exp((unit(a) @ unit(b).T - 1) / s**2))


@wrong("within-terms")
def forgets_y(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator) - kernel(y, y, sigma).mean()


@wrong("unbounded")
def linear_mmd(x, y, sigma, estimator="biased"):
    return (x.mean(0) - y.mean(0)).square().sum()


@wrong("scale-ignored")
def standardises_first(x, y, sigma, estimator="biased"):
    scale = torch.cat([x, y]).std().clamp(min=1e-9)
    return broadcast(x / scale, y / scale, sigma, estimator)


@wrong("not-finite")
def normal_density_in_float16(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator) + torch.log(kernel(x, x, sigma) - 1).sum() * 0


@wrong("value-mismatch")
def samples_half_of_y_when_large(x, y, sigma, estimator="biased"):
    return broadcast(x, y[:6], sigma, estimator)


# ---------------------------------------------------------------- 返り値と勾配の誤り


@wrong("not-tensor")
def returns_item(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator).item()


@wrong("not-tensor")
def returns_numpy(x, y, sigma, estimator="biased"):
    a, b = x.detach().numpy(), y.detach().numpy()

    def gram(p, q):
        return np.exp(-((p[:, None] - q[None]) ** 2).sum(-1) / (2 * sigma**2))

    return gram(a, a).mean() + gram(b, b).mean() - 2 * gram(a, b).mean()


@wrong("not-scalar")
def returns_one_element(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator).reshape(1)


@wrong("not-scalar")
def forgets_to_average_the_columns(x, y, sigma, estimator="biased"):
    return kernel(x, x, sigma).mean(0) + kernel(y, y, sigma).mean(0) - 2 * kernel(x, y, sigma).mean(0)


@wrong("dtype-changed")
def returns_float32(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator).float()


@wrong("gradient-cut")
def detached(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sigma, estimator).detach()


@wrong("gradient-cut")
def rebuilt_as_a_new_tensor(x, y, sigma, estimator="biased"):
    return torch.tensor(broadcast(x, y, sigma, estimator).item(), dtype=x.dtype)


@wrong("gradient-partial")
def detaches_y(x, y, sigma, estimator="biased"):
    return broadcast(x, y.detach(), sigma, estimator)


@wrong("gradient-wrong")
def detaches_the_within_terms(x, y, sigma, estimator="biased"):
    kxx, kyy = kernel(x, x, sigma).detach(), kernel(y, y, sigma).detach()
    return combine(kxx, kyy, kernel(x, y, sigma), estimator)


@wrong("gradient-not-finite").each
def root_of_zero():
    return with_kernel(lambda a, b, s: torch.exp(-((a[:, None] - b[None]).square().sum(-1).sqrt() ** 2) / (2 * s**2)))


@wrong("argument-changed")
def centres_in_place(x, y, sigma, estimator="biased"):
    with torch.no_grad():
        mean = x.mean(0)
        x -= mean
        y -= mean
    return broadcast(x, y, sigma, estimator)


@wrong("returned-none")
def forgets_return(x, y, sigma, estimator="biased"):
    value = broadcast(x, y, sigma, estimator)


@wrong("returned-none")
def forgets_return_in_one_branch(x, y, sigma, estimator="biased"):
    if estimator == "biased":
        return broadcast(x, y, sigma, estimator)
    value = broadcast(x, y, sigma, estimator)


@wrong("unfinished")
def leaves_one_branch(x, y, sigma, estimator="biased"):
    if estimator == "biased":
        return broadcast(x, y, sigma, estimator)
    raise NotImplementedError("ここを実装してください")


@wrong("raised")
def misspelt_name(x, y, sigma, estimator="biased"):
    return broadcast(x, y, sgima, estimator)  # noqa: F821


@wrong("raised")
def shapes_do_not_match(x, y, sigma, estimator="biased"):
    return kernel(x, y.T, sigma).mean()


@wrong("raised")
def exits(x, y, sigma, estimator="biased"):
    exit()


@wrong("raised")
def takes_too_few_arguments(x, y):
    return broadcast(x, y, 1.0, "biased")


@wrong("raised")
def calls_an_operator_torch_lacks(x, y, sigma, estimator="biased"):
    return torch.bitwise_and(x, 1).sum()


@wrong("raised").each
def not_a_function():
    return 0.5


# ---------------------------------------------------------------- ひな形のまま


@untouched
def raises(x, y, sigma, estimator="biased"):
    raise NotImplementedError("ここを実装してください")


@untouched
def raises_the_class(x, y, sigma, estimator="biased"):
    raise NotImplementedError


@untouched
def ellipsis_body(x, y, sigma, estimator="biased"): ...


@untouched
def returns_ellipsis(x, y, sigma, estimator="biased"):
    return ...


@untouched
def pass_body(x, y, sigma, estimator="biased"):
    """説明だけがある。"""
    pass


@untouched
def blank_variable(x, y, sigma, estimator="biased"):
    value = ...
    return value


@untouched
def uses_a_blank(x, y, sigma, estimator="biased"):
    k_xx = ...
    return k_xx.mean()


@untouched
def hands_a_blank_to_torch(x, y, sigma, estimator="biased"):
    squared = ...
    return torch.exp(squared)


@untouched
def hands_a_blank_to_numpy(x, y, sigma, estimator="biased"):
    return torch.tensor(np.exp(...))


@untouched.each
def lambda_returning_none():
    return lambda x, y, sigma, estimator: None


@untouched.each
def value_ellipsis():
    return ...


@untouched.each
def value_none():
    return None


@untouched.each
def partial_of_a_stub():
    return functools.partial(raises)


@untouched.each
def empty_class():
    class Mmd2:
        """まだ何も書いていない。"""

        def __call__(self, x, y, sigma, estimator="biased"): ...

    return Mmd2


@untouched.each
def object_with_a_stub_method():
    class Mmd2:
        def __init__(self):
            self.calls = 0

        def __call__(self, x, y, sigma, estimator="biased"):
            raise NotImplementedError("ここを実装してください")

    return Mmd2()


@untouched.each
def module_with_a_blank_forward():
    class Mmd2(torch.nn.Module):
        def forward(self, x, y, sigma, estimator="biased"):
            pass

    return Mmd2()


# ---------------------------------------------------------------- 借り物


@borrower
def calls_the_library(x, y, sigma, estimator="biased"):
    return tlkit.losses.mmd2(x, y, bandwidth=sigma, estimator=estimator)


@borrower
def calls_an_alias(x, y, sigma, estimator="biased"):
    return borrowed_mmd2(x, y, bandwidth=sigma, estimator=estimator)


@borrower
def imports_inside(x, y, sigma, estimator="biased"):
    from tlkit.losses import mmd2

    return mmd2(x, y, bandwidth=sigma, estimator=estimator)


@borrower
def calls_then_ignores(x, y, sigma, estimator="biased"):
    borrowed_mmd2(x, y)
    return broadcast(x, y, sigma, estimator)


@borrower
def applies_the_function_class(x, y, sigma, estimator="biased"):
    return RBFDiscrepancy.apply(x, y, [1 / (2 * sigma**2)], estimator == "unbiased")


@borrower.each
def the_library_function_itself():
    return borrowed_mmd2


@borrower.each
def wrapped_in_a_lambda():
    return lambda x, y, s, e: borrowed_mmd2(x, y, bandwidth=s, estimator=e)


@borrower.each
def partial_of_the_library():
    return functools.partial(borrowed_mmd2, kernel="rbf")


@borrower.each
def wrapped_with_functools():
    @functools.wraps(broadcast)
    def answer(x, y, sigma, estimator="biased"):
        return borrowed_mmd2(x, y, bandwidth=sigma, estimator=estimator)

    return answer


@borrower.each
def method_around_the_library():
    class Holder:
        def mmd2(self, x, y, sigma, estimator="biased"):
            return borrowed_mmd2(x, y, bandwidth=sigma, estimator=estimator)

    return Holder().mmd2


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "kernel(x, y) → kernel(y, x)": "転置した行列の平均なので、値も勾配も同じ",
    "a[:, None, :] - b[None, :, :] → b[None, :, :] - a[:, None, :]": "差の符号は二乗で消える",
    "gram.diagonal().sum() → gram.diagonal().sum().detach()": "k(z_i, z_i) は常に1なので、対角の勾配は0",
    "gram.diagonal() → gram.diagonal().detach()": "k(z_i, z_i) は常に1なので、対角の勾配は0",
}
