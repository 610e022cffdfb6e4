"""`tlkit doctor`。この環境で教材が動くかを調べ、直し方を日本語で示す。

- `report.py`   すべてを動かして表にする（`doctor` はノートブック用、`run` は CLI 用）
- `finding.py`  結果 1 件の形        `commands.py`  直し方のコマンド
- `packages.py` `torch_pair.py` `accelerator.py` `kernel.py` `fonts.py` `embedded.py` `folders.py` `machine.py`  調べる関数
"""

from tlkit.course.doctor.report import doctor, examine, run

__all__ = ["doctor", "examine", "run"]
