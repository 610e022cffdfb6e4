"""LogME: 特徴の上に線形モデルを置いたときの、ラベルの（周辺）尤度の最大値。"""

import math

import torch
from torch import Tensor

from tlkit.transferability.inputs import as_features, as_labels

_GRID = 96  # log t の粗い探索の点数
_GOLDEN = (math.sqrt(5) - 1) / 2


def logme(features: object, labels: object) -> float:
    r"""LogME。大きいほど、この特徴でラベルを予測しやすい。

    クラスごとに「そのクラスか否か」の y ∈ {0, 1}ᴺ を作り、w ~ N(0, α⁻¹I)、y = Fw + ε、ε ~ N(0, β⁻¹I) のもとで
    証拠 log p(y | F, α, β) を α と β について最大にする。その値を N で割り、クラスについて平均する。

    t = α/β と置くと、β の最大は式で求まり、探すのは t だけになる。s_i を FFᵀ の固有値、z_i を y の固有方向の成分とすると、

        R(t) = Σ_i z_i² t/(t + s_i) + ‖y の残り‖²、   β = N / R(t)
        2 log p = N log(N/R) − N − N log 2π + Σ_i [log t − log(t + s_i)]

    公開されている不動点反復は、D > N で別の値を返す（`published.py`）。ここでは格子で山を囲み、黄金分割で頂上を求める。

    Args:
        features: 特徴 (N, D)。平均は引かない。D > N でもよい。
        labels: クラスの番号 (N,)。

    Returns:
        クラスの平均の、1 件あたりの対数証拠 [nat]。特徴がラベルを誤差なく説明し、かつ D < N なら無限大。

    Raises:
        ValueError: 形、値、クラスの数が条件に合わないとき。

    出典: You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021。
    """
    x = as_features(features)
    index, classes = as_labels(labels, len(x))
    y = torch.nn.functional.one_hot(index, classes).to(x)  # (N, C)
    eigenvalues, energy, rest = _spectrum(x, y)
    if eigenvalues.numel() == 0:  # 特徴がすべて 0
        return float(_evidence(torch.ones(1, classes).to(x), eigenvalues, energy, rest, len(x)).mean() / len(x))
    return float(_maximise(eigenvalues, energy, rest, len(x)).mean() / len(x))


def _spectrum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """正の固有値 s (r,)、その方向の y のエネルギー z² (r, C)、残りのエネルギー (C,) を返す。"""
    n, d = x.shape
    if d < n:  # 小さいほうのグラム行列だけを分解する
        s, v = torch.linalg.eigh(x.T @ x)
        keep = s > s[-1] * max(n, d) * torch.finfo(s.dtype).eps
        s = s[keep]
        energy = (v[:, keep].T @ (x.T @ y)).square() / s[:, None]
    else:
        s, u = torch.linalg.eigh(x @ x.T)
        keep = s > s[-1] * max(n, d) * torch.finfo(s.dtype).eps
        s, energy = s[keep], (u[:, keep].T @ y).square()
    total = y.square().sum(0)
    rest = (total - energy.sum(0)).clamp(min=0)
    rest[rest < total * n * torch.finfo(s.dtype).eps] = 0  # 丸め誤差を「残り」と見なさない
    return s, energy, rest


def _evidence(t: Tensor, s: Tensor, energy: Tensor, rest: Tensor, n: int) -> Tensor:
    """t (G, C) での、β について最大にした対数証拠 (G, C)。"""
    shrink = t[:, None, :] / (t[:, None, :] + s[None, :, None])  # (G, r, C)
    residual = (energy * shrink).sum(1) + rest
    return 0.5 * (n * torch.log(n / residual) - n - n * math.log(2 * math.pi) + torch.log(shrink).sum(1))


def _maximise(s: Tensor, energy: Tensor, rest: Tensor, n: int) -> Tensor:
    """対数証拠の最大値 (C,)。log t について、格子で最大の点を囲み、黄金分割で詰める。"""
    classes = energy.shape[1]
    low, high = float(s.min().log()) - 25.0, float(s.max().log()) + 25.0
    grid = torch.linspace(low, high, _GRID, dtype=s.dtype, device=s.device)
    chunks = torch.split(grid, max(1, 4_000_000 // (len(s) * classes)))  # 一度に作る配列を 32 MB 程度に抑える
    values = torch.cat([_evidence(part.exp()[:, None].expand(-1, classes), s, energy, rest, n) for part in chunks])
    best = values.argmax(0).clamp(1, _GRID - 2)
    left, right = grid[best - 1], grid[best + 1]
    for _ in range(48):  # 幅は 0.618⁴⁸ ≈ 1e−10 倍になる
        a, b = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
        value_a, value_b = _evidence(torch.stack([a, b]).exp(), s, energy, rest, n)
        left, right = torch.where(value_a < value_b, a, left), torch.where(value_a < value_b, right, b)
    peak = _evidence(((left + right) / 2).exp()[None], s, energy, rest, n)[0]
    unbounded = (rest == 0) & (len(s) < n)
    return torch.where(unbounded, torch.inf, torch.maximum(peak, values.max(0).values))
