"""演習 03-1（勾配反転層）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import math

import torch
from answer_kit import borrower, right, untouched, wrong
from torch.autograd.function import once_differentiable

import tlkit.nn

# ---------------------------------------------------------------- 正しい答え


def checked(lambda_):
    if not (math.isfinite(lambda_) and lambda_ >= 0):
        raise ValueError("λは0以上の有限な数にしてください。")


def layer(backward, forward=lambda ctx, x: x.view_as(x)):
    """backward(ctx, grad) → x の勾配、forward(ctx, x) → 値、から反転層を作る。"""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            ctx.lambda_ = lambda_
            ctx.save_for_backward(x)
            return forward(ctx, x)

        @staticmethod
        def backward(ctx, grad):
            return backward(ctx, grad), None

    def answer(x, lambda_):
        checked(lambda_)
        return Layer.apply(x, lambda_)

    return answer


def reversed_grad(ctx, grad):
    return -ctx.lambda_ * grad


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lambda_):
        ctx.lambda_ = lambda_
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.neg() * ctx.lambda_, None


@right
def as_in_the_paper(x, lambda_):
    checked(lambda_)
    return Reverse.apply(x, lambda_)


@right.each
def returns_a_copy():
    return layer(reversed_grad, lambda ctx, x: x.clone())


@right
def setup_context_style(x, lambda_):
    """新しい書き方。順伝播と、覚える仕事を分ける。λ はテンソルで覚える。"""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(x, scale):
            return x * 1

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[1])

        @staticmethod
        def backward(ctx, grad):
            (scale,) = ctx.saved_tensors
            return -scale * grad, None

    checked(lambda_)
    return Layer.apply(x, torch.tensor(lambda_, dtype=x.dtype))


@right
def detach_trick(x, lambda_):
    """(1 + λ)x の値から、λx を引く。前の項には勾配が流れない。"""
    checked(lambda_)
    return (1 + lambda_) * x.detach() - lambda_ * x


@right
def exact_detach_trick(x, lambda_):
    checked(lambda_)
    frozen = x.detach()
    return frozen - lambda_ * (x - frozen)


@right
def hook_on_a_copy(x, lambda_):
    if lambda_ < 0 or math.isnan(lambda_) or math.isinf(lambda_):
        raise ValueError("λが正しくありません。")
    y = x.clone()
    if y.requires_grad:
        y.register_hook(lambda grad: -lambda_ * grad)
    return y


# ---------------------------------------------------------------- 順伝播の誤り


@wrong("lambda-in-forward")
def scales_the_value(x, lambda_):
    checked(lambda_)
    return -lambda_ * x


@wrong("lambda-in-forward")
def forgets_to_add_one(x, lambda_):
    checked(lambda_)
    return x.detach() - lambda_ * x


@wrong("forward-reversed")
def negates_the_value(x, lambda_):
    checked(lambda_)
    return -x


@wrong("forward-reversed").each
def reverses_both_ways():
    return layer(reversed_grad, lambda ctx, x: -x)


@wrong("forward-changed").each
def normalises_the_features():
    return layer(reversed_grad, lambda ctx, x: x - x.mean())


@wrong("forward-not-finite").each
def divides_by_its_size():
    return layer(reversed_grad, lambda ctx, x: x * (x.sum() - x.sum()).reciprocal())


@wrong("argument-overwritten")
def overwrites_the_features(x, lambda_):
    checked(lambda_)
    return x.mul_(-1)


# ---------------------------------------------------------------- 逆伝播の誤り


@wrong("not-reversed")
def does_nothing_at_all(x, lambda_):
    checked(lambda_)
    return x * 1


@wrong("not-reversed").each
def passes_the_gradient_on():
    return layer(lambda ctx, grad: grad)


@wrong("sign-kept").each
def forgets_the_sign():
    return layer(lambda ctx, grad: ctx.lambda_ * grad)


@wrong("sign-kept").each
def negates_twice():
    return layer(lambda ctx, grad: -(-ctx.lambda_ * grad))


@wrong("lambda-ignored").each
def only_the_sign():
    return layer(lambda ctx, grad: -grad)


@wrong("not-linear").each
def squares_lambda():
    return layer(lambda ctx, grad: -(ctx.lambda_**2) * grad)


@wrong("not-linear").each
def subtracts_instead_of_scaling():
    return layer(lambda ctx, grad: grad * (1 - math.exp(ctx.lambda_)))


@wrong("zero-lambda").each
def adds_the_straight_gradient():
    return layer(lambda ctx, grad: -(1 + ctx.lambda_) * grad)


@wrong("gradient-scale").each
def averages_over_the_batch():
    return layer(lambda ctx, grad: -ctx.lambda_ * grad / len(grad))


@wrong("other-lambda").each
def clips_lambda():
    return layer(lambda ctx, grad: -min(ctx.lambda_, 1.5) * grad)


@wrong("not-uniform").each
def multiplies_by_the_features():
    return layer(lambda ctx, grad: -ctx.lambda_ * ctx.saved_tensors[0] * grad)


@wrong("not-uniform").each
def normalises_the_gradient():
    return layer(lambda ctx, grad: -ctx.lambda_ * grad.sign())


@wrong("gradient-zero").each
def blocks_the_gradient():
    return layer(lambda ctx, grad: torch.zeros_like(grad))


@wrong("gradient-not-finite").each
def divides_by_lambda():
    return layer(lambda ctx, grad: -grad / torch.tensor(ctx.lambda_))


@wrong("gradient-cut")
def detaches(x, lambda_):
    checked(lambda_)
    return Reverse.apply(x, lambda_).detach()


@wrong("gradient-cut")
def rebuilds_the_tensor(x, lambda_):
    checked(lambda_)
    return -lambda_ * torch.tensor(x.tolist(), dtype=x.dtype) * 0 + x.detach()


@wrong("backward-slots")
def one_slot_only(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            ctx.lambda_ = lambda_
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -ctx.lambda_ * grad

    checked(lambda_)
    return Layer.apply(x, lambda_)


@wrong("backward-slots")
def slots_in_the_wrong_order(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, lambda_, x):
            ctx.lambda_ = lambda_
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -ctx.lambda_ * grad, None

    checked(lambda_)
    return Layer.apply(lambda_, x)


@wrong("raised")
def forgets_to_keep_lambda(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -ctx.lambda_ * grad, None

    checked(lambda_)
    return Layer.apply(x, lambda_)


@wrong("raised")
def saves_a_number_as_a_tensor(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            ctx.save_for_backward(lambda_)
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            (lambda_,) = ctx.saved_tensors
            return -lambda_ * grad, None

    checked(lambda_)
    return Layer.apply(x, lambda_)


@wrong("unfinished")
def backward_left_blank(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            raise NotImplementedError("ここを実装してください")

    checked(lambda_)
    return Layer.apply(x, lambda_)


# ---------------------------------------------------------------- ほかの計算に影響する誤り


@wrong("other-branch")
def hook_on_the_features_themselves(x, lambda_):
    checked(lambda_)
    if x.requires_grad:
        x.register_hook(lambda grad: -lambda_ * grad)
    return x


@wrong("grad-overwritten").each
def multiplies_in_place():
    return layer(lambda ctx, grad: grad.mul_(-ctx.lambda_))


@wrong("grad-overwritten")
def hook_in_place(x, lambda_):
    def hook(grad):
        grad *= -lambda_
        return grad

    checked(lambda_)
    y = x.clone()
    if y.requires_grad:
        y.register_hook(hook)
    return y


class Shared(torch.autograd.Function):
    lambda_ = 1.0

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -Shared.lambda_ * grad


@wrong("shared-lambda")
def one_lambda_for_the_class(x, lambda_):
    checked(lambda_)
    Shared.lambda_ = lambda_
    return Shared.apply(x)


latest = {}


@wrong("shared-lambda")
def hook_reads_the_latest(x, lambda_):
    checked(lambda_)
    latest["λ"] = lambda_
    y = x.clone()
    if y.requires_grad:
        y.register_hook(lambda grad: -latest["λ"] * grad)
    return y


@wrong("nested")
def skips_its_own_output(x, lambda_):
    """もう反転したものは、反転しない。"""
    checked(lambda_)
    if "ReverseBackward" in str(x.grad_fn):
        return x
    return Reverse.apply(x, lambda_)


# ---------------------------------------------------------------- 入力の範囲の誤り


@wrong("no-grad-input")
def hook_always(x, lambda_):
    checked(lambda_)
    y = x.clone()
    y.register_hook(lambda grad: -lambda_ * grad)
    return y


@wrong("no-grad-input")
def empty_when_not_training(x, lambda_):
    checked(lambda_)
    return Reverse.apply(x, lambda_) if x.requires_grad else torch.zeros_like(x)


@wrong("shape-limited").each
def flattens_by_a_view():
    return layer(lambda ctx, grad: -ctx.lambda_ * grad, lambda ctx, x: x.view(-1).view(x.shape))


@wrong("shape-mismatch").each
def reverses_the_first_rows():
    """行ごとに計算するつもりで、行の数を決め打ちした。"""
    return layer(lambda ctx, grad: torch.cat([-ctx.lambda_ * grad[:4], grad[4:]]) if grad.ndim else -ctx.lambda_ * grad)


@wrong("dtype-changed")
def always_double(x, lambda_):
    checked(lambda_)
    return Reverse.apply(x.double(), lambda_)


@wrong("shape-changed")
def flattens_the_features(x, lambda_):
    checked(lambda_)
    return Reverse.apply(x.flatten(), lambda_)


@wrong("not-tensor")
def returns_a_pair(x, lambda_):
    checked(lambda_)
    return Reverse.apply(x, lambda_), None


@wrong("returned-none")
def forgets_return(x, lambda_):
    checked(lambda_)
    Reverse.apply(x, lambda_)


# ---------------------------------------------------------------- 2 階の微分と、λ の確認の誤り


@wrong("second-order")
def differentiable_only_once(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            ctx.lambda_ = lambda_
            return x.view_as(x)

        @staticmethod
        @once_differentiable
        def backward(ctx, grad):
            return -ctx.lambda_ * grad, None

    checked(lambda_)
    return Layer.apply(x, lambda_)


@wrong("second-order").each
def uses_the_data_of_the_gradient():
    return layer(lambda ctx, grad: -ctx.lambda_ * grad.data)


@wrong("negative-accepted")
def checks_nothing(x, lambda_):
    return Reverse.apply(x, lambda_)


@wrong("not-finite-accepted")
def checks_only_the_sign(x, lambda_):
    if lambda_ < 0:
        raise ValueError("λは0以上にしてください。")
    return Reverse.apply(x, lambda_)


@wrong("wrong-exception")
def asserts(x, lambda_):
    assert math.isfinite(lambda_) and lambda_ >= 0
    return Reverse.apply(x, lambda_)


@wrong("rejects-valid")
def rejects_zero(x, lambda_):
    if not 0 < lambda_ < math.inf:
        raise ValueError("λは正の数にしてください。")
    return Reverse.apply(x, lambda_)


@wrong("rejects-valid")
def rejects_above_one(x, lambda_):
    if not 0 <= lambda_ <= 1:
        raise ValueError("λは0以上1以下にしてください。")
    return Reverse.apply(x, lambda_)


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched
def raises(x, lambda_):
    raise NotImplementedError("ここを実装してください")


@untouched
def calls_an_empty_layer(x, lambda_):
    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lambda_):
            raise NotImplementedError("ここを実装してください")

        @staticmethod
        def backward(ctx, grad):
            raise NotImplementedError("ここを実装してください")

    return Layer.apply(x, lambda_)


@borrower
def calls_the_library(x, lambda_):
    return tlkit.nn.gradient_reversal(x, lambda_)


@borrower
def calls_the_library_layer(x, lambda_):
    return tlkit.nn.GradientReversal(lambda_)(x)


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {}
