"""訓練・評価の状態の切り替え。部品ごとに覚えておき、終わったら元へ戻す。"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """この中では、モデルを評価モードにする。"""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:  # train() を呼ぶと、もともと評価モードだった部品まで訓練モードになる
            module.training = training
