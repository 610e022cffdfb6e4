"""最大平均不一致度（MMD）: 二つの標本が同じ分布から来たかを、カーネルの平均の差で測る。

ここには公開する関数 `mmd2` と、引数の確認、線形カーネル、帯域幅の決め方を置く。
RBF カーネルの和と勾配を省メモリで求める部分は `_rbf_sums.py` にある。
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tlkit.losses._rbf_sums import TILE, RBFDiscrepancy, squared_distances

Bandwidth = float | Sequence[float] | Literal["median"]


def mmd2(
    x: Tensor,
    y: Tensor,
    *,
    kernel: Literal["rbf", "linear"] = "rbf",
    bandwidth: Bandwidth = "median",
    estimator: Literal["biased", "unbiased"] = "unbiased",
) -> Tensor:
    r"""MMD の二乗 MMD²(P, Q) を、標本 x ~ P と y ~ Q から推定する。

    偏りのある推定（V 統計量、biased）は

        MMD²_b = (1/N²) Σ_{i,j} k(x_i, x_j) + (1/M²) Σ_{i,j} k(y_i, y_j) − (2/NM) Σ_{i,j} k(x_i, y_j)

    偏りのない推定（U 統計量、unbiased）は、初めの二つの和から i = j の項を除き、1/N(N−1)、1/M(M−1) で割る。
    同じ分布から来た標本でも、biased の期待値は正、unbiased の期待値は 0 である（後者は負にもなる）。

    カーネルは rbf なら k(a, b) = exp(−‖a − b‖² / (2σ²))、linear なら k(a, b) = a·b。
    linear の biased は ‖mean(x) − mean(y)‖² に等しく、平均の差しか見ない。

    Args:
        x: (N, D) の浮動小数点テンソル。
        y: (M, D) の浮動小数点テンソル。N と M は異なってよい。
        kernel: "rbf" または "linear"。
        bandwidth: σ（x と同じ単位）。数の列なら、それぞれのカーネルを平均する。
            "median" なら、x と y を合わせた全標本の異なる 2 点間の距離の二乗の中央値の半分を σ² とする
            （勾配は流さない）。linear では使わない。
        estimator: "biased" または "unbiased"。unbiased は N ≥ 2 かつ M ≥ 2 を要する。

    Returns:
        0 次元のテンソル。dtype と device は x と同じ。x と y の両方に勾配が流れる（2 階微分もできる）。

    Raises:
        ValueError: 形、dtype、device、帯域幅、推定量の名前が条件に合わないとき。

    計算量は O((N + M)² D)、追加の記憶は O((N + M)(D + 256))。(N, M, D) の配列は作らない。
    距離は共通の平均を引いてから内積で求める。引かないと、平均が大きい特徴では桁落ちで値が崩れる。

    出典: Gretton et al., "A Kernel Two-Sample Test", JMLR 13 (2012), 723–773。定義 2、補題 4（平均埋め込みの距離）、
    補題 6（U 統計量と V 統計量）。
    """
    _check_samples(x, y, estimator)
    unbiased = estimator == "unbiased"
    work = torch.promote_types(x.dtype, torch.float32)  # float16 や bfloat16 では和の桁が足りない
    x_work, y_work = _centre(x.to(work), y.to(work))
    if kernel == "linear":
        value = _linear_mmd2(x_work, y_work, unbiased=unbiased)
    elif kernel == "rbf":
        gammas = [1 / (2 * sigma2) for sigma2 in _bandwidths_squared(x_work, y_work, bandwidth)]
        value = RBFDiscrepancy.apply(x_work, y_work, gammas, unbiased)
    else:
        raise ValueError(f'kernel に {kernel!r} が渡されました。"rbf" か "linear" を指定してください。')
    return value.to(x.dtype)


def median_bandwidth(x: Tensor, y: Tensor) -> float:
    """中央値ヒューリスティックの帯域幅 σ を返す。

    σ² = median{‖z_i − z_j‖² : i < j} / 2。z は x (N, D) と y (M, D) を合わせた N + M 点である。
    すべての点が一致して中央値も平均も 0 になるときは σ = 1 とする（このときカーネルの値は σ によらない）。

    Raises:
        ValueError: x と y の形が合わないとき。

    出典: Garreau, Jitkrittum, Kanagawa, "Large sample analysis of the median heuristic", arXiv:1707.07269。
    σ 自身を距離の中央値とする流儀もある。値を比べるときは、どちらの流儀かを確かめること。
    """
    _check_samples(x, y, "biased")
    work = torch.promote_types(x.dtype, torch.float32)
    return float(_median_variance(*_centre(x.detach().to(work), y.detach().to(work))) ** 0.5)


def _check_samples(x: Tensor, y: Tensor, estimator: str) -> None:
    if estimator not in ("biased", "unbiased"):
        raise ValueError(f'estimator に {estimator!r} が渡されました。"biased" か "unbiased" を指定してください。')
    shapes = f"x {tuple(x.shape)}、y {tuple(y.shape)}"
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{shapes} が渡されました。x は (N, D)、y は (M, D) で、特徴の次元 D がそろっている必要があります。"
            "画像などは x.flatten(1) で (N, D) にしてください。"
        )
    least = 2 if estimator == "unbiased" else 1
    if min(len(x), len(y)) < least:
        raise ValueError(f'{shapes} が渡されました。estimator="{estimator}" には x も y も {least} 件以上が必要です。')
    if not (x.is_floating_point() and y.is_floating_point()) or x.dtype != y.dtype or x.device != y.device:
        raise ValueError(
            f"x は {x.dtype}（{x.device}）、y は {y.dtype}（{y.device}）です。"
            "同じ浮動小数点の dtype と同じ device にそろえてください（例: y.to(x)）。"
        )


def _centre(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """共通の平均を引く。MMD は平行移動で変わらないので、値も勾配も同じで、丸め誤差だけが減る。"""
    mean = (x.detach().sum(0) + y.detach().sum(0)) / (len(x) + len(y))
    return x - mean, y - mean


def _linear_mmd2(x: Tensor, y: Tensor, *, unbiased: bool) -> Tensor:
    if not unbiased:
        return (x.mean(0) - y.mean(0)).square().sum()

    def within(z: Tensor) -> Tensor:  # Σ_{i≠j} z_i·z_j = ‖Σ z_i‖² − Σ ‖z_i‖²
        return (z.sum(0).square().sum() - z.square().sum()) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * (x.mean(0) @ y.mean(0))


def _bandwidths_squared(x: Tensor, y: Tensor, bandwidth: Bandwidth) -> list[float]:
    if isinstance(bandwidth, str):
        if bandwidth != "median":
            raise ValueError(f'bandwidth に {bandwidth!r} が渡されました。正の数、正の数の列、"median" のどれかです。')
        return [_median_variance(x.detach(), y.detach())]
    sigmas = [float(s) for s in bandwidth] if isinstance(bandwidth, Sequence | Tensor) else [float(bandwidth)]
    if not sigmas or not all(0 < s < float("inf") for s in sigmas):
        raise ValueError(f"bandwidth に {bandwidth!r} が渡されました。σ は正の有限な数（またはその列）にしてください。")
    return [s * s for s in sigmas]


def _median_variance(x: Tensor, y: Tensor) -> float:
    """全標本の異なる 2 点間の距離の二乗の中央値の半分。"""
    pairs = _pairwise(torch.cat([x, y]))
    low, high = (len(pairs) + 1) // 2, len(pairs) // 2 + 1  # 偶数個なら中央の二つ
    middle = (pairs.kthvalue(low).values + pairs.kthvalue(high).values) / 2
    variance = float(middle) / 2 or float(pairs.mean()) / 2  # 半数以上の対が一致していれば平均で代える
    return variance or 1.0


def _pairwise(points: Tensor) -> Tensor:
    """番号が i < j の対の距離の二乗を 1 列に並べる。(n, n) の行列は作らない。"""
    parts = []
    for start in range(0, len(points), TILE):
        block = squared_distances(points[start : start + TILE], points[start:])
        parts.append(block[torch.ones_like(block, dtype=torch.bool).triu(1)])
    return torch.cat(parts)
