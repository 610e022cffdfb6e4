"""クイズの `computed_by` の式が使える関数。すべて numpy だけの素朴な実装で、tlkit を呼ばない。

式の中では、ここの関数のほかに `math` と `np`（numpy）が使える。結果は数、数の組、または選択肢そのものの文字列にする。
選択肢の数値が小数なら、書かれた桁に丸めて比べる（選択肢「0.987」は 0.98661… と合う）。整数と分数と √ は、厳密に比べる。
"""

import numpy as np


def squared_distances(x, y):
    """すべての組の距離の二乗。"""
    x, y = _points(x), _points(y)
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=-1)


def rbf(x, y, sigma):
    """RBF カーネルの行列 exp(-d² / (2σ²))。"""
    return np.exp(-squared_distances(x, y) / (2 * sigma**2))


def mmd2_linear(x, y):
    """線形カーネルの MMD²（V 統計量）: 平均の差のノルムの二乗。"""
    return float(((_points(x).mean(axis=0) - _points(y).mean(axis=0)) ** 2).sum())


def mmd2_biased(x, y, sigma):
    """RBF カーネルの MMD² の V 統計量（偏りのある推定量）。"""
    return float(rbf(x, x, sigma).mean() + rbf(y, y, sigma).mean() - 2 * rbf(x, y, sigma).mean())


def mmd2_unbiased(x, y, sigma):
    """RBF カーネルの MMD² の U 統計量（不偏推定量）。"""
    return float(_off_diagonal(rbf(x, x, sigma)) + _off_diagonal(rbf(y, y, sigma)) - 2 * rbf(x, y, sigma).mean())


def softmax(logits, temperature=1.0):
    """温度付きソフトマックス。"""
    scaled = np.asarray(logits, dtype=float) / temperature
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()


def shift_name(source, target):
    """同時分布（行が X、列が Y）の組から、「動かない分布、シフトの名前」。一つに決まらなければ「なし、概念シフト」。"""
    names = {"P(Y|X)": "共変量シフト", "P(X|Y)": "ラベルシフト", "P(X)": "概念シフト"}
    before, after = _parts(source), _parts(target)
    same = [part for part in before if np.allclose(before[part], after[part])]
    return f"{same[0]}、{names[same[0]]}" if len(same) == 1 and same[0] in names else "なし、概念シフト"


def _parts(joint):
    """同時分布の、二つの周辺分布と二つの条件付き分布。"""
    table = np.asarray(joint, dtype=float)
    x, y = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    return {"P(X)": x, "P(Y)": y, "P(Y|X)": table / x, "P(X|Y)": table / y}


def _points(values):
    """数の並びは 1 次元の点の並びとみなす。"""
    array = np.asarray(values, dtype=float)
    return array[:, None] if array.ndim == 1 else array


def _off_diagonal(gram):
    n = len(gram)
    return (gram.sum() - np.trace(gram)) / (n * (n - 1))
