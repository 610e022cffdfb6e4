"""ファインチューニングの部品。モデルは `tlkit/models` のものでも、torchvision のものでもよい。

features.py  特徴の取り出し        freeze.py     層の凍結        groups.py  層別学習率
unfreeze.py  段階的解凍            schedules.py  学習率の予定    probe.py   線形プローブ
学習のくり返しは `tlkit/training.py`、段の分け方は `tlkit/_stages.py` にある。
"""

from tlkit.finetune.features import extract_features
from tlkit.finetune.freeze import Freeze, set_freeze, stage_names
from tlkit.finetune.groups import param_groups
from tlkit.finetune.probe import fit_head
from tlkit.finetune.schedules import slanted_triangular
from tlkit.finetune.unfreeze import GradualUnfreezing

__all__ = [
    "Freeze",
    "GradualUnfreezing",
    "extract_features",
    "fit_head",
    "param_groups",
    "set_freeze",
    "slanted_triangular",
    "stage_names",
]
