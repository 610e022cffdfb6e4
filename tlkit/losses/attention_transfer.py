"""注意転移（attention transfer）: どの位置の活性が強いかを、教師モデルから生徒モデルへ伝える。"""

import torch.nn.functional as F
from torch import Tensor

from tlkit.losses._precision import require_floating, returned, to_work


def attention_transfer_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    r"""活性の地図 Q の差の二乗を、標本と位置で平均する。

        A_i(h, w) = (1/C) Σ_c f_i(c, h, w)²
        Q_i = A_i / ‖A_i‖₂（標本ごと。ノルムは全位置でとる）
        L = (1/(N H W)) Σ_i Σ_{h,w} (Q^S_i(h, w) − Q^T_i(h, w))²

    Q はチャネルで平均した後の値なので、二つのモデルのチャネル数は違ってよい。回帰器は要らない。
    Q は f の正の定数倍で変わらない。すべて 0 の地図では Q = 0 とする。

    Args:
        student_maps: 生徒モデルの中間層の出力 f (N, C, H, W)。
        teacher_maps: 教師モデルの中間層の出力 (N, C', H, W)。勾配を止めるなら `detach()` して渡す。

    Returns:
        0 次元のテンソル（単位なし）。dtype は student_maps と同じ（autocast の中では float32）。

    Raises:
        ValueError: 形が合わないか、空か、浮動小数点でないか、device が違うとき。

    出典: Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv:1612.03928, 3.1 節の式 (2)、p = 2。
        式 (2) は差のノルムの和に β/2 を掛ける。二乗の平均をとるのは、著者が公開した実装と同じである。重み β は呼ぶ側で掛ける。
    """
    _check_maps(student_maps, teacher_maps)
    gap = _attention(to_work(student_maps)) - _attention(to_work(teacher_maps))
    return returned(gap.square().mean(), student_maps)


def _attention(maps: Tensor) -> Tensor:
    """(N, C, H, W) → 標本ごとに長さ 1 の Q (N, H·W)。"""
    return F.normalize(maps.square().mean(1).flatten(1), dim=1)


def _check_maps(student: Tensor, teacher: Tensor) -> None:
    ours, theirs = tuple(student.shape), tuple(teacher.shape)
    fits = len(ours) == len(theirs) == 4 and (ours[0], *ours[2:]) == (theirs[0], *theirs[2:])
    if not fits or student.numel() == 0 or teacher.numel() == 0:
        raise ValueError(
            f"student_maps {ours}、teacher_maps {theirs} が渡されました。(N, C, H, W) と (N, C', H, W) が必要です"
            "（チャネル数だけは違ってよく、どの次元も 1 以上）。縦横が違うなら、F.adaptive_avg_pool2d などでそろえてください。"
        )
    require_floating(("student_maps", "teacher_maps"), student, teacher)
