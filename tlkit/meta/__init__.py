"""メタ学習: 「少しの手本から学ぶこと」を学ぶ。エピソードは `tlkit/fewshot/`、損失は `tlkit/losses/` にある。

adapt.py         内側の勾配降下（微分できる）           functional.py    パラメータを差し替えてモデルを呼ぶ
maml.py          MAML、一次近似、ANIL の損失と適応      fitting.py       MAML の学習
accumulate.py    課題ごとに勾配を求めて足す（記憶の節約）  stacked.py       課題を重ねて一度に計算する（小さな MLP 用）
distillation.py  メタ蒸留                          teachers.py      手本を見て答える教師モデル
"""

from tlkit.meta.accumulate import mean_over_tasks
from tlkit.meta.adapt import adapt
from tlkit.meta.distillation import MetaDistillation
from tlkit.meta.fitting import fit_maml
from tlkit.meta.functional import call_with, inner_parameters
from tlkit.meta.maml import MAML, gradient_cosine
from tlkit.meta.stacked import StackedMAML, stacked_call
from tlkit.meta.teachers import PrototypeTeacher

__all__ = [
    "MAML",
    "MetaDistillation",
    "PrototypeTeacher",
    "StackedMAML",
    "adapt",
    "call_with",
    "fit_maml",
    "gradient_cosine",
    "inner_parameters",
    "mean_over_tasks",
    "stacked_call",
]
