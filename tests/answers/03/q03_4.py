"""演習 03-4（CORAL の損失）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

from tlkit.losses import coral as borrowed_coral
from tlkit.losses.coral import covariance as borrowed_covariance


def covariance(z, ddof=1):
    centred = z - z.mean(0)
    return centred.T @ centred / (len(z) - ddof)


def frobenius(difference, d):
    return difference.square().sum() / (4 * d**2)


def good(x, y):
    return frobenius(covariance(x) - covariance(y), x.shape[1])


# ---------------------------------------------------------------- 正しい答え


@right
def by_torch_cov(x, y):
    return frobenius(torch.cov(x.T) - torch.cov(y.T), x.shape[1])


@right
def centred_products(x, y):
    a, b = x - x.mean(0, keepdim=True), y - y.mean(0, keepdim=True)
    difference = a.T @ a / (len(x) - 1) - b.T @ b / (len(y) - 1)
    return (difference * difference).sum() / 4 / x.size(1) / x.size(1)


@right
def second_moment_minus_the_mean(x, y):
    def c(z):
        n = len(z)
        return (z.T @ z - n * torch.outer(z.mean(0), z.mean(0))) / (n - 1)

    return frobenius(c(x) - c(y), x.shape[1])


@right
def by_einsum(x, y):
    def c(z):
        centred = z - z.mean(0)
        return torch.einsum("ni,nj->ij", centred, centred) / (z.shape[0] - 1)

    return torch.einsum("ij,ij->", c(x) - c(y), c(x) - c(y)) / (2 * x.shape[1]) ** 2


@right
def by_the_centring_matrix(x, y):
    """論文の式 (2): (1/(n−1)) (DᵀD − (1/n)(1ᵀD)ᵀ(1ᵀD))。"""

    def c(z):
        ones = torch.ones(1, len(z), dtype=z.dtype, device=z.device)
        return (z.T @ z - (ones @ z).T @ (ones @ z) / len(z)) / (len(z) - 1)

    return torch.linalg.matrix_norm(c(x) - c(y)).square() / (4 * x.shape[1] ** 2)


@right
def mean_of_squares(x, y):
    """要素の平均は、D² で割ることと同じ。"""
    return (torch.cov(x.T, correction=1) - torch.cov(y.T, correction=1)).square().mean() / 4


@right
def mean_detached(x, y):
    """中心化の平均だけを止めても、共分散の勾配は変わらない（Σ(x − x̄) = 0 のため）。"""

    def c(z):
        centred = z - z.mean(0).detach()
        return centred.T @ centred / (len(z) - 1)

    return frobenius(c(x) - c(y), x.shape[1])


# ---------------------------------------------------------------- 共分散の誤り


@wrong("not-centred")
def second_moments(x, y):
    return frobenius(x.T @ x / (len(x) - 1) - y.T @ y / (len(y) - 1), x.shape[1])


@wrong("not-centred")
def centres_over_features(x, y):
    a, b = (z - z.mean(1, keepdim=True) + z.mean() for z in (x, y))
    return frobenius(a.T @ a / (len(x) - 1) - b.T @ b / (len(y) - 1), x.shape[1])


@wrong("mean-sensitive")
def adds_the_mean_difference(x, y):
    return good(x, y) + (x.mean(0) - y.mean(0)).square().mean()


@wrong("mean-sensitive")
def centres_by_the_pooled_mean(x, y):
    mean = torch.cat([x, y]).mean(0)
    a, b = x - mean, y - mean
    return frobenius(a.T @ a / (len(x) - 1) - b.T @ b / (len(y) - 1), x.shape[1])


@wrong("ddof")
def divides_by_n(x, y):
    return frobenius(covariance(x, 0) - covariance(y, 0), x.shape[1])


@wrong("ddof")
def correction_zero(x, y):
    return frobenius(torch.cov(x.T, correction=0) - torch.cov(y.T, correction=0), x.shape[1])


@wrong("asymmetric")
def divides_both_by_n_minus_one(x, y):
    a, b = x - x.mean(0), y - y.mean(0)
    return frobenius((a.T @ a - b.T @ b) / (len(x) - 1), x.shape[1])


@wrong("not-divided")
def scatter_matrices(x, y):
    a, b = x - x.mean(0), y - y.mean(0)
    return frobenius(a.T @ a - b.T @ b, x.shape[1])


@wrong("correlation")
def correlation_matrices(x, y):
    return frobenius(torch.corrcoef(x.T) - torch.corrcoef(y.T), x.shape[1])


@wrong("not-finite")
def rescaled_correlation(x, y):
    """相関行列に標準偏差を掛け戻す。値の動かない特徴で 0/0 になる。"""
    a, b = (torch.corrcoef(z.T) * torch.outer(z.std(0), z.std(0)) for z in (x, y))
    return frobenius(a - b, x.shape[1])


@wrong("unequal-sizes")
def covariance_between_samples(x, y):
    return frobenius(torch.cov(x) - torch.cov(y), x.shape[1])


@wrong("order-dependent")
def covariance_across_domains(x, y):
    n = min(len(x), len(y))
    a, b = x[:n] - x[:n].mean(0), y[:n] - y[:n].mean(0)
    return good(x, y) + frobenius(a.T @ b / (n - 1), x.shape[1])


# ---------------------------------------------------------------- 差の測り方の誤り


@wrong("not-squared")
def norm_without_square(x, y):
    return torch.linalg.matrix_norm(covariance(x) - covariance(y)) / (4 * x.shape[1] ** 2)


@wrong("not-squared")
def absolute_differences(x, y):
    return (covariance(x) - covariance(y)).abs().sum() / (4 * x.shape[1] ** 2)


@wrong("degree")
def squared_twice(x, y):
    return good(x, y) ** 2


@wrong("variances-only")
def variances_only(x, y):
    return (x.var(0) - y.var(0)).square().sum() / (4 * x.shape[1] ** 2)


@wrong("direction-ignored")
def difference_of_norms(x, y):
    return (covariance(x).norm() - covariance(y).norm()).square() / (4 * x.shape[1] ** 2)


@wrong("direction-ignored")
def difference_of_eigenvalues(x, y):
    a, b = (torch.linalg.eigvalsh(covariance(z)) for z in (x, y))
    return (a - b).square().sum() / (4 * x.shape[1] ** 2)


@wrong("not-frobenius")
def upper_triangle_only(x, y):
    return frobenius((covariance(x) - covariance(y)).triu(), x.shape[1])


@wrong("not-positive")
def sign_flipped(x, y):
    return -good(x, y)


@wrong("value-mismatch")
def spectral_norm(x, y):
    return torch.linalg.matrix_norm(covariance(x) - covariance(y), ord=2).square() / (4 * x.shape[1] ** 2)


@wrong("no-dimension")
def forgets_the_dimension(x, y):
    return (covariance(x) - covariance(y)).square().sum() / 4


@wrong("dimension-power")
def divides_by_d_only(x, y):
    return (covariance(x) - covariance(y)).square().sum() / (4 * x.shape[1])


@wrong("dimension-power")
def squares_the_mean_once_more(x, y):
    return (covariance(x) - covariance(y)).square().mean() / (4 * x.shape[1] ** 2)


@wrong("factor")
def forgets_the_four(x, y):
    return (covariance(x) - covariance(y)).square().mean()


@wrong("factor")
def divides_by_two(x, y):
    return (covariance(x) - covariance(y)).square().sum() / (2 * x.shape[1] ** 2)


# ---------------------------------------------------------------- 返り値と勾配の誤り


@wrong("not-tensor")
def by_numpy(x, y):
    a, b = (np.cov(z.detach().numpy().T) for z in (x, y))
    return float(((a - b) ** 2).sum() / (4 * x.shape[1] ** 2))


@wrong("not-scalar")
def forgets_to_sum(x, y):
    return (covariance(x) - covariance(y)).square() / (4 * x.shape[1] ** 2)


@wrong("not-scalar")
def sums_over_one_axis(x, y):
    return (covariance(x) - covariance(y)).square().sum(0) / (4 * x.shape[1] ** 2)


@wrong("dtype-changed")
def returns_float32(x, y):
    return good(x.float(), y.float())


@wrong("gradient-cut")
def without_gradient(x, y):
    return good(x.detach(), y.detach())


@wrong("gradient-partial")
def detaches_the_target(x, y):
    return frobenius(covariance(x) - covariance(y.detach()), x.shape[1])


@wrong("gradient-partial")
def detaches_the_source(x, y):
    return frobenius(covariance(x).detach() - covariance(y), x.shape[1])


@wrong("gradient-unbalanced")
def detaches_the_outer_product_of_means(x, y):
    def c(z):
        n = len(z)
        return (z.T @ z - n * torch.outer(z.mean(0), z.mean(0)).detach()) / (n - 1)

    return frobenius(c(x) - c(y), x.shape[1])


@wrong("gradient-wrong")
def detaches_one_factor(x, y):
    def c(z):
        centred = z - z.mean(0)
        return centred.T.detach() @ centred / (len(z) - 1)

    return frobenius(c(x) - c(y), x.shape[1])


@wrong("gradient-not-finite")
def root_then_square(x, y):
    return (covariance(x) - covariance(y)).square().sum().sqrt() ** 2 / (4 * x.shape[1] ** 2)


@wrong("argument-changed")
def centres_in_place(x, y):
    with torch.no_grad():
        x -= x.mean(0)
        y -= y.mean(0)
    return good(x, y)


@wrong("returned-none")
def forgets_return(x, y):
    value = good(x, y)


@wrong("raised")
def shapes_do_not_match(x, y):
    return (x @ x - y @ y).sum()


@wrong("raised")
def cannot_take_float32(x, y):
    return good(x, y) + (torch.eye(2, dtype=torch.float64) @ x[:2, :1]).sum() * 0


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(x, y):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(x, y):
    centred = ...
    return centred.sum()


@borrower
def calls_the_library(x, y):
    return borrowed_coral(x, y)


@borrower
def borrows_the_covariance(x, y):
    return frobenius(borrowed_covariance(x) - borrowed_covariance(y), x.shape[1])


@borrower.each
def the_library_function_itself():
    return borrowed_coral


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "torch.cov(x.T) - torch.cov(y.T) → torch.cov(y.T) - torch.cov(x.T)": "差の符号は二乗で消える",
}
