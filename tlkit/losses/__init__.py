"""損失関数。一つの損失に一つのファイル。式・形・出典は各関数の説明にある。"""

from tlkit.losses.attention_transfer import attention_transfer_loss
from tlkit.losses.coral import coral
from tlkit.losses.distillation import DistillationLoss, DistillationTerms, kd_loss
from tlkit.losses.hint import hint_loss
from tlkit.losses.mmd import mmd2

__all__ = [
    "DistillationLoss",
    "DistillationTerms",
    "attention_transfer_loss",
    "coral",
    "hint_loss",
    "kd_loss",
    "mmd2",
]
