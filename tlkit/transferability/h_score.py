"""H スコア: 特徴の広がりのうち、クラスの違いが占める割合。"""

import torch

from tlkit.transferability.inputs import as_features, as_labels


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
    means = (
        torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, index, centred) / counts[:, None]
    )
    within_all = centred.T @ centred / (len(x) - 1)
    between = (means * counts[:, None]).T @ means / (len(x) - 1)
    return float((torch.linalg.pinv(within_all, hermitian=True) * between).sum())
