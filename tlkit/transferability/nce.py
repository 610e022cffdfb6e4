"""NCE: ソースのラベルを知ったときの、ターゲットのラベルの条件付きエントロピー（符号を反転したもの）。"""

import torch

from tlkit.transferability.inputs import as_labels


def nce(source_labels: object, labels: object) -> float:
    r"""NCE = −H(Y | Z) = Σ_{y,z} P̂(y, z) log [P̂(y, z) / P̂(z)]。0 以下で、大きいほど予測しやすい。

    z は、ソースのモデルが同じ画像に付けたラベルである。LEEP は z の確率を使い、NCE は最も確率の高い z だけを使う。

    Args:
        source_labels: ソースのクラスの番号 (N,)。
        labels: ターゲットのクラスの番号 (N,)。

    Returns:
        負の条件付きエントロピー [nat]。自然対数を使う。

    Raises:
        ValueError: 形が合わないか、整数でないとき。

    出典: Tran, Nguyen & Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019。
    """
    count = len(torch.as_tensor(labels))
    z, sources = as_labels(source_labels, count, "source_labels", classes=1)
    y, classes = as_labels(labels, count, classes=1)
    joint = torch.bincount(y * sources + z, minlength=classes * sources).reshape(classes, sources).double() / count
    conditional = joint / joint.sum(0)  # 現れたラベルだけに番号を振り直したので、列の和は 0 にならない
    return float(torch.special.xlogy(joint, conditional).sum())
