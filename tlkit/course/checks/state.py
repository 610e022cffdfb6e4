"""確認の前後で、乱数の状態や既定の dtype など、プロセス全体の設定を守る。

確認を挟んでも、学習者の実験の結果は変わらない。答えの中で設定を書き換えても、確認の外へは漏れない。
"""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def preserved(seed: int = 0) -> Iterator[None]:
    """決まった条件（種、float32、勾配あり、CPU、警告なし）で中を動かし、終わったら全部を元へ戻す。"""
    saved = [(put, get()) for get, put in _SETTINGS]
    with ExitStack() as stack:
        stack.callback(_restore, saved)
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(mode=False))
        _standard(seed)
        if torch.empty(0).device.type != "cpu":  # with torch.device(...) の中から呼ばれた
            stack.enter_context(torch.device("cpu"))
        warnings.simplefilter("ignore")
        yield


def _standard(seed: int) -> None:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed は、まだ使っていない GPU の種まで変える
    np.random.seed(seed % 2**32)
    random.seed(seed)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    _set_default_device(None)
    _set_deterministic((False, False))
    torch.autograd.set_detect_anomaly(False)


def _restore(saved: list[tuple[Callable[[Any], object], Any]]) -> None:
    for put, value in saved:
        put(value)


def _rng_states() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def _set_rng_states(states: tuple[Any, ...]) -> None:
    torch_state, cuda, numpy_state, python_state = states
    torch.set_rng_state(torch_state)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy_state)
    random.setstate(python_state)


def _default_device() -> torch.device | None:
    """set_default_device で明示された装置。されていなければ None（既定の CPU と区別する）。"""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return None if context is None else context.device


def _set_default_device(device: torch.device | None) -> None:
    if _default_device() != device:
        torch.set_default_device(device)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(flags: tuple[bool, bool]) -> None:
    if _deterministic() != flags:  # 呼ぶだけで torch._inductor の読み込みに 1 秒かかる
        torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])


def _cudnn() -> tuple[bool, bool]:
    return torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic


def _set_cudnn(flags: tuple[bool, bool]) -> None:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags


def _set_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _set_numpy_errors(settings: dict[str, Any]) -> None:
    np.seterr(**settings)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (_default_device, _set_default_device),  # 乱数の状態の複製が別の装置に作られないよう、最初に戻す
    (_rng_states, _set_rng_states),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (_deterministic, _set_deterministic),
    (_cudnn, _set_cudnn),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_num_threads, _set_threads),
    (np.geterr, _set_numpy_errors),
)
