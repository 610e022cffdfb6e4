"""probe の道具: 学習者の答えを 1 回呼び、値・形・勾配・例外を素の値で記録する。

関数の答えは `guard` に包んで probe に渡す。未着手や `return` の忘れは、どの probe でも同じように見つかる。
判定の側（judge）はこの記録だけを見る。
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlkit.course.checks import stub
from tlkit.course.checks.frames import describe
from tlkit.course.checks.plain import PlainError, to_plain


class Stop(BaseException):
    """probe をそこで終える合図。学習者や probe の `except Exception` に捕まらないよう BaseException とする。"""

    def __init__(self, code: str, error: dict[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.error = error


@dataclass
class Run:
    """1 回の確認の間だけ使う控え。causes は元の例外（素の値にはならないので、記録とは別に持つ）。"""

    none_ok: bool = False
    causes: list[BaseException] = field(default_factory=list)
    finished: set[Any] = field(default_factory=set)

    def keep(self, error: BaseException) -> dict[str, Any]:
        """例外を控え、素の値の記録を返す。"""
        self.causes.append(error)
        return describe(error) | {"index": len(self.causes) - 1}


current: ContextVar[Run] = ContextVar("current")


def guard(answer: Any) -> Any:
    """関数の答えを、未着手と return 忘れを見張る関数に包む。クラスやモデルや値はそのまま返す。"""
    if not (inspect.isroutine(answer) or isinstance(answer, functools.partial)) or hasattr(answer, "_tlkit_guarded"):
        return answer

    @functools.wraps(answer)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return call(answer, *args, **kwargs)

    guarded._tlkit_guarded = True  # type: ignore[attr-defined]
    return guarded


def call(answer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """答え（関数、メソッド、モデル）を 1 回呼ぶ。未着手なら Stop で probe を終える。"""
    run = current.get()
    key = stub.code_of(answer) or id(answer)
    try:
        result = answer(*args, **kwargs)
    except Exception as error:
        if stub.is_stub_error(error):
            raise Stop("unfinished" if key in run.finished else "untouched", run.keep(error)) from error
        raise
    if result is Ellipsis or (result is None and not run.none_ok):
        raise Stop(_blank(result, answer, started=key in run.finished))
    run.finished.add(key)
    return result


def _blank(result: Any, answer: Any, *, started: bool) -> str:
    code = stub.code_of(answer)
    if result is None and not (code is not None and stub.does_nothing(code)):
        return "returned-none"
    return "unfinished" if started else "untouched"


def trial(answer: Callable[..., Any], *args: Any, wrt: Sequence[Tensor] = (), **kwargs: Any) -> dict[str, Any]:
    """答えを呼び、結果を記録する。

    Args:
        answer: 学習者の答え（関数、メソッド、モデル）。
        *args: 答えに渡す引数。
        wrt: 結果をこれらのテンソルで微分し、勾配も記録する。
        **kwargs: 答えに渡すキーワード引数。

    Returns:
        例外なら {"error": {...}}。それ以外は kind（"tensor" / "array" / "number" / "other"）、type、dtype、shape、value、
        wrt があれば tracked（勾配の記録があるか）と grads（届かないものは None）。
    """
    try:
        result = answer(*args, **kwargs) if hasattr(answer, "_tlkit_guarded") else call(answer, *args, **kwargs)
        record = _record(result)
        if wrt and isinstance(result, Tensor):
            record |= _gradients(result, wrt)
    except (Exception, SystemExit) as error:
        return {"error": current.get().keep(error)}
    return record


def failed(record: dict[str, Any]) -> bool:
    """記録が例外か。"""
    return "error" in record


def _record(result: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": _kind(result), "type": type(result).__name__[:60], "dtype": "", "shape": []}
    if record["kind"] in ("tensor", "array"):
        record |= {"dtype": str(result.dtype).removeprefix("torch."), "shape": list(result.shape)}
    try:
        return record | {"value": to_plain(result)}
    except PlainError as error:
        return record | {"kind": "other", "value": None, "refused": str(error)}


def _kind(result: Any) -> str:
    if type(result) in (Tensor, torch.nn.Parameter):
        return "tensor"
    if type(result) is np.ndarray or isinstance(result, np.generic):
        return "array"
    return "number" if isinstance(result, int | float) else "other"


def _gradients(result: Tensor, wrt: Sequence[Tensor]) -> dict[str, Any]:
    if not result.requires_grad:
        return {"tracked": False, "grads": [None] * len(wrt)}
    grads = torch.autograd.grad(result.sum(), list(wrt), allow_unused=True)
    return {"tracked": True, "grads": [None if grad is None else to_plain(grad) for grad in grads]}
