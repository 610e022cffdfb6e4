"""学習済みの重みを答えにする問題の道具。重みは safetensors のバイト列で渡し、判定は必ずこちらの構造に読み込んで行う。

`pack` は答えを受け取る側（採点では檻の中）、`unpack` と `accuracy` は判定する側（檻の外）が使う。
pickle は使わない。読むだけで任意のコードが動くからである。バイト列は学習者が自由に作れるので、
大きさ、名前、dtype、形、有限の値であることを、すべて確かめてから使う。
"""

import copy
from collections import OrderedDict
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from tlkit.course.checks.plain import MAX_BYTES, Blob

_SPARE = 100_000  # 見出し（名前と形）の分
_TENSORS = (Tensor, nn.Parameter)
_DICTS = (dict, OrderedDict)


class WeightsError(ValueError):
    """受け取れない重み。

    Attributes:
        code: 診断の名前。
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def pack(answer: Any) -> dict[str, Any]:
    """重みを、判定する側へ渡す素の値にする。

    Args:
        answer: モデル、またはその `state_dict()`。

    Returns:
        {"bytes": safetensors のバイト列}。渡せなければ {"refused": [診断の名前, 文]}。
    """
    try:
        state = answer.state_dict() if isinstance(answer, nn.Module) else answer
        return {"bytes": Blob(save(_plain_state(state)))}
    except WeightsError as error:
        return {"refused": [error.code, str(error)]}


def unpack(record: Any, model: nn.Module) -> dict[str, Tensor]:
    """`pack` の記録を確かめ、model に読み込める重みにする。

    Args:
        record: `pack` の返り値（檻から出た言い分）。
        model: こちらで作った、重みを読み込むつもりのモデル。

    Raises:
        WeightsError: 受け取れないとき。
    """
    if not isinstance(record, dict) or not isinstance(record.get("bytes"), bytes):
        raise _refusal(record)
    try:
        state: dict[str, Tensor] = load(record["bytes"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError("weights-unreadable", "重みを safetensors として読めません。") from error
    want = model.state_dict()
    _same_names(state, want)
    for name, value in want.items():
        _same_kind(name, state[name], value)
    return state


def accuracy(model: nn.Module, state: dict[str, Tensor], x: Tensor, y: Tensor) -> float:
    """重みを model の写しに読み込み、評価モードで求めた正解率。

    Args:
        model: こちらで作ったモデル。書き換えない。
        state: `unpack` で確かめた重み。
        x: 入力 (N, …)。
        y: 正解のクラス (N,)。
    """
    ours = copy.deepcopy(model)
    ours.load_state_dict(state)
    ours.eval()
    with torch.inference_mode():
        return float((ours(x).argmax(1) == y).double().mean())


def _plain_state(state: Any) -> dict[str, Tensor]:
    """名前 → 計算機の記憶にある、つながったテンソル。型を偽るものは断る。"""
    if type(state) not in _DICTS:
        raise WeightsError(
            "weights-kind",
            f"重みとして {type(state).__name__[:60]} が渡されました。モデルか、その state_dict() を渡してください。",
        )
    items = list(dict.items(state))
    if any(type(name) is not str or type(value) not in _TENSORS for name, value in items):
        raise WeightsError(
            "weights-kind", "state_dict は、名前（文字列）から torch.Tensor への dict でなければなりません。"
        )
    size = sum(value.numel() * value.element_size() for _, value in items)
    if size > MAX_BYTES - _SPARE:
        raise WeightsError("weights-size", f"重みが大きすぎます（{size} バイト。上限は {MAX_BYTES - _SPARE} バイト）。")
    return {name: value.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, value in items}


def _refusal(record: Any) -> WeightsError:
    """`pack` が断った理由。形が違えば、決まった文にする。"""
    match record:
        case {"refused": [str(code), str(message)]}:
            return WeightsError(code, message)
    return WeightsError("weights-unreadable", "重みの記録の形が違います。")


def _same_names(state: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    wrong = sorted(state.keys() ^ want.keys())
    if wrong:
        side = "足りません" if wrong[0] in want else "余分です"
        raise WeightsError("weights-names", f"重みの名前が合いません。{wrong[0][:80]} が{side}。")


def _same_kind(name: str, given: Tensor, want: Tensor) -> None:
    if given.dtype != want.dtype:
        raise WeightsError("weights-dtype", f"{name} の dtype が {given.dtype} です（必要なのは {want.dtype}）。")
    if given.shape != want.shape:
        raise WeightsError(
            "weights-shape", f"{name} の形が {tuple(given.shape)} です（必要なのは {tuple(want.shape)}）。"
        )
    if given.is_floating_point() and not bool(torch.isfinite(given).all()):
        raise WeightsError("weights-not-finite", f"{name} に NaN か無限大があります。学習が発散していませんか。")
