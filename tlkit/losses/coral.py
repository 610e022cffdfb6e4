"""CORAL: 二つの標本の共分散行列の差。"""

import torch
from torch import Tensor


def coral(x: Tensor, y: Tensor) -> Tensor:
    r"""Deep CORAL の損失 ‖C_x − C_y‖²_F / (4 D²) を返す。

    C_x は x の共分散行列（N − 1 で割る）である。平均の差は見ない。

    Args:
        x: (N, D) の浮動小数点テンソル。N ≥ 2。
        y: (M, D) の浮動小数点テンソル。M ≥ 2。N と M は異なってよい。

    Returns:
        0 次元のテンソル。x と y の両方に勾配が流れる。

    Raises:
        ValueError: 形、件数、dtype、device が条件に合わないとき。

    出典: Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV 2016 Workshops,
        3.1 節の式 (1)。
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"x {tuple(x.shape)}、y {tuple(y.shape)} が渡されました。x は (N, D)、y は (M, D) で、"
            "D がそろい、N も M も 2 以上である必要があります（共分散を N − 1 で割るため）。"
        )
    if not x.is_floating_point() or x.dtype != y.dtype or x.device != y.device:
        raise ValueError(
            f"x は {x.dtype}（{x.device}）、y は {y.dtype}（{y.device}）です。"
            "同じ浮動小数点の dtype と同じ device にそろえてください（例: y.to(x)）。"
        )
    difference = covariance(x) - covariance(y)
    return difference.square().sum() / (4 * x.shape[1] ** 2)


def covariance(x: Tensor) -> Tensor:
    """共分散行列 (D, D)。x (N, D) の各列から平均を引き、N − 1 で割る。"""
    centred = x - x.mean(dim=0)
    return torch.mm(centred.T, centred) / (len(x) - 1)
