"""共有の乱数（torch、NumPy、標準ライブラリ）の状態の控え。答えが共有の乱数を動かしたかを、probe で調べるのに使う。

確認の前後で状態を元へ戻すのは `state.py`。
"""

import random
from typing import Any

import numpy as np
import torch


def snapshot() -> tuple[Any, ...]:
    """今の状態。二つの控えが等しければ、その間に共有の乱数は使われていない。"""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


SHARED_RANDOM = (
    "shared-random",
    "呼び出しの前後で、共有の乱数の状態が変わりました。torch.manual_seed や np.random.seed は、よその実験の乱数まで変えます。"
    "np.random.default_rng(seed) か torch.Generator() で、自分だけの生成器を作ってください。",
)
