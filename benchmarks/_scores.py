"""転移可能性の指標の、公開されている計算のしかたの再実装（論文の式から書き起こしたもの。借りたコードではない）。

指標を公開しているライブラリ tllib は、パッケージの置き場から入れられない。同じ手順をここに書き、比べる相手にする。
"""

import math

import numpy as np
from scipy.optimize import minimize

Array = np.ndarray


def logme_icml(features: Array, labels: Array) -> float:
    """LogME の初めの論文（ICML 2021）の手順。D × D の行列を特異値分解し、クラスごとに不動点を反復する。

    D > N でも正しい式だが、t の変化が 1 % を下回ると止まるので、最大値に少し届かない。
    """
    n, d = features.shape
    v, s, vh = np.linalg.svd(features.T @ features)
    values = []
    for c in np.unique(labels):
        y = (labels == c).astype(np.float64)
        projected, alpha, beta = vh @ (features.T @ y), 1.0, 1.0
        for _ in range(11):
            t = alpha / beta
            gamma = (s / (s + t)).sum()
            mean = v @ (projected * beta / (alpha + beta * s))
            norm, residual = mean @ mean, np.square(y - features @ mean).sum()
            alpha, beta = gamma / norm, (n - gamma) / residual
            if abs(alpha / beta - t) < 0.01 * t:
                break
        logs = d * np.log(alpha) + n * np.log(beta / (2 * np.pi)) - np.log(alpha + beta * s).sum()
        values.append((logs - beta * residual - alpha * norm) / (2 * n))
    return float(np.mean(values))


def logme_exact(features: Array, labels: Array) -> float:
    """証拠を log α と log β の 2 変数の関数として、汎用の最適化で最大にする。tlkit とは別の道筋での答え合わせ。"""
    n = len(features)
    u, singular, _ = np.linalg.svd(features, full_matrices=False)
    s, best = singular**2, []
    null = n - len(s)  # FFᵀ の 0 の固有値の数
    for c in np.unique(labels):
        y = (labels == c).astype(np.float64)
        energy = (u.T @ y) ** 2
        rest = y @ y - energy.sum() if null else 0.0

        def negative(p: Array, energy: Array = energy, rest: float = rest) -> float:
            """Y ~ N(0, FFᵀ/α + I/β) の対数密度の符号を変えたもの。p = (log α, log β)。"""
            p = np.clip(p, -600, 600)  # 端では平らなので、最大値は変わらない
            variance = s * math.exp(-p[0]) + math.exp(-p[1])
            quadratic = (energy / variance).sum() + rest * math.exp(p[1])
            return float(quadratic + np.log(variance).sum() - null * p[1] + n * math.log(2 * math.pi)) / (2 * n)

        starts = [(a, b) for a in (0.0, 4.0, 8.0) for b in (1.0, 4.0)]
        settings = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000}
        best.append(min(minimize(negative, x0, method="Nelder-Mead", options=settings).fun for x0 in starts))
    return float(-np.mean(best))


def h_score_covariances(features: Array, labels: Array) -> float:
    """H スコアの定義どおり: np.cov、特異値分解による擬似逆行列、D × D の行列の積。"""
    means = np.zeros_like(features)
    for c in np.unique(labels):
        means[labels == c] = features[labels == c].mean(0)
    inverse = np.linalg.pinv(np.cov(features, rowvar=False), rcond=1e-15)
    return float(np.trace(inverse @ np.cov(means, rowvar=False)))


def leep_loop(source_probs: Array, labels: Array) -> float:
    """LEEP の定義どおり: クラスごとの和と、全クラスの予測を作ってから正解を取り出すループ。"""
    n = len(labels)
    joint = np.stack([source_probs[labels == c].sum(0) / n for c in range(labels.max() + 1)])
    predictions = source_probs @ (joint / joint.sum(0)).T
    return float(np.mean(np.log([row[c] for row, c in zip(predictions, labels, strict=True)])))


def nce_loop(source_labels: Array, labels: Array) -> float:
    """NCE の定義どおり: 1 件ずつ数えて同時分布を作る。"""
    joint = np.zeros((labels.max() + 1, source_labels.max() + 1))
    for z, y in zip(source_labels, labels, strict=True):
        joint[y, z] += 1 / len(labels)
    column = np.broadcast_to(joint.sum(0), joint.shape)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / column[seen])).sum())
