"""`transfer.py` のためのバックボーン: 名前から作り、分類の層を外す（内部部品）。"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tlkit._stages import find_head
from tlkit.data.errors import DataCorruptedError, DataUnavailableError
from tlkit.data.files import cache_root
from tlkit.models.efficientnet_lite import EfficientNetLite0, imagenet_input

OFFLINE = "efficientnet_lite0"
STALL_SECONDS = 20.0  # 何も届かないまま待つ時間の上限


@dataclass(frozen=True)
class Backbone:
    """分類の層を外したネットワークと、その入力の作り方。"""

    network: nn.Module
    num_features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform: Callable[[np.ndarray], Tensor]


def build_backbone(name: str, weights: str | None) -> Backbone:
    """名前からバックボーンを作る。

    Raises:
        ValueError: 知らない名前のとき。
        DataUnavailableError: 重みを取りに行けないとき。
        DataCorruptedError: 届いた重みのファイルが壊れているとき。
    """
    if name == OFFLINE:
        lite = EfficientNetLite0(weights=weights)  # type: ignore[arg-type]  # 不正な値は、この中で知らせる
        half = (0.5, 0.5, 0.5)
        return Backbone(*_without_head(lite), half, half, imagenet_input)
    enum = _weights_enum(name)
    chosen = None if weights is None else _choose(enum, weights, name)
    preset = (chosen or enum.DEFAULT).transforms()

    def transform(image: np.ndarray) -> Tensor:
        prepared: Tensor = preset(torch.from_numpy(image.copy()).permute(2, 0, 1))
        return prepared

    network = _torchvision(name, chosen)
    return Backbone(*_without_head(network), tuple(preset.mean), tuple(preset.std), transform)


def _weights_enum(name: str) -> Any:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = [other for other in known if other.startswith(str(name)[:4])][:6]
        raise ValueError(
            f"バックボーン {name!r} はありません。{OFFLINE!r} か、torchvision の画像分類モデルの名前を指定してください"
            f"（例: {'、'.join(near or ['resnet18', 'mobilenet_v3_small', 'vit_b_16'])}）。"
        )
    return models.get_model_weights(name)


def _choose(enum: Any, weights: str, name: str) -> Any:
    if weights == "default":
        return enum.DEFAULT
    if weights not in enum.__members__:
        known = "、".join(["default", *enum.__members__])
        raise ValueError(f"{name} に重み {weights!r} はありません。使えるのは {known}、または None（乱数）です。")
    return enum[weights]


def _torchvision(name: str, weights: Any) -> nn.Module:
    from torchvision.models import get_model

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # 学習を助ける枝の出力は使わない
        options = {"aux_logits": False, "init_weights": weights is None}
    with fetching_weights(name):
        network: nn.Module = get_model(name, weights=weights, **options)
    return network


@contextmanager
def fetching_weights(name: str) -> Iterator[None]:
    """重みの置き場所をこのコースのものにし、取りに行けないときは日本語で知らせる。"""
    hub, timeout = torch.hub.get_dir(), socket.getdefaulttimeout()
    torch.hub.set_dir(str(cache_root() / "torch-hub"))
    socket.setdefaulttimeout(STALL_SECONDS)
    instead = (
        f'ネットワークなしで使えるのは backbone="{OFFLINE}" です。重みなしで試すなら weights=None にしてください。'
    )
    try:
        yield
    except OSError as error:  # URLError、HTTPError、時間切れ、書き込みの失敗
        raise DataUnavailableError(f"{name} の重みを取りに行けませんでした（{error}）。{instead}") from error
    except RuntimeError as error:
        if "invalid hash" not in str(error):
            raise
        raise DataCorruptedError(
            f"{name} の重みのファイルが、途中で壊れて届きました。もう一度試すか、{instead}"
        ) from error
    finally:
        torch.hub.set_dir(hub)
        socket.setdefaulttimeout(timeout)


def _without_head(network: nn.Module) -> tuple[nn.Module, int]:
    """分類の層を、何もしない層に置きかえる。（ネットワーク, 特徴の次元）。"""
    name, head = find_head(network)
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network, head.in_features if isinstance(head, nn.Linear) else head.in_channels
