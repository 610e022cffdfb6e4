"""プロトタイプ（クラスごとの平均）と、そこまでの距離によるロジット。"""

import torch
from torch import Tensor


def prototypes(embeddings: Tensor, labels: Tensor) -> Tensor:
    """クラスごとの埋め込みの平均 c_k = (1 / N_k) Σ_{y_i = k} z_i を、ラベルの小さい順に並べて返す。

    ラベルは並んでいなくてよく、クラスごとの件数もそろっていなくてよい。

    Args:
        embeddings: 埋め込み z (N, D)。浮動小数点数。
        labels: ラベル y (N,)。整数。出てくる値の種類の数が C になる。

    Returns:
        (C, D)。dtype と装置は embeddings と同じで、勾配が流れる。k 行目は、`labels.unique()` の k 番目のクラスである。

    Raises:
        ValueError: 形が合わないか、空か、dtype が違うとき。

    出典: Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017, 式 (1)。
    """
    _check_points("embeddings", embeddings)
    if labels.shape != embeddings.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"形 {tuple(labels.shape)}、{labels.dtype} の labels が渡されました。"
            f"埋め込みの件数と同じ ({len(embeddings)},) の整数にしてください。"
        )
    classes, index, counts = torch.unique(labels.to(embeddings.device), return_inverse=True, return_counts=True)
    sums = embeddings.new_zeros(len(classes), embeddings.shape[1]).index_add(0, index, embeddings)
    means: Tensor = sums / counts.to(embeddings.dtype).unsqueeze(1)
    return means


def prototypical_logits(query: Tensor, prototypes: Tensor) -> Tensor:
    """ロジット −‖z − c_k‖²（ユークリッド距離の 2 乗に負号を付けたもの）。

    2 乗しない距離では、別の確率になる。‖z‖² + ‖c‖² − 2 z·c と展開して求めるので、(N, C, D) の記憶は要らない。
    展開すると、原点から遠い点では桁が失われる。そこで、両方からプロトタイプの平均を引いてから求める（距離は変わらない）。

    Args:
        query: 埋め込み z (N, D)。
        prototypes: プロトタイプ c (C, D)。

    Returns:
        (N, C)。0 以下である。softmax を取ると、クラスの確率になる。

    Raises:
        ValueError: 形か dtype が合わないとき。

    出典: Snell et al. 2017, 式 (2) と 2.3 節。
    """
    _check_points("query", query)
    _check_points("prototypes", prototypes)
    if query.shape[1] != prototypes.shape[1] or query.dtype != prototypes.dtype:
        raise ValueError(
            f"query が {tuple(query.shape)} の {query.dtype}、prototypes が {tuple(prototypes.shape)} の "
            f"{prototypes.dtype} です。(N, D) と (C, D) の D と、dtype を同じにしてください。"
        )
    centre = prototypes.detach().mean(0)
    z, c = query - centre, prototypes - centre
    squared = torch.addmm(z.square().sum(1, keepdim=True) + c.square().sum(1), z, c.T, alpha=-2)
    return -squared.clamp(min=0)


def _check_points(name: str, points: Tensor) -> None:
    if points.ndim != 2 or len(points) == 0 or not points.is_floating_point():
        raise ValueError(
            f"{name} に、形 {tuple(points.shape)} の {points.dtype} が渡されました。"
            "1 件以上の (件数, 次元) の浮動小数点数にしてください。画像の特徴は flatten(1) で 2 次元にします。"
        )
