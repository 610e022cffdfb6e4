"""特徴の取り出し。凍結した特徴抽出器の出力は変わらないので、一度だけ計算すればよい。

取り出した特徴で分類の層を学習する部品は `probe.py` にある。
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tlkit._modes import evaluating
from tlkit.device import pick_device


def extract_features(model: nn.Module, loader: Iterable[Any], *, device: str | None = None) -> tuple[Tensor, Tensor]:
    """特徴 f(x) を、全データについて一度だけ計算する。結果は、そのまま分類器の学習に使える。

    評価モードで計算し、終わるとモデルの訓練・評価の状態を、部品ごとに元へ戻す。
    行の順は loader の順である。データ拡張や並べ替えをする loader では、呼ぶたびに結果が変わる。

    Args:
        model: `features(x)` が (N, D) を返すモデル。
        loader: （入力, ラベル）の組を順に返すもの。最後の半端なバッチも使う。
        device: 計算する装置（`tlkit.device.pick_device` の名前）。指定すると、モデルもそこへ移る。省くと、モデルが今ある装置。

    Returns:
        features: (N, D)。CPU 上にあり、推論モードの印が付いていない。
        labels: (N,)。features と同じ順。

    Raises:
        ValueError: モデルに features がないか、形が (N, D) でないか、loader が空か、要素が組でないとき。
    """
    if not callable(getattr(model, "features", None)):
        raise ValueError(
            f"{type(model).__name__} に features(x) がありません。"
            "torchvision のモデルは TransferModel(num_classes, backbone=名前) として作ると、使えるようになります。"
        )
    if device is not None:
        model.to(pick_device(device))
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    features, labels = [], []
    with evaluating(model):
        for batch in loader:
            inputs, targets = _pair(batch)
            features.append(_features(model, inputs.to(place)))
            labels.append(targets)
    if not features:
        raise ValueError("loader が空です。データの件数と、batch_size、drop_last の指定を確かめてください。")
    # 推論モードのテンソルは勾配の計算に使えない。推論モードの外でつなぐと、印のない新しいテンソルになる
    return torch.cat(features), torch.cat(labels)


def _features(model: Any, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        found = model.features(inputs)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(inputs):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"{type(model).__name__} の features(x) が {shape} を返しました。(N, D) = ({len(inputs)}, D) が必要です。"
            "torchvision のモデルは TransferModel(num_classes, backbone=名前) として作ってください。"
        )
    return found.cpu()


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(item, Tensor) for item in batch):
        return batch[0], batch[1]
    raise ValueError(
        f"loader が {type(batch).__name__} を返しました。（入力, ラベル）という 2 個のテンソルの組が必要です。"
    )
