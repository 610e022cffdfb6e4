"""公開されている LogME の計算のしかた。どこが合わないかを章で調べるために残してある。使うのは `logme.py` のほう。"""

import math

import torch
from torch import Tensor

from tlkit.transferability.inputs import as_features, as_labels

_TINY = 1e-5  # 公開された実装が、0 で割らないために分母に足している数
_STEPS, _TOLERANCE = 11, 1e-3  # 反復の上限と、t の相対変化による打ち切り


def logme_published(features: object, labels: object, *, repaired: bool = False) -> float:
    r"""公開された不動点反復による LogME。D > N では、証拠の最大値ではない値を返す。

    クラスごとに α = β = 1 から始め、t = α/β が落ち着くまで次を繰り返す（σ_i は FFᵀ の k = min(N, D) 個の固有値）。

        γ = Σ σ_i/(σ_i + t)、   α ← γ / ‖m‖²、   β ← (N − γ) / ‖y − Fm‖²

    そのあと、証拠を次の式で求める。A = αI + βFᵀF は D × D の行列である。

        log p = (D/2) log α + (N/2) log β − ½ log|A| − (β/2)‖y − Fm‖² − (α/2)‖m‖² − (N/2) log 2π

    公開された実装は、log|A| を k 個の固有値だけの和 Σ log(α + βσ_i) にしている。D > N では、固有値が α になる
    残りの D − k 方向を落としており、D に比例する (D − k)/2 · log α だけ値がずれる。

    Args:
        features: 特徴 (N, D)。平均は引かない。
        labels: クラスの番号 (N,)。
        repaired: True なら、落ちている D − k 方向も log|A| に加える。反復を途中で打ち切る誤差だけが残る。

    Returns:
        クラスの平均の、1 件あたりの「対数証拠」[nat]。

    Raises:
        ValueError: 形、値、クラスの数が条件に合わないとき。

    出典: You et al., "Ranking and Tuning Pre-trained Models: A New Paradigm for Exploiting Model Hubs", JMLR 23 (2022)。
        誤りの報告: GitHub の thuml/LogME、issue 23。
    """
    x = as_features(features)
    index, classes = as_labels(labels, len(x))
    u, singular, _ = torch.linalg.svd(x, full_matrices=False)
    y = torch.nn.functional.one_hot(index, classes).to(x)
    energy = (u.T @ y).square()  # (k, C)
    rest = y.square().sum(0) - energy.sum(0)
    sigma, dims = singular.square(), len(singular) if repaired else x.shape[1]
    values = [_evidence(sigma, energy[:, c], rest[c], len(x), dims) for c in range(classes)]
    return float(torch.stack(values).mean() / len(x))


def _evidence(sigma: Tensor, energy: Tensor, rest: Tensor, n: int, dims: int) -> Tensor:
    """一つのクラスの「対数証拠」。dims は log α に掛ける次元の数。"""
    alpha = beta = torch.ones((), dtype=sigma.dtype, device=sigma.device)
    for _ in range(_STEPS):
        t = alpha / beta
        gamma = (sigma / (sigma + t)).sum()
        norm = (sigma * energy / (sigma + t).square()).sum()  # ‖m‖²
        residual = (energy * (t / (sigma + t)).square()).sum() + rest  # ‖y − Fm‖²
        alpha, beta = gamma / (norm + _TINY), (n - gamma) / (residual + _TINY)
        if abs(alpha / beta - t) <= _TOLERANCE * t:
            break
    logs = dims * alpha.log() + n * beta.log() - (alpha + beta * sigma).log().sum() - n * math.log(2 * math.pi)
    return (logs - beta * residual - alpha * norm) / 2
