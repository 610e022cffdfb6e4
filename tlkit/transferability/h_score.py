"""H スコア: 特徴の広がりのうち、クラスの違いが占める割合。"""

import torch
from torch import Tensor

from tlkit.transferability.inputs import as_features, as_labels

_SAFE = 1e-4  # コレスキー分解の対角の比。これより小さければ、丸め誤差で崩れるおそれがある


def h_score(features: object, labels: object) -> float:
    r"""H = tr( cov(f)⁺ cov(E[f | y]) )。0 以上で、大きいほどクラスが分かれている。

    ⁺ は擬似逆行列である。D ≥ N − 1 では、どんな特徴でも C − 1（クラスの数 − 1）に張り付き、意味を失う。

    Args:
        features: 特徴 (N, D)。
        labels: クラスの番号 (N,)。

    Returns:
        H スコア（単位なし）。

    Raises:
        ValueError: 形、値、クラスの数が条件に合わないとき。

    出典: Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019。
    """
    x = as_features(features)
    index, classes = as_labels(labels, len(x))
    centred = x - x.mean(0)
    counts = torch.bincount(index, minlength=classes).to(x)
    sums = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, index, centred)
    means = sums / counts.sqrt()[:, None]  # クラスの平均に √(件数) を掛けたもの。meansᵀ means が群間の散布になる
    return float(_pinv_energy(centred.T @ centred, means))


def _pinv_energy(scatter: Tensor, means: Tensor) -> Tensor:
    """tr(means scatter⁺ meansᵀ)。scatter (D, D) は半正定値、means (C, D)。N − 1 は分子と分母で消える。"""
    factor, failed = torch.linalg.cholesky_ex(scatter)
    pivots = factor.diagonal()
    if not failed and pivots.min() > _SAFE * pivots.max():  # 逆行列があるなら、擬似逆行列より速い
        whitened: Tensor = torch.linalg.solve_triangular(factor, means.T, upper=False)
        return whitened.square().sum()
    inverse: Tensor = torch.linalg.pinv(scatter, hermitian=True)
    return ((means @ inverse) * means).sum()
