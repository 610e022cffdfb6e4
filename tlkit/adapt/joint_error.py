"""Ben-David の上界の三つ目の項 λ*: 一つの仮説で、二つのドメインを同時にどこまで正しく分類できるか。"""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlkit.transferability.inputs import as_features


class JointError(NamedTuple):
    """λ* の見積もり。total = source + target。"""

    total: float
    source: float
    target: float


def joint_error(
    source: object, source_labels: object, target: object, target_labels: object, *, seed: int
) -> JointError:
    r"""λ* = min_h [ε_S(h) + ε_T(h)] の見積もり。h は線形の分類器に限る。

    各ドメインの半分ずつを合わせて一つのロジスティック回帰を学習し、残りの半分での誤り率を、ドメインごとに測って足す。
    ドメインの重みは等しくする。最小化が近似であることと、学習が有限の標本であることから、平均すると真の λ* より大きめの値になる。

    ターゲットのラベルを使うので、**診断のためだけの量**である。手法や設定を選ぶのに使ってはならない。

    Args:
        source: ソースの特徴 (N, D)。N ≥ 4。
        source_labels: ソースのラベル (N,)。
        target: ターゲットの特徴 (M, D)。M ≥ 4。
        target_labels: ターゲットのラベル (M,)。
        seed: 標本を半分に分ける乱数の種。

    Returns:
        total（λ* の見積もり）と、その内訳 source、target。誤り率は 0 以上 1 以下。

    Raises:
        ValueError: 形や件数が合わないとき。学習に使う半分に、クラスが一つしかないとき。

    出典: Ben-David et al., "A theory of learning from different domains", Machine Learning 79 (2010), 定義 2 と定理 2。
    """
    xs, xt = (as_features(z, name, least=4).cpu().numpy() for z, name in ((source, "source"), (target, "target")))
    ys, yt = _labels(source_labels, xs, "source_labels"), _labels(target_labels, xt, "target_labels")
    if xs.shape[1] != xt.shape[1]:
        raise ValueError(f"source は {xs.shape[1]} 次元、target は {xt.shape[1]} 次元です。同じ特徴を渡してください。")
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(len(x)), 2) for x in (xs, xt)]
    train_x = np.concatenate([x[half[0]] for x, half in zip((xs, xt), halves, strict=True)])
    train_y = np.concatenate([y[half[0]] for y, half in zip((ys, yt), halves, strict=True)])
    if len(np.unique(train_y)) < 2:
        raise ValueError(
            "学習に使う半分のラベルが、1 種類しかありません。2 種類以上のクラスのある標本を渡してください。"
        )
    weights = np.concatenate([np.full(len(half[0]), 1 / len(half[0])) for half in halves])
    joint = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    joint.fit(train_x, train_y, logisticregression__sample_weight=weights * len(weights) / 2)
    errors = [
        float(np.mean(joint.predict(x[half[1]]) != y[half[1]]))
        for x, y, half in zip((xs, xt), (ys, yt), halves, strict=True)
    ]
    return JointError(sum(errors), *errors)


def _labels(labels: object, features: np.ndarray, name: str) -> np.ndarray:
    """(N,) の整数。二つのドメインで同じ番号は同じクラスなので、番号は付け直さない。"""
    array = torch.as_tensor(labels).detach().cpu().numpy()
    if array.shape != (len(features),) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name} は形 {array.shape}、dtype {array.dtype} です。特徴と同じ件数 ({len(features)},) の整数が必要です。"
        )
    return array
