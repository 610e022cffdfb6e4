"""重みの量子化。浮動小数点数を少ないビットの整数に丸めて保存し、使うときに戻す。

枝刈りは `pruning.py`、大きさと時間の測り方は `footprint.py` にある。
整数のまま計算して速くする実装はここに置かない（CPU での速さは `benchmarks/compression.py` が測る）。
"""

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
BITS = range(2, 9)
LAYERS = (nn.Conv2d, nn.Linear)


class Quantized(NamedTuple):
    """整数に直した重み。元の値の近似は (values − zero_point)·scale。

    Attributes:
        values: 整数 q。形は重みと同じ、dtype は int8。b ビットなら −2^(b−1) 以上 2^(b−1) − 1 以下。
        scale: 整数 1 の幅 s。dtype は重みと同じ。テンソル全体で一つなら 0 次元、チャネルごとなら (C, 1, …, 1)。
        zero_point: 0.0 に当たる整数 z。形は scale と同じ、dtype は int8。
    """

    values: Tensor
    scale: Tensor
    zero_point: Tensor


def quantize(weight: Tensor, bits: int = 8, *, symmetric: bool = False, per_channel: bool = False) -> Quantized:
    r"""重みを、b ビットの整数に丸める。q = clip(round(w/s) + z, −2^{b−1}, 2^{b−1} − 1)。

    値の範囲は、0 を必ず含める。a = min(0, min w)、b = max(0, max w)。0.0 は、ちょうど整数 z になる。
    非対称なら s = (b − a)/(2^b − 1)、z = round(−2^{b−1} − a/s)。対称なら s = max|w|/(2^{b−1} − 1)、z = 0。
    範囲の幅が 0（すべて 0）なら、s = 1 とする。丸めの誤差は s/2 以下である。

    Args:
        weight: 重み (C, …)。2 次元以上、実数。
        bits: ビット数 b。2 以上 8 以下。
        symmetric: 0 を中心に対称な範囲を使う（z = 0）。
        per_channel: s と z を、出力チャネル（0 番目の次元）ごとに求める。

    Raises:
        ValueError: weight が 2 次元以上の有限な実数でないか、bits が範囲の外のとき。

    出典: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        CVPR 2018, arXiv:1712.05877, 2.1 節と 3 節。チャネルごとの範囲は Krishnamoorthi, arXiv:1806.08342, 2 節。
    """
    _require(weight, bits)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    with torch.no_grad():
        axes = tuple(range(int(per_channel), weight.ndim))
        low = weight.amin(axes, keepdim=per_channel).clamp(max=0)
        high = weight.amax(axes, keepdim=per_channel).clamp(min=0)
        width = torch.maximum(high, -low) / most if symmetric else (high - low) / (most - least)
        scale = torch.where(width > 0, width, torch.ones_like(width))
        zero = torch.zeros_like(scale) if symmetric else (least - low / scale).round()
        values = ((weight / scale).round() + zero).clamp(least, most)
    return Quantized(values.to(torch.int8), scale, zero.to(torch.int8))


def dequantize(quantized: Quantized) -> Tensor:
    """整数から、元の値の近似 (q − z)·s に戻す。dtype は scale と同じ。

    int8 のまま引くと、差が −128〜127 に収まらないときに桁があふれる。先に浮動小数点数に直す。
    """
    values, scale, zero_point = quantized
    return (values.to(scale.dtype) - zero_point.to(scale.dtype)) * scale


def fake_quantize(weight: Tensor, bits: int = 8, *, symmetric: bool = True, per_channel: bool = True) -> Tensor:
    """量子化してすぐに戻した重み。形と dtype は重みと同じで、整数に丸めた誤差だけが残る。

    引数と誤りは `quantize` と同じ。既定は、重みによく使う、チャネルごとの対称な量子化である。
    """
    return dequantize(quantize(weight, bits, symmetric=symmetric, per_channel=per_channel))


def quantize_weights(model: Model, bits: int = 8, *, symmetric: bool = True, per_channel: bool = True) -> Model:
    """畳み込みと全結合の重みを `fake_quantize` の値に替えた、モデルの写し。元のモデルは変えない。

    バイアス、バッチ正規化、活性化は浮動小数点数のまま残る。重みを丸めたときの正解率を調べるためのもので、速くも小さくもならない。

    Raises:
        ValueError: 畳み込みも全結合もないか、`quantize` の条件に合わないとき。
    """
    rounded = copy.deepcopy(model)
    layers = [module for module in rounded.modules() if isinstance(module, LAYERS)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} に nn.Conv2d も nn.Linear もありません。量子化する重みのあるモデルを渡してください。"
        )
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(fake_quantize(layer.weight, bits, symmetric=symmetric, per_channel=per_channel))
    return rounded


def _require(weight: Tensor, bits: int) -> None:
    if isinstance(bits, bool) or bits not in BITS:
        raise ValueError(f"bits に {bits!r} が渡されました。2 以上 8 以下の整数にしてください。")
    if weight.ndim < 2 or weight.numel() == 0 or not weight.is_floating_point():
        raise ValueError(
            f"形 {tuple(weight.shape)}、{weight.dtype} の重みが渡されました。空でない、2 次元以上の実数のテンソルにしてください。"
        )
    if not bool(weight.isfinite().all()):
        raise ValueError("重みに NaN か無限大があります。学習が発散していないか確かめてください。")
