"""AdaBN: バッチ正規化の統計だけを、ターゲットで測り直す。重みは変えない。"""

import copy
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlkit.adapt.pairs import inputs_of

Model = TypeVar("Model", bound=nn.Module)


def adapt_batchnorm(model: Model, loader: Iterable[Any]) -> Model:
    """バッチ正規化の移動平均と移動分散を、loader の入力の統計で置き換える。ラベルは要らない。

    層 l の正規化 (h − μ_l) / √(σ_l² + ε) の μ_l と σ_l² を、ターゲットで測った値にする。γ、β、ほかの重みは変わらない。
    バッチごとの統計を、同じ重みで平均する（PyTorch の `momentum=None`）。
    ラベルの割合がソースと違うターゲットでは、割合の違いまで打ち消そうとして、かえって悪くなることがある。

    Args:
        model: バッチ正規化の層を持つモデル。入力だけで呼べること。
        loader: 入力、または入力が先頭にある組を返すもの。1 バッチに 2 件以上。

    Returns:
        同じモデル。訓練・評価の状態は、部品ごとに元のままである。途中で例外が起きれば、統計も元に戻す。

    Raises:
        ValueError: バッチ正規化の層がないか、loader が空か、1 件だけのバッチがあるとき。

    出典: Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", arXiv:1603.04779。
    """
    layers = _batchnorm_layers(model)
    batches = iter(loader)
    first = next(batches, None)
    if first is None:  # 統計を消す前に確かめる
        raise ValueError("loader が空です。ターゲットの入力を、1 バッチ以上渡してください。")
    place = next(itertools.chain(model.parameters(), model.buffers())).device
    with _measuring(model, layers), torch.no_grad():
        for batch in itertools.chain([first], batches):
            model(_several(inputs_of(batch)).to(place))
    return model


def _several(inputs: Tensor) -> Tensor:
    if len(inputs) < 2:
        raise ValueError(
            f"{len(inputs)} 件だけのバッチがあります。分散を測るには、1 バッチに 2 件以上が必要です。"
            "DataLoader なら drop_last=True にするか、batch_size を変えてください。"
        )
    return inputs


def _batchnorm_layers(model: nn.Module) -> list[_BatchNorm]:
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} にバッチ正規化の層がありません。AdaBN は、バッチ正規化のあるモデルにだけ使えます。"
        )
    if not all(layer.track_running_stats for layer in layers):
        raise ValueError("移動統計を持たない（track_running_stats=False）バッチ正規化の層には、AdaBN を使えません。")
    return layers


@contextmanager
def _measuring(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    """バッチ正規化の層だけを訓練モードにし、統計を初めから測る。終わると、モードと momentum を元へ戻す。

    PyTorch の update_bn は、モデル全体を訓練モードにする。ドロップアウトまで働き、凍結のために評価モードにした層のモードも失われる。
    """
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    statistics = [copy.deepcopy(layer.state_dict()) for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.training, layer.momentum = True, None  # None は、バッチごとの統計の単純な平均
    try:
        yield
    except BaseException:  # 測りかけの統計を残すと、気づかないまま悪い予測になる
        for layer, state in zip(layers, statistics, strict=True):
            layer.load_state_dict(state)
        raise
    finally:
        for module, training in modes:
            module.training = training
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
