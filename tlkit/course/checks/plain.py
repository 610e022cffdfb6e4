"""答えの返り値を、数・文字列・真偽・None・Blob とその list / dict だけの「素の値」に直す。

判定する側は素の値しか見ない。だから `__eq__` や `__array__` を偽るオブジェクトは、ここで本当の数になるか断られる。
`seal` と `unseal` は厳密な JSON への往復である。その場の確認でも往復させ、採点のときと同じものを見る。
"""

import base64
import binascii
import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

MAX_ITEMS = 200_000  # 数や文字列の総数
MAX_DEPTH = 16
MAX_TEXT = 20_000  # 文字列の長さの合計
MAX_BYTES = 2_000_000  # バイト列の長さの合計
MAX_SEALED = 8_000_000  # JSON の文字数
_TOKEN = "~float"  # NaN と無限大は JSON に無いので {"~float": "nan"} と書く
_BYTES = "~bytes"  # バイト列は {"~bytes": "base64 の文字"} と書く
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class PlainError(ValueError):
    """素の値に直せない返り値。"""


class Blob(bytes):
    """probe が自分で作って渡すバイト列（重みのファイルなど）。学習者の答えが返した bytes は、素の値にならない。"""


def to_plain(value: Any) -> Any:
    """値を素の値に直す。テンソルと配列は入れ子の list、0 次元なら数になる。

    Raises:
        PlainError: 型が扱えないとき、大きすぎるとき、深すぎるとき。
    """
    return _Converter().convert(value, 0)


def seal(data: Any) -> str:
    """素の値を JSON の文字列にする。"""
    return json.dumps(_tokens(to_plain(data)), allow_nan=False, ensure_ascii=True)


def unseal(text: str) -> Any:
    """`seal` の逆。大きすぎる、深すぎる、重複した名前、裸の NaN や 1e400 などは断る。"""
    if len(text) > MAX_SEALED:
        raise PlainError(f"返り値が大きすぎます（{len(text)} 文字）。")
    try:
        loaded = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_pairs)
    except (RecursionError, ValueError) as error:
        raise PlainError(f"返り値の記録が読めません（{type(error).__name__}）。") from error
    return to_plain(loaded)


class _Converter:
    """個数と文字数の残りを数えながら変換する。"""

    def __init__(self) -> None:
        self.items = MAX_ITEMS
        self.text = MAX_TEXT
        self.bytes = MAX_BYTES

    def convert(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise PlainError(f"返り値の入れ子が深すぎます（{MAX_DEPTH} 段まで）。")
        self._spend(1)
        kinds = type(value).__mro__  # isinstance は __class__ を偽れるので使わない
        if value is None or type(value) is bool:
            return value
        if str in kinds or type(value) is Blob:
            return self._string(value) if str in kinds else self._blob(value)
        if float in kinds or int in kinds:
            return _number(value, float if float in kinds else int)
        if np.generic in kinds:
            return self.convert(_scalar(value), depth + 1)
        if Tensor in kinds or np.ndarray in kinds:
            return self._array(value, depth)
        return self._container(value, kinds, depth)

    def _container(self, value: Any, kinds: tuple[type, ...], depth: int) -> Any:
        if list in kinds:
            kind = _only_kind(value)
            if kind is not None and depth < MAX_DEPTH:  # 一つずつ直すのと結果は同じで、ずっと速い
                self._spend(list.__len__(value))
                return [_number(item, kind) for item in list.__iter__(value)]
            return [self.convert(item, depth + 1) for item in list.__iter__(value)]
        if tuple in kinds:
            return [self.convert(item, depth + 1) for item in tuple.__iter__(value)]
        if dict in kinds:
            return {self._key(key): self.convert(item, depth + 1) for key, item in dict.items(value)}
        raise PlainError(
            f"返り値に {_name(value)} が含まれています。数・テンソル・配列と、その list や dict を返してください。"
        )

    def _string(self, value: str) -> str:
        self.text -= str.__len__(value)  # 写しを作る前に量る
        if self.text < 0:
            raise PlainError(f"返り値の文字列が長すぎます（合わせて {MAX_TEXT} 文字まで）。")
        return str.encode(value, "utf-8", "replace").decode("utf-8")

    def _blob(self, value: "Blob") -> "Blob":
        self.bytes -= len(value)
        if self.bytes < 0:
            raise PlainError(f"返り値のバイト列が長すぎます（合わせて {MAX_BYTES} バイトまで）。")
        return value

    def _key(self, key: Any) -> str:
        if str not in type(key).__mro__:
            raise PlainError(f"返り値の dict の名前が {_name(key)} です。文字列にしてください。")
        return self._string(key)

    def _array(self, value: Any, depth: int) -> Any:
        nested, count, dims = _tensor(value) if type(value) in (Tensor, torch.nn.Parameter) else _ndarray(value)
        self._spend(count)
        if depth + dims > MAX_DEPTH:
            raise PlainError(f"返り値の次元が多すぎます（{dims} 次元）。")
        return nested.tolist()

    def _spend(self, count: int) -> None:
        self.items -= count
        if self.items < 0:
            raise PlainError(f"返り値が大きすぎます（要素は合わせて {MAX_ITEMS} 個まで）。")


def _only_kind(value: list[Any]) -> type | None:
    """int か float そのもの（派生クラスや bool を除く）だけの list なら、その型。"""
    kinds = {*map(type, list.__iter__(value))}
    return kinds.pop() if kinds in ({int}, {float}) else None


def _number(value: Any, kind: type) -> float | int:
    """派生クラスが __float__ などを偽っていても、土台の値を取り出す。"""
    if kind is float:
        return float.__float__(value)
    whole = int.__int__(value)
    if whole.bit_length() > 63:
        raise PlainError("返り値の整数が大きすぎます（64 ビットに収まりません）。")
    return whole


def _scalar(value: Any) -> Any:
    if np.dtype(np.generic.__getattribute__(value, "dtype")).kind not in "biuf":
        raise PlainError(f"返り値に {_name(value)} が含まれています。実数を返してください。")
    return np.generic.item(value)


def _tensor(value: Tensor) -> tuple[Tensor, int, int]:
    if value.is_complex() or value.layout != torch.strided or value.device.type == "meta" or value.is_quantized:
        raise PlainError(f"返り値が扱えない種類のテンソルです（{value.dtype}、{value.layout}、{value.device}）。")
    _check_size(value.numel())
    return value.detach().to("cpu"), value.numel(), value.dim()


def _ndarray(value: Any) -> tuple[Any, int, int]:
    if type(value) is not np.ndarray:
        raise PlainError(f"返り値が {_name(value)} です。torch.Tensor か numpy.ndarray そのものを返してください。")
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise PlainError(f"返り値の配列の dtype が {value.dtype} です。実数の配列を返してください。")
    _check_size(value.size)
    return value, value.size, value.ndim


def _check_size(count: int) -> None:
    """広げただけの巨大なテンソルを、list に直す前に断る。"""
    if count > MAX_ITEMS:
        raise PlainError(f"返り値が大きすぎます（{count} 要素。{MAX_ITEMS} 個まで）。")


def _name(value: Any) -> str:
    return type(value).__name__[:60]


def _tokens(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return {_TOKEN: "nan" if math.isnan(data) else "inf" if data > 0 else "-inf"}
    if isinstance(data, Blob):
        return {_BYTES: base64.b64encode(data).decode("ascii")}
    if isinstance(data, list):
        return data if _are_finite(data) else [_tokens(item) for item in data]
    if isinstance(data, dict):
        if taken := data.keys() & {_TOKEN, _BYTES}:
            raise PlainError(f"返り値の dict に、使えない名前 {min(taken)} があります。")
        return {key: _tokens(item) for key, item in data.items()}
    return data


def _are_finite(data: list[Any]) -> bool:
    """有限の数だけの list か。"""
    kinds = {*map(type, data)}
    return kinds <= {int, bool} or (kinds == {float} and all(map(math.isfinite, data)))


def _pairs(pairs: Iterable[tuple[str, Any]]) -> Any:
    pairs = list(pairs)
    data = dict(pairs)
    if len(data) != len(pairs):
        raise PlainError("返り値の記録に、同じ名前が二度現れます。")
    if _TOKEN in data:
        if len(data) != 1 or data[_TOKEN] not in _SPECIAL:
            raise PlainError("返り値の記録にある特別な数の書き方が正しくありません。")
        return _SPECIAL[data[_TOKEN]]
    return _decoded(data) if _BYTES in data else data


def _decoded(data: dict[str, Any]) -> Blob:
    if len(data) != 1 or not isinstance(data[_BYTES], str):
        raise PlainError("返り値の記録にあるバイト列の書き方が正しくありません。")
    try:
        return Blob(base64.b64decode(data[_BYTES], validate=True))
    except binascii.Error as error:
        raise PlainError("返り値の記録にあるバイト列が base64 ではありません。") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise PlainError(f"返り値の記録にある数が大きすぎます（{text[:20]}）。")
    return number


def _refuse(text: str) -> NoReturn:
    raise PlainError(f"返り値の記録に、JSON にない値があります（{text}）。")
