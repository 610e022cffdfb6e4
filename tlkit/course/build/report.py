"""build の結果の入れ物。CLI はこれを読んで表示し、終了コードを決める。

隣: 組み立てる側は `run.py`、--check の中身は `drift.py`。
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class BuildReport:
    """1 回の build の結果。

    Attributes:
        built: 実行して書き直したノートブック（--nbgrader では書き出したノートブック）。
        skipped: 入力も出力も揃っていて、作り直さなかったノートブック。
        problems: --check で見つかったずれ。1 件が日本語の 1 文で、直すコマンドを含む。
        allowed: 作者が `### ALLOW` で許した文。「場所: 文」の形。
        seconds: かかった時間 [秒]。
    """

    built: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """ずれが 1 件もなければ True。"""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """CLI の終了コード。ずれがあれば 1。"""
        return 0 if self.ok else 1
