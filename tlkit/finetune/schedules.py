"""学習率の予定: 短く上げて長く下げる、斜め三角の学習率（slanted triangular learning rates）。

くり返し上げ直す予定は、PyTorch の `CosineAnnealingWarmRestarts` をそのまま使う。どちらも `fit` の scheduler に渡す。
"""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def slanted_triangular(optimizer: Optimizer, total_steps: int, *, cut_frac: float = 0.1, ratio: float = 32) -> LambdaLR:
    """斜め三角の予定を作る。更新のたびに 1 回進める（`fit` の scheduler と同じ）。

    t 回目（0 始まり）の更新の学習率は、T を更新の総数として、

        cut = ⌊T · cut_frac⌋
        p = t / cut                                   （t < cut）
        p = 1 − (t − cut) / (cut · (1/cut_frac − 1))  （t ≥ cut）
        η_t = η_max · (1 + p · (ratio − 1)) / ratio

    η_max は、グループごとに、optimizer に書いてある学習率である。層別学習率は、その比を保ったまま上下する。
    始まりと終わりは η_max / ratio、頂点は t = cut である。
    式のままでは困る所が二つあり、次のように補う。cut が 0 になるときは 1 とする。
    T · cut_frac が整数でないと終わりの方で p が負になる（学習率も負になりうる）ので、0 で止める。

    Args:
        optimizer: 最適化手法。グループの今の学習率を、頂点の値とみなす。
        total_steps: 更新の総数 T（エポック数 × 1 エポックの更新の数）。T 回を過ぎると、学習率は最小の値のままになる。
        cut_frac: 学習率を上げる区間の割合。0 より大きく 1 より小さい。
        ratio: 頂点の学習率が、最小の学習率の何倍か。1 なら、学習率は変わらない。

    Returns:
        PyTorch の LambdaLR。`state_dict` を保存して、再開に使える。

    Raises:
        ValueError: total_steps が 1 以上の整数でないか、cut_frac が 0 と 1 の間にないか、ratio が 1 以上の有限の値でないとき。

    出典: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018,
    arXiv:1801.06146 の式 (3)。既定の 0.1 と 32 も同じ。
    """
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise ValueError(
            f"total_steps に {total_steps!r} が渡されました。更新の総数（エポック数 × len(loader)）を、"
            "1 以上の整数で指定してください。"
        )
    if not 0 < cut_frac < 1:
        raise ValueError(f"cut_frac に {cut_frac!r} が渡されました。0 より大きく 1 より小さい値にしてください。")
    if not (math.isfinite(ratio) and ratio >= 1):
        raise ValueError(f"ratio に {ratio!r} が渡されました。1 以上の有限の値にしてください。")
    cut = max(1, math.floor(total_steps * cut_frac))
    # 名前の付いた関数にするのは、予定そのものも pickle できるようにするため
    return LambdaLR(optimizer, partial(_factor, cut=cut, cut_frac=cut_frac, ratio=ratio))


def _factor(step: int, *, cut: int, cut_frac: float, ratio: float) -> float:
    """頂点の学習率に掛ける値。1/ratio から 1 まで。"""
    p = step / cut if step < cut else max(0.0, 1 - (step - cut) / (cut * (1 / cut_frac - 1)))
    return (1 + p * (ratio - 1)) / ratio
