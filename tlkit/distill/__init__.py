"""知識蒸留の部品。損失は `tlkit/losses/`（`kd_loss`、`hint_loss` など）、学習のくり返しは `tlkit/training.py` にある。

methods.py       生徒モデルの損失（正解ラベルだけ、教師モデルつき）   fitting.py    生徒モデルの学習
soft_targets.py  教師モデルのロジットの前計算                         footprint.py  大きさ、計算量、時間
quantization.py  量子化                                               pruning.py    枝刈り
sweep.py         設定の格子を、再開できる形で並列に測る               _sweep_store.py  その記録
量子化、枝刈り、格子は `from tlkit.distill.quantization import quantize` のように、モジュールから取り出す。
"""

from tlkit.distill.fitting import fit_distillation, fit_student
from tlkit.distill.footprint import Footprint, Latency, count_flops, count_parameters, footprint, latency, stored_bytes
from tlkit.distill.methods import FromTeacher, HardLabels
from tlkit.distill.soft_targets import WithTeacherLogits, teacher_logits

__all__ = [
    "Footprint",
    "FromTeacher",
    "HardLabels",
    "Latency",
    "WithTeacherLogits",
    "count_flops",
    "count_parameters",
    "fit_distillation",
    "fit_student",
    "footprint",
    "latency",
    "stored_bytes",
    "teacher_logits",
]
