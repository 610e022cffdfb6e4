"""ヒント（FitNets）: 生徒モデルの中間層の特徴を、教師モデルの中間層の特徴に合わせる。"""

import torch.nn.functional as F
from torch import Tensor

from tlkit.losses._precision import require_floating, returned, to_work


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""特徴の差の二乗を、すべての要素で平均する。

        L = (1/M) Σ_k (s_k − t_k)²、M は要素の総数（標本、チャネル、位置をまとめて数える）

    二つの形がそろっていなければならない。チャネル数が違うときは、生徒モデルの特徴を 1×1 の畳み込み
    （全結合なら線形層）の回帰器に通してから渡す。回帰器は生徒モデルと一緒に学習し、終われば捨てる。

    Args:
        student_features: 回帰器を通した生徒モデルの特徴。(N, D) や (N, C, H, W)。
        teacher_features: 教師モデルの特徴。student_features と同じ形。勾配を止めるなら `detach()` して渡す。

    Returns:
        0 次元のテンソル。単位は特徴の二乗。dtype は student_features と同じ（autocast の中では float32）。

    Raises:
        ValueError: 形がそろっていないか、空か、浮動小数点でないか、device が違うとき。

    出典: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550, 式 (3)。
        論文は二乗和の ½。ここでは平均にして、特徴の大きさと重みの値を切り離す。
    """
    shapes = tuple(student_features.shape), tuple(teacher_features.shape)
    if shapes[0] != shapes[1] or len(shapes[0]) < 2 or student_features.numel() == 0:
        raise ValueError(
            f"student_features {shapes[0]}、teacher_features {shapes[1]} が渡されました。"
            "(N, D) や (N, C, H, W) の、空でない同じ形にそろえてください。"
            "チャネル数が違うなら、生徒モデルの特徴を 1×1 の畳み込みの回帰器に通してから渡します。"
        )
    require_floating(("student_features", "teacher_features"), student_features, teacher_features)
    return returned(F.mse_loss(to_work(student_features), to_work(teacher_features)), student_features)
