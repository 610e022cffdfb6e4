"""線形 CKA: 同じ入力に対する二つの特徴の、内積の構造の似ている度合い。"""

import torch

from tlkit.transferability.inputs import as_features


def linear_cka(x: object, y: object) -> float:
    r"""線形 CKA = ‖Yᵀ X‖²_F / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F)。X と Y は列の平均を引いたもの。0 以上 1 以下。

    行は同じ入力に対応していなければならない。直交変換と、全体の定数倍では変わらない。
    N が D に比べて小さいと、無関係な特徴でも大きな値になる（偏りのある推定）。

    Args:
        x: 特徴 (N, D₁)。
        y: 同じ N 個の入力の特徴 (N, D₂)。

    Raises:
        ValueError: 件数が違うか、値が有限でないか、特徴が一定のとき。

    出典: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019。
    """
    a, b = as_features(x, "x"), as_features(y, "y")
    if len(a) != len(b):
        raise ValueError(f"x は {len(a)} 件、y は {len(b)} 件です。行ごとに同じ入力の特徴を渡してください。")
    a, b = a - a.mean(0), b - b.mean(0)
    norms = _gram_norm(a) * _gram_norm(b)
    if norms == 0:
        raise ValueError("x か y の特徴が、すべての入力で同じ値です。似ている度合いを決められません。")
    return float((b.T @ a).square().sum() / norms)


def _gram_norm(x: torch.Tensor) -> torch.Tensor:
    """‖XᵀX‖_F = ‖XXᵀ‖_F。小さいほうのグラム行列で求める。"""
    norm: torch.Tensor = torch.linalg.matrix_norm(x.T @ x if x.shape[1] < len(x) else x @ x.T)
    return norm
