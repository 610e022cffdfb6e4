"""ドメイン適応の補助の実験で共有する部品: 選ばれた設定、手法ごとの学習のくり返し、組の作り替え。

設定は `dann_mnistm_dev` で選ばれたものを、どの組でもそのまま使う。ドメインの組と学習は `_adaptation.py` にある。
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from _adaptation import FIXED, Pair, method_of, mnist_to_mnist_m, train
from _record import Settings, chosen
from torch import Tensor, nn

STEPS = 800  # 補助の実験の更新の回数（本番の半分ほど。どの手法でも同じ）
SHORT = 100  # 検査が測り直すための短い学習。章では使わない
COMMON = 3  # ラベルシフトで割合を増やす数字は 0、1、2


def picked(*methods: str, baseline: str = "mnist_m") -> Settings:
    """手法ごとの、開発用の結果で選ばれた学習率、重み、正規化。

    適応の手法は、dann_mnistm と同じく、二つの開発用の組の平均で選ぶ。ソースのみは、組 baseline だけで選ぶ。
    比べる相手を弱くして、効果を大きく見せないためである。
    """
    pairs = {method: {"pair": baseline} if method == "source_only" else {} for method in methods}
    keys = ["lr", "weight", "norm"]
    return {method: chosen("dann_mnistm_dev", keys, method=method, **pairs[method]) for method in methods}


def fixed(steps: int) -> Settings:
    """どの学習にも共通の設定。"""
    return {**FIXED, "steps": steps, "short_steps": SHORT}


def trained(method: str, pair: Pair, seed: int, setting: Settings, steps: int) -> nn.Module:
    """選ばれた設定での 1 回の学習。target_only は、ターゲットのラベルで学習する。"""
    part, on_target = method_of(method, setting["weight"]), method == "target_only"
    return train(pair, part, lr=setting["lr"], seed=seed, on_target=on_target, norm=setting["norm"], steps=steps)


def models(pair: Pair, settings: Settings, seed: int, steps: int) -> Iterator[tuple[str, nn.Module, bool]]:
    """（手法, 学習したモデル, ターゲットの統計で測るか）。AdaBN は、ソースのみの学習に重ねる。"""
    for method, setting in settings.items():
        model = trained(method, pair, seed, setting, steps)
        yield method, model, method != "source_only"
        if method == "source_only":
            yield "adabn", model, True


def mnist_m_halves(seed: int, *, disjoint: bool) -> Pair:
    """MNIST → MNIST-M の学習の画像を半分ずつにした組。

    ソースは前の半分の数字。ターゲットは、disjoint なら後ろの半分の数字、そうでなければソースと同じ数字である。
    枚数はどちらも同じなので、違いは「同じ数字を使うか」だけになる。
    """
    pair = mnist_to_mnist_m(seed, development=False)
    order = torch.randperm(len(pair.source), generator=torch.Generator().manual_seed(seed))
    first, second = order.chunk(2)
    theirs = second if disjoint else first
    return replace(
        pair,
        source=pair.source[first],
        source_labels=pair.source_labels[first],
        target=pair.target[theirs],
        target_labels=pair.target_labels[theirs],
    )


def class_shares(share: float) -> Tensor:
    """クラスの割合 (10,)。数字 0 から 2 の合計が share で、残りの数字は等しい。"""
    common = torch.arange(10) < COMMON
    return torch.where(common, share / COMMON, (1 - share) / (10 - COMMON))


def skewed_rows(labels: Tensor, share: float, size: int, seed: int) -> Tensor:
    """クラスの割合が class_shares(share) になる size 行。並びは乱数（統計を測るバッチが、クラスで偏らないように）。

    Raises:
        ValueError: 割合どおりの枚数が整数にならないか、足りないとき。
    """
    counts = class_shares(share).double() * size
    whole = counts.round().long()
    if (counts - whole).abs().max() > 1e-3 or bool((whole > labels.bincount(minlength=10)).any()):
        raise ValueError(f"{size} 枚を割合 {share} で選べません。クラスごとの枚数は {counts.tolist()} です。")
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=random)
    rows = torch.cat([order[labels[order] == c][:count] for c, count in enumerate(whole.tolist())])
    return rows[torch.randperm(size, generator=random)]
