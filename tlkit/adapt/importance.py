"""共変量シフトの重要度重み p_T(x)/p_S(x) と、重みの質を表す実効標本数。ラベルシフトは `label_shift.py`。"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tlkit.transferability.inputs import as_features

FOLDS = 5


def importance_weights(source: object, target: object, *, seed: int) -> Tensor:
    r"""ソースの標本ごとの密度比 w(x) = p_T(x) / p_S(x) を、ドメイン識別器から見積もる。

        w(x) = (n_S / n_T) · P(T | x) / P(S | x)

    識別器は、標準化した特徴の上のロジスティック回帰である。ソースを 5 つに分け、ある組の重みは、その組を除いて
    学習した識別器で求める（学習に使った標本では、識別器が自信を持ちすぎるため）。重みの平均は 1 にそろえない。

    仮定は二つ。共変量シフト（P(Y | X) が両ドメインで同じ）と、台の包含（p_T(x) > 0 ならば p_S(x) > 0）である。
    ソースに一件もない領域は、どんな重みでも補えない。また、密度比の対数が特徴の 1 次式に近くなければ、重みは偏る。
    分散だけが違うときは、特徴の 2 乗を列に加えるとよい。使う前に `effective_sample_size` で確かめること。

    Args:
        source: ソースの特徴 (N, D)。N ≥ 10。
        target: ターゲットの特徴 (M, D)。M ≥ 2。ラベルは要らない。
        seed: ソースを組に分ける乱数の種。

    Returns:
        (N,) の正のテンソル。source が浮動小数点のテンソルなら同じ dtype と device、それ以外は CPU の float64。

    Raises:
        ValueError: 形が合わないか、標本が少なすぎるか、値が有限でないとき。

    出典: Bickel, Brückner, Scheffer, "Discriminative Learning Under Covariate Shift", JMLR 10 (2009)。
        重みを使う理由は Shimodaira, J. Statistical Planning and Inference 90 (2000)。ほかの見積もり方は
        Sugiyama, Suzuki, Kanamori, "Density Ratio Estimation in Machine Learning" (2012)。
    """
    a = as_features(source, "source", least=2 * FOLDS).cpu().numpy()
    b = as_features(target, "target").cpu().numpy()
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"source は {a.shape[1]} 次元、target は {b.shape[1]} 次元です。同じ特徴を渡してください。")
    weights = np.empty(len(a))
    for held_out in np.array_split(np.random.default_rng(seed).permutation(len(a)), FOLDS):
        rest = np.delete(a, held_out, axis=0)
        weights[held_out] = len(rest) / len(b) * np.exp(_log_odds(rest, b, a[held_out]))
    like = source if isinstance(source, Tensor) and source.is_floating_point() else torch.empty(0, dtype=torch.float64)
    return torch.from_numpy(weights).to(like)


def effective_sample_size(weights: object) -> float:
    r"""実効標本数 (Σ w)² / Σ w²。等しい重みで同じ分散になる標本の数の目安。

    重みがすべて等しければ N、一件だけが 0 でなければ 1。重みを定数倍しても変わらない。

    Args:
        weights: (N,) の 0 以上の有限な数。和は正。

    Raises:
        ValueError: 1 次元でないか、負か有限でない値があるか、すべて 0 のとき。

    出典: Kong, "A note on importance sampling using standardized weights", Univ. of Chicago TR 348 (1992)。
    """
    w = torch.as_tensor(weights, dtype=torch.float64).detach()
    if w.ndim != 1 or not bool((torch.isfinite(w) & (w >= 0)).all()) or not bool(w.any()):
        raise ValueError(
            f"形 {tuple(w.shape)} の重みが渡されました。0 以上の有限な数を 1 列に並べ、少なくとも一つは正にしてください。"
        )
    w = w / w.max()  # 大きな重みの 2 乗があふれないように
    return float(w.sum().square() / w.square().sum())


def _log_odds(source: np.ndarray, target: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x がターゲットに属する対数オッズ。確率を経ないので、1 に丸められて割れなくなることがない。"""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(np.concatenate([source, target]), np.repeat([0, 1], [len(source), len(target)]))
    return np.asarray(classifier.decision_function(x))
