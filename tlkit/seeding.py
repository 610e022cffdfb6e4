"""乱数の種を一度に決める。Python、NumPy、PyTorch（CPU と GPU）、DataLoader のワーカーを対象とする。"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import get_worker_info


@dataclass(frozen=True)
class Seeded:
    """決めた種と、DataLoader に渡す二つの引数。`DataLoader(..., **seeded.loader_kwargs)` と書く。"""

    seed: int
    generator: torch.Generator

    @property
    def loader_kwargs(self) -> dict[str, object]:
        """並べ替えの乱数とワーカーの種を、この種で決めるための引数。"""
        return {"generator": self.generator, "worker_init_fn": seed_worker}


def seed_everything(seed: int) -> Seeded:
    """Python、NumPy、PyTorch の乱数の種をそろえて決める。

    同じ機械、同じ版、同じスレッド数なら、同じ結果になる。CPU の種類が違えば、足し算の順序が変わり、
    末尾の桁が変わることがある。

    Args:
        seed: 0 以上 2³² 未満の整数。NumPy の種がこの範囲しか受け付けない。

    Returns:
        DataLoader に渡す引数を持つ `Seeded`。

    Raises:
        ValueError: 整数でないか、範囲の外のとき。
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed に {seed!r} が渡されました。0 以上 {2**32 - 1} 以下の整数にしてください。")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # CUDA と MPS の種も、ここで決まる
    return Seeded(seed, torch.Generator().manual_seed(seed))


def seed_worker(worker_id: int) -> None:
    """DataLoader のワーカーごとに、互いに異なり、かつ再現できる種を決める。

    ワーカーの PyTorch の種は DataLoader が決めるが、Python と NumPy の種は決めない。
    そのまま使うと、NumPy による拡張が全ワーカーで同じになることがある。
    """
    info = get_worker_info()
    seed = (info.seed if info is not None else worker_id) % 2**32
    random.seed(seed)
    np.random.seed(seed)
