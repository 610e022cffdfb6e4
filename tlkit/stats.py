"""実験の結果をまとめる統計。平均には、必ず区間を添える。"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class MeanCI(NamedTuple):
    """平均と、信頼区間の半幅。`mean ± half` と読む。"""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def mean_ci(values: Sequence[float] | np.ndarray, level: float = 0.95) -> MeanCI:
    """平均と、t 分布による信頼区間の半幅を返す。

    半幅 = t_{n−1}((1 + level) / 2) · s / √n。s は不偏分散の平方根、n は値の数である。
    値が互いに独立で、ほぼ正規分布に従うことを仮定する（種を変えた実験の精度など）。

    Args:
        values: 2 個以上の有限な数。
        level: 信頼水準。0 と 1 の間。

    Raises:
        ValueError: 値が 2 個に満たないか、有限でない値があるか、level が範囲の外のとき。
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise ValueError(f"形 {array.shape} の値が渡されました。2 個以上の有限な数を 1 列に並べて渡してください。")
    if not 0 < level < 1:
        raise ValueError(f"level に {level!r} が渡されました。0 より大きく 1 より小さい数（例: 0.95）にしてください。")
    spread = array.std(ddof=1) / np.sqrt(len(array))
    return MeanCI(float(array.mean()), float(stats.t.ppf((1 + level) / 2, len(array) - 1) * spread))
