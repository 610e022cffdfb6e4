"""線形プローブ: 特徴抽出器を動かさずに、分類の層だけを最適にする。

LP-FT（線形プローブ → 全体のファインチューニング）の前半である。後半は、ふつうに `tlkit.training.fit` で学習する。
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit._stages import find_head
from tlkit.finetune.features import extract_features

_ABSENT = 20.0  # 学習データに現れないクラスの確率を、exp(−20) 以下にする
_CURVATURE = 0.01  # 確率の分散 p(1 − p) の目安。解は変わらず、反復の回数だけが変わる


def fit_head(model: nn.Module, loader: Iterable[Any], *, l2: float = 1e-3, device: str | None = None) -> nn.Module:
    """分類の層だけを、次の式の最小解にする（LP-FT の線形プローブ）。

        L(W, b) = (1/N) Σ_i CE(W f(x_i) + b, y_i) + (l2 / 2) ‖W‖²

    特徴 f(x) は一度だけ計算する。L は凸なので、L-BFGS 法（倍精度、0 から始める）で最小解が一つに決まる。
    元の分類の層の重みにも、乱数にもよらない。b には罰則を掛けない。
    先に分類の層を合わせておくと、続くファインチューニングの初めに、大きな勾配が特徴を壊すのを防げる。

    学習データに現れないクラスでは、L の下限は b_c → −∞ にある。そこで W_c = 0 とし、b_c を確率が e⁻²⁰ 以下になる値にする。

    Args:
        model: `features(x)` が (N, D) を返し、最後が線形層で、出力がその線形層(features(x)) になるモデル。
            その場で変える。変わるのは線形層の値だけで、凍結の範囲、訓練・評価の状態、移動統計は変わらない。
        loader: （入力, ラベル）の組を順に返すもの。ラベルは 0 からクラス数 − 1 までの整数 (N,)。
        l2: 罰則の強さ。scikit-learn の LogisticRegression では C = 1 / (l2·N) に当たる。
        device: 特徴を計算する装置（`tlkit.device.pick_device` の名前）。指定すると、モデルもそこへ移る。

    Returns:
        受け取ったモデル。

    Raises:
        ValueError: 分類の層が線形層でないか、l2 が正の有限の値でないか、ラベルや特徴が合わないか、解が求まらないとき。

    出典: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
    ICLR 2022, arXiv:2202.10054。
    """
    name, head = find_head(model)
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"分類の層 {name} は {type(head).__name__} です。線形層（nn.Linear）が必要です。"
            "torchvision のモデルは TransferModel(num_classes, backbone=名前) として作ってください。"
        )
    if not (math.isfinite(l2) and l2 > 0):
        raise ValueError(f"l2 に {l2!r} が渡されました。正の有限の値が必要です（0 では、最小解があるとは限りません）。")
    features, labels = extract_features(model, loader, device=device)
    _require_matching(features, labels, head)
    weight, bias = _least_loss(features.double(), labels.long(), head, l2)
    with torch.no_grad():
        head.weight.copy_(weight)
        if _has_bias(head):
            head.bias.copy_(bias)
    return model


def _require_matching(features: Tensor, labels: Tensor, head: nn.Linear) -> None:
    if features.shape[1] != head.in_features:
        raise ValueError(
            f"特徴は {features.shape[1]} 次元ですが、分類の層の入力は {head.in_features} 次元です。"
            "features(x) が、分類の層に入る値をそのまま返すモデルが必要です。"
        )
    if not torch.isfinite(features).all():
        raise ValueError("特徴に NaN か無限大があります。入力の画素値と、モデルの重みを確かめてください。")
    integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim != 1 or not integers or not 0 <= int(labels.min()) <= int(labels.max()) < head.out_features:
        raise ValueError(
            f"ラベルの形が {tuple(labels.shape)}、dtype が {labels.dtype} で、値の例は {labels.flatten()[:5].tolist()} です。"
            f"0 から {head.out_features - 1} までの整数 (N,) が必要です。"
        )


def _has_bias(head: nn.Linear) -> bool:
    return "bias" in dict(head.named_parameters())


def _least_loss(features: Tensor, labels: Tensor, head: nn.Linear, l2: float) -> tuple[Tensor, Tensor]:
    """最小解の W (C, D) と b (C,)。"""
    if not _has_bias(head):
        parameters = _minimize(features, F.one_hot(labels, head.out_features).to(features), l2)
        return parameters, parameters.new_zeros(head.out_features)
    mean = features.mean(0)  # 平均を引いておくと速い。b が罰則なしに吸収するので、解は変わらない
    present, positions = torch.unique(labels, return_inverse=True)
    parameters = _minimize(features - mean, F.one_hot(positions, len(present)).to(features), l2, bias=True)
    weight = features.new_zeros(head.out_features, features.shape[1])
    weight[present] = parameters[:, :-1]
    found = parameters[:, -1] - parameters[:, :-1] @ mean
    smallest = (features @ weight[present].T + found).logsumexp(1).min()
    bias = (smallest - _ABSENT).expand(head.out_features).clone()
    bias[present] = found
    return weight, bias


def _minimize(x: Tensor, onehot: Tensor, l2: float, *, bias: bool = False) -> Tensor:
    """L の最小解 (C, D)。bias なら、b を最後の列に付けた (C, D + 1)。"""
    from scipy.optimize import minimize  # 読み込みが遅いので、使うときにだけ読み込む

    penalty = x.new_full((x.shape[1] + bias,), l2)
    if bias:
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        penalty[-1] = 0
    unit = (_CURVATURE * x.square().mean(0) + penalty).sqrt()  # 次元ごとの大きさをそろえると、速く収束する
    x, penalty = x / unit, penalty / unit.square()
    shape = (onehot.shape[1], x.shape[1])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.from_numpy(flat).reshape(shape)
        log_p = (x @ theta.T).log_softmax(1)
        value = -(onehot * log_p).sum() / len(x) + (penalty * theta.square()).sum() / 2
        gradient = (log_p.exp() - onehot).T @ x / len(x) + penalty * theta
        return float(value), gradient.flatten().numpy()

    start = np.zeros(shape).ravel()
    first = float(np.abs(objective(start)[1]).max())
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-8 * first}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    left = float(np.abs(found.jac).max())
    if not left <= 1e-5 * first:
        raise ValueError(
            f"最小解が求まりませんでした（{found.nit} 回の反復で、勾配が {first:.1e} から {left:.1e} にしか減りません）。"
            "l2 を大きくするか、特徴の大きさを次元の間でそろえてください。"
        )
    return torch.from_numpy(found.x).reshape(shape) / unit
