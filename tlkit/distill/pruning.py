"""枝刈り（プルーニング）。小さい重みを 0 にする非構造化と、チャネルを丸ごと取り除く構造化。

非構造化の印（マスク）は torch.nn.utils.prune に任せる。構造化は、本当に小さいネットワークを作る。
量子化は `quantization.py`、大きさと時間の測り方は `footprint.py` にある。
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tlkit.distill.quantization import LAYERS
from tlkit.models.glyph_cnn import GlyphCNN

Model = TypeVar("Model", bound=nn.Module)


def prune_magnitude(model: Model, sparsity: float) -> Model:
    """畳み込みと全結合の重みのうち、絶対値の小さいものを 0 に固定した、モデルの写し（非構造化）。

    順位は、層ごとでなく全体で付ける。0 にした重みは、この後に学習しても 0 のままである。
    テンソルの形は変わらないので、密な計算の速さも、保存の大きさも変わらない。学習が済んだら `forget_masks` で印を外す。

    Args:
        model: 元のモデル。変えない。
        sparsity: 0 にする重みの割合。0 以上 1 未満。

    Raises:
        ValueError: sparsity が範囲の外か、畳み込みも全結合もないか、すでに枝刈りの印があるとき。

    出典: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015。
    """
    if isinstance(sparsity, bool) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity に {sparsity!r} が渡されました。0 以上 1 未満の割合にしてください。")
    if prune.is_pruned(model):
        raise ValueError("すでに枝刈りの印があるモデルです。forget_masks で印を外してから渡してください。")
    pruned = copy.deepcopy(model)
    layers = [(module, "weight") for module in pruned.modules() if isinstance(module, LAYERS)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} に nn.Conv2d も nn.Linear もありません。枝刈りする重みのあるモデルを渡してください。"
        )
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=float(sparsity))
    return pruned


def forget_masks(model: Model) -> Model:
    """枝刈りの印を外し、0 を書き込んだふつうの重みに戻す。その場で変え、同じモデルを返す。"""
    for module in model.modules():
        if isinstance(module, LAYERS) and hasattr(module, "weight_mask"):
            prune.remove(module, "weight")  # type: ignore[no-untyped-call]
    return model


def count_nonzero(model: nn.Module) -> int:
    """0 でないパラメータの数。枝刈りの印があれば、印を掛けた後の値を数える。"""
    masks = dict(model.named_buffers())
    total = 0
    for name, parameter in model.named_parameters():
        mask = masks.get(name.removesuffix("_orig") + "_mask")
        total += int(torch.count_nonzero(parameter if mask is None else parameter * mask))
    return total


def remove_channels(model: GlyphCNN, width: int) -> GlyphCNN:
    """チャネルを取り除いた、本当に小さい GlyphCNN（構造化）。元のモデルは変えない。

    段ごとに、フィルタの重みの絶対値の和（L1 ノルム）が大きいチャネルを残す。k 段目に残るのは 2^(k−1)·width 個である。
    取り除いたチャネルを読む次の層の重みと、バッチ正規化の値も取り除く。

    Args:
        model: 元のモデル。
        width: 最初の段に残すチャネルの数。1 以上、元の幅以下。

    Raises:
        ValueError: width が範囲の外のとき。

    出典: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710, 3.1 節。
    """
    state = model.state_dict()
    whole = len(state["stem.0.weight"])
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= whole:
        raise ValueError(f"width に {width!r} が渡されました。1 以上 {whole}（元の幅）以下の整数にしてください。")
    smaller = GlyphCNN(len(state["classifier.weight"]), width)
    inputs = torch.arange(state["stem.0.weight"].shape[1])
    for stage, prefix in enumerate(("stem", "stages.0", "stages.1")):
        filters = state[f"{prefix}.0.weight"]
        kept = _largest(filters, width * 2**stage)
        state[f"{prefix}.0.weight"] = filters[kept][:, inputs]
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{prefix}.1.{name}"] = state[f"{prefix}.1.{name}"][kept]
        inputs = kept
    head = state["head.1.weight"]
    per_channel = head.view(len(head), 4 * whole, -1)  # 平らにした (チャネル, 位置) を、元の並びに戻す
    state["head.1.weight"] = per_channel[:, inputs].flatten(1)
    smaller.load_state_dict(state)
    return smaller.to(head.device, head.dtype).train(model.training)


def _largest(filters: Tensor, count: int) -> Tensor:
    """L1 ノルムが大きい count 個のフィルタの番号。小さい順に並べる。"""
    norms = filters.abs().sum(dim=(1, 2, 3))
    return norms.topk(count).indices.sort().values
