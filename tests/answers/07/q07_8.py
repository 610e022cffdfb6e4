"""演習 07-8（重みの int8 の量子化）の答え。正しいもの、ありがちな誤り、ひな形、借り物。"""

import numpy as np
import torch
from answer_kit import borrower, right, untouched, wrong

from tlkit.distill import quantization


def parameters(w, symmetric, per_channel, low=None, high=None):
    """正しい scale と、丸める前のゼロ点。low と high を渡すと、範囲をそれに替える。"""
    axes = tuple(range(int(per_channel), w.ndim))
    low = w.amin(axes, keepdim=per_channel).clamp(max=0) if low is None else low
    high = w.amax(axes, keepdim=per_channel).clamp(min=0) if high is None else high
    if symmetric:
        scale = torch.maximum(high, -low) / 127
        return torch.where(scale > 0, scale, torch.ones_like(scale)), torch.zeros_like(scale)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale, -128 - low / scale


def packed(w, scale, zero):
    return ((w / scale).round() + zero).clamp(-128, 127).to(torch.int8), scale, zero.to(torch.int8)


@torch.no_grad()
def good(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    return packed(w, scale, zero.round())


def back(q, scale, zero_point):
    return (q.to(scale.dtype) - zero_point.to(scale.dtype)) * scale


def variant(mark):
    """quantize だけが違う答え。dequantize は正しい。"""

    def decorate(answer):
        def make():
            return torch.no_grad()(answer), back

        make.__name__ = answer.__name__
        mark.each(make)
        return answer

    return decorate


def reverse(mark):
    """dequantize だけが違う答え。quantize は正しい。"""

    def decorate(answer):
        def make():
            return good, answer

        make.__name__ = answer.__name__
        mark.each(make)
        return answer

    return decorate


# ---------------------------------------------------------------- 正しい答え


@variant(right)
def by_minimum_and_maximum(w, *, symmetric=False, per_channel=False):
    rows = w.reshape(len(w), -1) if per_channel else w.reshape(1, -1)
    low, high = torch.aminmax(rows, dim=1)
    low, high = low.minimum(torch.zeros_like(low)), high.maximum(torch.zeros_like(high))
    if symmetric:
        scale, zero = torch.maximum(-low, high) / 127, torch.zeros_like(low)
    else:
        scale = (high - low) / 255
        zero = torch.round(-128 - low / torch.where(scale == 0, 1.0, scale))
    scale[scale == 0] = 1
    q = torch.clip(torch.round(rows / scale[:, None] + zero[:, None]), -128, 127).to(torch.int8).reshape(w.shape)
    shape = [-1] + [1] * (w.ndim - 1) if per_channel else []
    return q, scale.reshape(shape), zero.to(torch.int8).reshape(shape)


@variant(right)
def by_numpy(w, *, symmetric=False, per_channel=False):
    x = w.detach().numpy()
    axes = tuple(range(1, x.ndim)) if per_channel else None
    low = np.minimum(x.min(axis=axes, keepdims=per_channel), 0)
    high = np.maximum(x.max(axis=axes, keepdims=per_channel), 0)
    width = np.maximum(high, -low) / 127 if symmetric else (high - low) / 255
    scale = np.where(width > 0, width, 1).astype(x.dtype)
    zero = np.zeros_like(scale) if symmetric else np.rint(-128 - low / scale)
    q = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
    return torch.from_numpy(q), torch.tensor(scale), torch.tensor(zero.astype(np.int8))


@variant(right)
def one_channel_at_a_time(w, *, symmetric=False, per_channel=False):
    if per_channel:
        parts = [one_channel_at_a_time(part, symmetric=symmetric) for part in w.detach().unbind(0)]
        shape = (-1,) + (1,) * (w.ndim - 1)
        q, scale, zero = (torch.stack(found) for found in zip(*parts, strict=True))
        return q, scale.reshape(shape), zero.reshape(shape)
    low, high = min(0.0, w.min().item()), max(0.0, w.max().item())
    scale = max(high, -low) / 127 if symmetric else (high - low) / 255
    scale = scale or 1.0
    zero = 0 if symmetric else round(-128 - low / scale)
    q = torch.round(w.detach() / scale + zero).clamp(-128, 127).to(torch.int8)
    return q, torch.tensor(scale, dtype=w.dtype), torch.tensor(zero, dtype=torch.int8)


@variant(right)
def anchored_at_the_top(w, *, symmetric=False, per_channel=False):
    """ゼロ点を、上の端が 127 に移るように決める。範囲の幅が 255 段なので、同じことである。"""
    scale, zero = parameters(w, symmetric, per_channel)
    if not symmetric:
        axes = tuple(range(int(per_channel), w.ndim))
        zero = 127 - w.amax(axes, keepdim=per_channel).clamp(min=0) / scale
    return packed(w, scale, zero.round().clamp(-128, 127))


@variant(right)
def half_away_from_zero(w, *, symmetric=False, per_channel=False):
    """ちょうど半分のときの丸め方が違う。誤差は s/2 以下のままである。"""

    def nearest(x):
        return x.sign() * (x.abs() + 0.5).floor()

    scale, zero = parameters(w, symmetric, per_channel)
    zero = nearest(zero)
    return nearest(w / scale + zero).clamp(-128, 127).to(torch.int8), scale, zero.to(torch.int8)


@reverse(right)
def multiplies_before_subtracting(q, scale, zero_point):
    return q * scale - zero_point * scale


@reverse(right)
def subtracts_in_int32(q, scale, zero_point):
    return (q.int() - zero_point.int()).to(scale.dtype) * scale


# ---------------------------------------------------------------- 範囲と scale の誤り


@variant(wrong("steps"))
def divides_by_256(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    if not symmetric:
        scale, zero = scale * 255 / 256, -128 - (zero + 128) * -256 / 255
    return packed(w, scale, zero.round())


@variant(wrong("steps"))
def uses_the_symmetric_range_always(w, *, symmetric=False, per_channel=False):
    return good(w, symmetric=True, per_channel=per_channel)


@variant(wrong("zero-not-included"))
def range_without_zero(w, *, symmetric=False, per_channel=False):
    axes = tuple(range(int(per_channel), w.ndim))
    low, high = w.amin(axes, keepdim=per_channel), w.amax(axes, keepdim=per_channel)
    scale, zero = parameters(w, symmetric, per_channel, low, high)
    return packed(w, scale, zero.round().clamp(-128, 127))


@variant(wrong("zero-not-included"))
def assumes_both_signs(w, *, symmetric=False, per_channel=False):
    """範囲を、絶対値でなく最小と最大から求め、下だけを 0 まで広げる。"""
    axes = tuple(range(int(per_channel), w.ndim))
    scale, zero = parameters(w, symmetric, per_channel, None, w.amax(axes, keepdim=per_channel))
    return packed(w, scale, zero.round().clamp(-128, 127))


@variant(wrong("scale-not-positive"))
def divides_by_zero(w, *, symmetric=False, per_channel=False):
    axes = tuple(range(int(per_channel), w.ndim))
    low, high = w.amin(axes, keepdim=per_channel).clamp(max=0), w.amax(axes, keepdim=per_channel).clamp(min=0)
    scale = torch.maximum(high, -low) / 127 if symmetric else (high - low) / 255
    zero = torch.zeros_like(scale) if symmetric else (-128 - low / scale).round()
    return packed(w, scale, zero)


@variant(wrong("scale-not-positive"))
def negative_scale(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    return packed(w, -scale, zero.round())


@variant(wrong("symmetric-steps"))
def largest_instead_of_largest_magnitude(w, *, symmetric=False, per_channel=False):
    if not symmetric:
        return good(w, per_channel=per_channel)
    scale = w.amax(tuple(range(int(per_channel), w.ndim)), keepdim=per_channel).clamp(min=1e-9) / 127
    return packed(w, scale, torch.zeros_like(scale))


@variant(wrong("symmetric-steps"))
def symmetric_range_over_255(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    return packed(w, scale * 127 / 255 if symmetric else scale, zero.round())


@variant(wrong("channel-scale"))
def one_scale_copied_to_every_channel(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric)
    if not per_channel:
        return q, scale, zero
    ones = torch.ones(len(w), *[1] * (w.ndim - 1))
    return q, scale * ones.to(w.dtype), zero * ones.to(torch.int8)


@variant(wrong("channel-shared"))
def ignores_per_channel(w, *, symmetric=False, per_channel=False):
    return good(w, symmetric=symmetric)


@variant(wrong("channel-shape"))
def along_the_input_channels(w, *, symmetric=False, per_channel=False):
    if not per_channel:
        return good(w, symmetric=symmetric)
    q, scale, zero = good(w.transpose(0, 1), symmetric=symmetric, per_channel=True)
    return q.transpose(0, 1), scale.transpose(0, 1), zero.transpose(0, 1)


@variant(wrong("channel-shape"))
def flat_list_of_scales(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return (q, scale.flatten(), zero.flatten()) if per_channel else (q, scale, zero)


@variant(wrong("tensor-shape"))
def per_channel_always(w, *, symmetric=False, per_channel=False):
    return good(w, symmetric=symmetric, per_channel=True)


# ---------------------------------------------------------------- ゼロ点の誤り


@variant(wrong("zero-point"))
def zero_point_of_uint8(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    return packed(w, scale, zero.round() if symmetric else (zero + 128).round().clamp(-128, 127))


@variant(wrong("zero-point"))
def zero_point_in_the_middle(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    return packed(w, scale, torch.zeros_like(zero))


@variant(wrong("symmetric-zero-point"))
def symmetric_only_in_the_scale(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    if symmetric:
        zero = (-128 + w.abs().amax(tuple(range(int(per_channel), w.ndim)), keepdim=per_channel) / scale).round()
    return packed(w, scale, zero.round())


# ---------------------------------------------------------------- 整数への直し方の誤り


@variant(wrong("not-nearest"))
def cuts_off_the_fraction(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    zero = zero.round()
    return (w / scale + zero).clamp(-128, 127).to(torch.int8), scale, zero.to(torch.int8)


@variant(wrong("not-nearest"))
def rounds_down(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    zero = zero.round()
    return ((w / scale).floor() + zero).clamp(-128, 127).to(torch.int8), scale, zero.to(torch.int8)


@variant(wrong("wrapped"))
def without_clamping(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    zero = zero.round()
    return ((w / scale).round() + zero).to(torch.int64).to(torch.int8), scale, zero.to(torch.int8)


@variant(wrong("integers-wrong"))
def zero_point_subtracted(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    zero = zero.round()
    return ((w / scale).round() - zero).clamp(-128, 127).to(torch.int8), scale, zero.to(torch.int8)


@variant(wrong("integers-wrong"))
def clamps_too_early(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    zero = zero.round()
    return ((w / scale).round().clamp(-128, 127) + zero).clamp(-128, 127).to(torch.int8), scale, zero.to(torch.int8)


@variant(wrong("not-int8"))
def integers_kept_as_floats(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return q.float(), scale, zero


@variant(wrong("not-int8"))
def unsigned_integers(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return (q.int() + 128).to(torch.uint8), scale, zero


@variant(wrong("shape-changed"))
def flattens(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return q.flatten(1) if w.ndim > 2 else q.flatten(), scale, zero


# ---------------------------------------------------------------- 返り値の誤り


@variant(wrong("not-three"))
def returns_the_restored_weights(w, *, symmetric=False, per_channel=False):
    return back(*good(w, symmetric=symmetric, per_channel=per_channel))


@variant(wrong("not-tensor"))
def scale_as_a_number(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return (q, scale, zero) if per_channel else (q, scale.item(), zero.item())


@variant(wrong("zero-point-dtype"))
def zero_point_as_a_float(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return q, scale, zero.float()


@variant(wrong("scale-dtype"))
def scale_in_float32(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)
    return q, scale.float(), zero


@wrong("gradient-kept").each
def keeps_the_gradient():
    def quantize(w, *, symmetric=False, per_channel=False):
        scale, zero = parameters(w, symmetric, per_channel)
        return packed(w, scale, zero.round())

    return quantize, back


@variant(wrong("argument-changed"))
def rounds_in_place(w, *, symmetric=False, per_channel=False):
    scale, zero = parameters(w, symmetric, per_channel)
    q = w.div_(scale).round_().add_(zero.round()).clamp_(-128, 127)
    return q.to(torch.int8), scale, zero.round().to(torch.int8)


@wrong("raised").each
def cannot_take_a_parameter():
    def quantize(w, *, symmetric=False, per_channel=False):
        return good(torch.from_numpy(w.numpy()), symmetric=symmetric, per_channel=per_channel)

    return quantize, back


@variant(wrong("returned-none"))
def forgets_return(w, *, symmetric=False, per_channel=False):
    q, scale, zero = good(w, symmetric=symmetric, per_channel=per_channel)


# ---------------------------------------------------------------- 戻し方の誤り


@reverse(wrong("int8-overflow"))
def subtracts_in_int8(q, scale, zero_point):
    return (q - zero_point) * scale


@reverse(wrong("int8-overflow"))
def converts_after_subtracting(q, scale, zero_point):
    return torch.sub(q, zero_point).to(scale.dtype) * scale


@reverse(wrong("zero-lost"))
def ignores_the_zero_point(q, scale, zero_point):
    return q.to(scale.dtype) * scale


@reverse(wrong("zero-lost"))
def subtracts_after_multiplying(q, scale, zero_point):
    return q.to(scale.dtype) * scale - zero_point


@reverse(wrong("restored-wrong"))
def divides_by_the_scale(q, scale, zero_point):
    return (q.to(scale.dtype) - zero_point) / scale


@reverse(wrong("restored-wrong"))
def sign_of_the_difference(q, scale, zero_point):
    return (zero_point - q.to(scale.dtype)) * scale


@reverse(wrong("restored-dtype"))
def always_float32(q, scale, zero_point):
    return (q.float() - zero_point.float()) * scale.float()


@reverse(wrong("restored-shape"))
def flattens_on_the_way_back(q, scale, zero_point):
    return back(q, scale, zero_point).flatten()


@reverse(wrong("restored-not-tensor"))
def back_by_numpy(q, scale, zero_point):
    return (q.numpy().astype(float) - zero_point.numpy()) * scale.numpy()


# ---------------------------------------------------------------- ひな形のまま、借り物


@untouched.each
def raises():
    def quantize(w, *, symmetric=False, per_channel=False):
        raise NotImplementedError("ここを実装してください")

    def dequantize(q, scale, zero_point):
        raise NotImplementedError("ここを実装してください")

    return quantize, dequantize


@reverse(untouched)
def only_the_first_is_written(q, scale, zero_point):
    raise NotImplementedError("ここを実装してください")


@borrower.each
def the_library_functions_themselves():
    return quantization.quantize, quantization.dequantize


@variant(borrower)
def calls_the_library(w, *, symmetric=False, per_channel=False):
    return tuple(quantization.quantize(w.detach(), symmetric=symmetric, per_channel=per_channel))


@reverse(borrower)
def borrows_the_way_back(q, scale, zero_point):
    return quantization.dequantize(quantization.Quantized(q, scale, zero_point))


# ---------------------------------------------------------------- 意味の変わらない変異（名前 → 理由）

EQUIVALENT = {
    "128 → 129": "非対称では、下の端 a が必ず −128 に移る。clamp の下の限界には届かない",
    "128 → 256": "下の限界には届かない（128 → 129 と同じ理由）",
    "q.to(scale.dtype) → q.to(scale.dtype).detach()": "整数の q に勾配はない",
}
