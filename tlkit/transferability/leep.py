"""LEEP: ソースのモデルが出す確率だけから、ターゲットのラベルの予測しやすさを見積もる。"""

import torch

from tlkit.transferability.inputs import as_features, as_labels

_ROWS = 256  # 一度に扱う行の数


def leep(source_probs: object, labels: object) -> float:
    r"""LEEP。0 以下で、大きいほど予測しやすい。

    ソースのモデルをターゲットの画像に適用し、ソースのクラス z の確率 θ(x_i)_z を得る。

        P̂(y, z) = (1/N) Σ_{i: y_i = y} θ(x_i)_z、   P̂(y | z) = P̂(y, z) / P̂(z)
        LEEP = (1/N) Σ_i log Σ_z P̂(y_i | z) θ(x_i)_z

    どの画像でも確率が 0 のソースのクラスは、P̂(z) = 0 で割ることになるので除く。

    Args:
        source_probs: (N, Z) の確率。各行の和が 1。
        labels: ターゲットのクラスの番号 (N,)。

    Returns:
        平均の対数尤度 [nat]。自然対数を使う。

    Raises:
        ValueError: 形が合わないか、各行が確率でないとき。

    出典: Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020。
    """
    probs = as_features(source_probs, "source_probs", least=1)
    if bool(probs.min() < -1e-6) or bool(((probs.sum(1) - 1).abs() > 1e-3).any()):
        raise ValueError(
            "source_probs の各行が確率ではありません（負の値があるか、和が 1 から離れています）。softmax を通してください。"
        )
    index, classes = as_labels(labels, len(probs), classes=1)
    joint = torch.zeros(classes, probs.shape[1], dtype=probs.dtype, device=probs.device).index_add_(0, index, probs)
    marginal = joint.sum(0)
    conditional = joint / torch.where(marginal > 0, marginal, 1)  # P̂(y | z): (C, Z)。現れない z の列は 0 になる
    parts = zip(torch.split(index, _ROWS), torch.split(probs, _ROWS), strict=True)  # (N, Z) の写しを作らない
    likelihood = torch.cat([torch.linalg.vecdot(conditional[y], theta) for y, theta in parts])
    return float(likelihood.log().mean())
