"""ドメイン適応の部品。モデルは `tlkit/models/dann.py`、分布の違いの損失は `tlkit/losses/` にある。

methods.py      手法ごとの損失（ソースのみ、DANN、MMD、CORAL）
fitting.py      どの手法にも共通の学習ループ        pairs.py        ソースとターゲットのバッチの組
adabn.py        バッチ正規化の統計の測り直し        joint_error.py  Ben-David の上界の λ*
importance.py   共変量シフトの重要度重み            label_shift.py  ラベルシフトの推定と補正
"""

from tlkit.adapt.adabn import adapt_batchnorm
from tlkit.adapt.fitting import fit_adaptation
from tlkit.adapt.importance import effective_sample_size, importance_weights
from tlkit.adapt.joint_error import JointError, joint_error
from tlkit.adapt.label_shift import correct_prior, label_shift_weights
from tlkit.adapt.methods import CORALLoss, DANNLoss, MMDLoss, SourceOnly
from tlkit.adapt.pairs import PairLoader

__all__ = [
    "CORALLoss",
    "DANNLoss",
    "JointError",
    "MMDLoss",
    "PairLoader",
    "SourceOnly",
    "adapt_batchnorm",
    "correct_prior",
    "effective_sample_size",
    "fit_adaptation",
    "importance_weights",
    "joint_error",
    "label_shift_weights",
]
