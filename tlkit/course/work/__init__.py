"""学習者の作業フォルダ `work/` の世話。写す（fill）・新しくする（update）・戻す（reset）。

約束は 1 つです。学習者が書いたものを、控えなしに上書きしない。
`filling.py`・`updating.py`・`resetting.py` が 3 つの仕事、`workspace.py` が記録、`files.py` が安全な書き込みです。
"""

from tlkit.course.work.filling import FillReport, fill
from tlkit.course.work.resetting import ResetReport, reset
from tlkit.course.work.updating import UpdateReport, update

__all__ = ["FillReport", "ResetReport", "UpdateReport", "fill", "reset", "update"]
