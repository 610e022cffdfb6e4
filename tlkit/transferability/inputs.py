"""指標に共通する引数の確認。NumPy の配列と PyTorch のテンソルのどちらも受け取る。"""

import torch
from torch import Tensor


def as_features(features: object, name: str = "features", least: int = 2) -> Tensor:
    """(N, D) の float64 テンソルにする。

    Raises:
        ValueError: 2 次元でないか、件数が least に満たないか、有限でない値があるとき。
    """
    tensor = torch.as_tensor(features).detach().to(torch.float64)
    if tensor.ndim != 2 or len(tensor) < least or tensor.shape[1] < 1:
        raise ValueError(f"{name} の形は {tuple(tensor.shape)} です。(N, D) で、N は {least} 以上が必要です。")
    if not bool(
        torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all()
    ):  # 和が有限なら、どの値も有限。この順なら速い
        raise ValueError(f"{name} に有限でない値（NaN か無限大）があります。特徴の計算を確かめてください。")
    return tensor


def as_labels(labels: object, count: int, name: str = "labels", classes: int = 2) -> tuple[Tensor, int]:
    """ラベルを 0 から始まる連番に直し、(N,) の int64 テンソルと、現れたクラスの数を返す。

    Raises:
        ValueError: 形が (count,) でないか、整数でないか、現れたクラスが classes より少ないとき。
    """
    tensor = torch.as_tensor(labels).detach()
    if tensor.shape != (count,):
        raise ValueError(f"{name} の形は {tuple(tensor.shape)} です。特徴と同じ件数の ({count},) が必要です。")
    if tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"{name} の dtype は {tensor.dtype} です。クラスの番号（整数）を渡してください。")
    values, index = torch.unique(tensor, return_inverse=True)
    if len(values) < classes:
        raise ValueError(f"{name} に現れるクラスは {len(values)} 種類です。{classes} 種類以上が必要です。")
    return index, len(values)
