"""`tlkit build`: 元の .py から、実行済みのノートブックを作る。逆向きは決して行わない。

入口は `run.py` の `build`、結果は `report.py` の `BuildReport`。
流れは、選ぶ（targets）→ 読む（source、regions、structure、guards）→ 組み立てる（assemble）→ 実行する（execute）→ 書く（writer）。
"""

from tlkit.course.build.report import BuildReport
from tlkit.course.build.run import build

__all__ = ["BuildReport", "build"]
