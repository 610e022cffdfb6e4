"""演習 08-7（課題ごとの正規化）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import torch
import torch.nn.functional as F
from answer_kit import borrower, right, untouched, wrong
from torch import nn

from tlkit.nn import batch_statistics

# ---------------------------------------------------------------- 共通の部品


def others(x):
    return [i for i in range(x.ndim) if i != 1]


def along(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


def average(x):
    return x.mean(others(x), keepdim=True)


def deviation(var, eps):
    return (var + eps).sqrt()


def finish(z, gamma, beta):
    return along(gamma, z) * z + along(beta, z)


def varied(mean=average, var=lambda x, m: average((x - m).square()), scale=deviation, affine=finish):
    """一部だけを変えた答え。"""

    def answer(x, gamma, beta, eps=1e-5):
        m = mean(x)
        return affine((x - m) / scale(var(x, m), eps), gamma, beta)

    return answer


good = varied()


# ---------------------------------------------------------------- 正しい答え


@right
def variance_and_mean_at_once(x, gamma, beta, eps=1e-5):
    v, m = torch.var_mean(x, others(x), correction=0, keepdim=True)
    return torch.addcmul(along(beta, x), x - m, torch.rsqrt(v + eps) * along(gamma, x))


@right
def channels_last(x, gamma, beta, eps=1e-5):
    moved = x.movedim(1, -1)
    flat = moved.reshape(-1, x.shape[1])
    centred = flat - flat.sum(0) / len(flat)
    spread = torch.einsum("nc,nc->c", centred, centred) / len(flat)
    return (centred * (gamma / (spread + eps) ** 0.5) + beta).reshape(moved.shape).movedim(-1, 1)


@right
def one_channel_at_a_time(x, gamma, beta, eps=1e-5):
    done = []
    for c in range(x.shape[1]):
        h = x[:, c] - x[:, c].mean()
        done.append(gamma[c] * h / ((h * h).mean() + eps).sqrt() + beta[c])
    return torch.stack(done, dim=1)


@right
def layer_norm_of_the_transpose(x, gamma, beta, eps=1e-5):
    """チャネルを行にすると、行ごとの正規化になる。"""
    rows = x.transpose(0, 1).flatten(1)
    z = F.layer_norm(rows, (rows.shape[1],), eps=eps)
    z = z * gamma[:, None] + beta[:, None]
    return z.reshape(x.transpose(0, 1).shape).transpose(0, 1)


@right
def calls_instance_norm(x, gamma, beta, eps=1e-5):
    rows = x.transpose(0, 1).flatten(1)[None]
    z = F.instance_norm(rows, eps=eps)[0]
    return finish(z.reshape(x.transpose(0, 1).shape).transpose(0, 1), gamma, beta)


@right
def batch_norm_without_an_affine(x, gamma, beta, eps=1e-5):
    """γ と β を渡さなければ、vmap の中でも、二階まで正しい。"""
    return finish(F.batch_norm(x, None, None, training=True, eps=eps), gamma, beta)


# ---------------------------------------------------------------- 平均をとる軸


@wrong("per-row").each
def normalises_every_row():
    def mean(x):
        return x.mean(list(range(1, x.ndim)), keepdim=True)

    return varied(mean=mean, var=lambda x, m: mean((x - m).square()))


@wrong("channels-pooled").each
def pools_the_channels():
    return varied(mean=lambda x: x.mean(), var=lambda x, m: (x - m).square().mean())


@wrong("per-image").each
def instance_normalisation():
    def mean(x):
        return x.mean((2, 3), keepdim=True) if x.ndim == 4 else x.mean(0, keepdim=True)

    return varied(mean=mean, var=lambda x, m: mean((x - m).square()))


@wrong("per-pixel").each
def averages_over_the_set_only():
    return varied(mean=lambda x: x.mean(0, keepdim=True), var=lambda x, m: (x - m).square().mean(0, keepdim=True))


@wrong("not-centred").each
def does_not_centre():
    return varied(mean=lambda x: 0 * x, var=lambda x, m: average((x - average(x)).square()))


@wrong("not-centred").each
def subtracts_the_median():
    return varied(mean=lambda x: along(x.movedim(1, 0).flatten(1).median(1).values, x))


# ---------------------------------------------------------------- 広がりと ε


@wrong("unbiased-variance").each
def unbiased():
    return varied(var=lambda x, m: x.var(others(x), keepdim=True))


@wrong("scale").each
def divides_by_the_variance():
    return varied(scale=lambda var, eps: var + eps)


@wrong("scale").each
def mean_absolute_deviation():
    return varied(var=lambda x, m: average((x - m).abs()).square())


@wrong("not-linear").each
def restandardises_a_squashed_set():
    """外れた値を縮めてから、もう一度そろえる。"""

    def affine(z, gamma, beta):
        h = z.clamp(-0.5, 0.5)
        h = (h - average(h)) / (average((h - average(h)).square()) + 1e-9).sqrt()
        return finish(h, gamma, beta)

    return varied(affine=affine)


@wrong("eps-ignored").each
def fixes_eps():
    return varied(scale=lambda var, eps: (var + 1e-5).sqrt())


@wrong("eps-place").each
def adds_eps_outside():
    return varied(scale=lambda var, eps: var.sqrt() + eps)


@wrong("eps-place").each
def clamps_instead():
    return varied(scale=lambda var, eps: var.clamp(min=eps).sqrt())


@wrong("eps-default")
def other_default(x, gamma, beta, eps=1e-3):
    return good(x, gamma, beta, eps)


@wrong("not-finite").each
def forgets_eps():
    return varied(scale=lambda var, eps: var.sqrt())


@wrong("unstable").each
def mean_of_squares():
    return varied(var=lambda x, m: average(x.square()) - m.square())


# ---------------------------------------------------------------- γ と β


@wrong("gamma-ignored").each
def forgets_gamma():
    return varied(affine=lambda z, gamma, beta: z + along(beta, z))


@wrong("beta-ignored").each
def forgets_beta():
    return varied(affine=lambda z, gamma, beta: z * along(gamma, z))


@wrong("affine").each
def broadcasts_along_the_width():
    return varied(affine=lambda z, gamma, beta: gamma * z + beta)


@wrong("affine").each
def adds_before_multiplying():
    return varied(affine=lambda z, gamma, beta: along(gamma, z) * (z + along(beta, z)))


# ---------------------------------------------------------------- 状態


@wrong("state").each
def keeps_a_running_mean():
    kept = {}

    def mean(x):
        now = average(x)
        kept[x.shape] = 0.9 * kept.get(x.shape, now.detach()) + 0.1 * now
        return kept[x.shape]

    return varied(mean=mean)


@wrong("not-centred").each
def keeps_the_first_mean():
    """初めに渡された集合の平均を、同じ形の集合に使い回す。"""
    kept = {}
    return varied(mean=lambda x: kept.setdefault(x.shape, average(x)))


@wrong("grad-mode")
def other_statistics_when_training(x, gamma, beta, eps=1e-5):
    if x.requires_grad:
        return finish((x - 0.9 * average(x)) / deviation(average(x.square()), eps), gamma, beta)
    return good(x, gamma, beta, eps)


# ---------------------------------------------------------------- 勾配


@wrong("x-cut")
def cuts_the_input(x, gamma, beta, eps=1e-5):
    return good(x.detach(), gamma, beta, eps)


@wrong("gamma-cut")
def cuts_gamma(x, gamma, beta, eps=1e-5):
    return good(x, gamma.detach(), beta, eps)


@wrong("beta-cut")
def cuts_beta(x, gamma, beta, eps=1e-5):
    return good(x, gamma, beta.detach(), eps)


@wrong("mean-detached").each
def detaches_the_mean():
    return varied(mean=lambda x: average(x).detach())


@wrong("mean-detached")
def computes_statistics_without_gradients(x, gamma, beta, eps=1e-5):
    with torch.no_grad():
        v, m = torch.var_mean(x, others(x), correction=0, keepdim=True)
    return finish((x - m) / deviation(v, eps), gamma, beta)


@wrong("variance-detached").each
def detaches_the_variance():
    return varied(scale=lambda var, eps: deviation(var.detach(), eps))


class ByHand(torch.autograd.Function):
    """手で書いた逆伝播。控えた統計を、定数のように使う。"""

    @staticmethod
    def forward(ctx, x, eps):
        inverse = 1 / deviation(average((x - average(x)).square()), eps)
        z = (x - average(x)) * inverse
        ctx.z, ctx.inverse = z.detach(), inverse.detach()
        return z

    @staticmethod
    def backward(ctx, g):
        return ctx.inverse * (g - average(g) - ctx.z * average(g * ctx.z)), None


@wrong("second-order-mismatch")
def writes_the_backward_by_hand(x, gamma, beta, eps=1e-5):
    return finish(ByHand.apply(x, eps), gamma, beta)


class Once(ByHand):
    @staticmethod
    def backward(ctx, g):
        with torch.no_grad():
            return ByHand.backward(ctx, g)


@wrong("second-order-mismatch")
def writes_a_backward_without_a_graph(x, gamma, beta, eps=1e-5):
    return finish(Once.apply(x, eps), gamma, beta)


@wrong("gradient-mismatch").each
def halves_the_gradient():
    return varied(affine=lambda z, gamma, beta: (lambda y: (y + y.detach()) / 2)(finish(z, gamma, beta)))


@wrong("stacked-second-order")
def calls_batch_norm(x, gamma, beta, eps=1e-5):
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


@wrong("raised")
def looks_at_a_value(x, gamma, beta, eps=1e-5):
    """値による分かれ道は、vmap の中では書けない。"""
    if x.abs().max().item() > 1e30:
        raise ValueError("値が大きすぎます。")
    return good(x, gamma, beta, eps)


@wrong("raised")
def handles_rows_only(x, gamma, beta, eps=1e-5):
    m = x.mean(0)
    return (x - m) / ((x - m).square().mean(0) + eps).sqrt() * gamma[:, None, None].reshape(-1, 1) + beta


# ---------------------------------------------------------------- 返り値


@wrong("not-tensor")
def returns_the_statistics_too(x, gamma, beta, eps=1e-5):
    return good(x, gamma, beta, eps), average(x)


@wrong("shape")
def returns_a_flat_set(x, gamma, beta, eps=1e-5):
    return good(x, gamma, beta, eps).flatten(1)


@wrong("dtype-changed")
def returns_float64(x, gamma, beta, eps=1e-5):
    return good(x, gamma, beta, eps).double()


@wrong("argument-changed")
def subtracts_in_place(x, gamma, beta, eps=1e-5):
    if not x.requires_grad:
        x -= average(x)
    return good(x, gamma, beta, eps)


@wrong("returned-none")
def forgets_return(x, gamma, beta, eps=1e-5):
    good(x, gamma, beta, eps)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(x, gamma, beta, eps=1e-5):
    raise NotImplementedError("ここを実装してください")


@untouched
def uses_a_blank(x, gamma, beta, eps=1e-5):
    mean = ...
    return (x - mean) * gamma + beta


@borrower
def asks_the_library(x, gamma, beta, eps=1e-5):
    layer = (nn.BatchNorm1d if x.ndim == 2 else nn.BatchNorm2d)(x.shape[1], eps=eps).to(x.dtype)
    with batch_statistics(layer):
        return torch.func.functional_call(layer, {"weight": gamma, "bias": beta}, (x,))


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT: dict[str, str] = {}
