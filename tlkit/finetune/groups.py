"""層別学習率（discriminative learning rates）: 入力に近い段ほど、学習率を小さくする。

段の分け方は `tlkit/_stages.py` にある。学習率の時間変化は `schedules.py`。
"""

import math
from typing import Any

from torch import nn

from tlkit._stages import split_stages


def param_groups(model: nn.Module, base_lr: float, *, decay: float = 2.6) -> list[dict[str, Any]]:
    """段ごとに学習率の違う、パラメータのグループを作る。`torch.optim` の最適化手法に、そのまま渡せる。

    分類の層から数えて k 段下の学習率は、

        η_k = base_lr / decay^k    （k = 0 は分類の層）

    学習するパラメータは、どれもちょうど一つのグループに入る（段に属さない部分や、入り口の stem も漏れない）。
    凍結した段はグループにならないが、k の数には入る。凍結の範囲を変えても、ほかの段の学習率は同じである。
    二つの段が共有するパラメータは、入力側の段に入る（小さい方の学習率になる）。

    `GradualUnfreezing` と組み合わせるときは、何も凍結していない状態で呼ぶ。
    後で凍結が解けるパラメータも、初めから最適化手法に渡しておく必要があるからである。

    Args:
        model: 線形層（か畳み込み）で終わる分類のモデル。変えない。
        base_lr: 分類の層の学習率。
        decay: 一段下がるごとに学習率を割る値。1 なら、どの段も同じ学習率になる。

    Returns:
        入力側から出力側の順のグループ。各グループは {"params": パラメータの一覧, "lr": 学習率, "name": 段の名前}。

    Raises:
        ValueError: base_lr か decay が正の有限の値でないか、学習するパラメータが一つもないか、分類の層が見つからないとき。

    出典: Howard & Ruder, ACL 2018, arXiv:1801.06146 の 3.2 節（η^{l−1} = η^l / 2.6）。
    """
    for name, value in (("base_lr", base_lr), ("decay", decay)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} に {value!r} が渡されました。正の有限の値にしてください。")
    stages = split_stages(model)
    groups: list[dict[str, Any]] = []
    taken: set[nn.Parameter] = set()
    for index, stage in enumerate(stages):
        new = dict.fromkeys(p for p in stage.parameters if p.requires_grad and p not in taken)
        taken.update(new)
        if new:
            rate = base_lr / decay ** (len(stages) - 1 - index)
            groups.append({"params": list(new), "lr": rate, "name": stage.name})
    if not groups:
        raise ValueError(
            f"学習するパラメータが一つもありません。{type(model).__name__} のすべての段"
            f" {[stage.name for stage in stages]} が凍結されています。"
            'set_freeze(model, "none") などで、凍結を解いてから呼んでください。'
        )
    return groups
