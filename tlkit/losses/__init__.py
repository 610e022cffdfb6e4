"""損失関数。一つの損失に一つのファイル。式・形・出典は各関数の説明にある。"""

from tlkit.losses.coral import coral
from tlkit.losses.mmd import mmd2

__all__ = ["coral", "mmd2"]
