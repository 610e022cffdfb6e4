"""教材のノートブックを、作業フォルダに無いものだけ写す。`tlkit lab` が毎回呼ぶ。"""

from dataclasses import dataclass, field

from tlkit.course.intake import read_notebook
from tlkit.course.work.workspace import Workspace


@dataclass
class FillReport:
    """写した結果。名前は `exercises/01_basics.ipynb` の形。"""

    copied: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """画面に出す日本語の行。"""
        if not self.copied:
            return [f"作業フォルダにはすべてのノートブックがあります（{len(self.kept)} 個）。"]
        return [f"作業フォルダに写しました: {rel}" for rel in self.copied]


def fill() -> FillReport:
    """教材の chapters と exercises を作業フォルダに写す。すでにあるファイルは、決して上書きしない。

    Raises:
        CourseError: 書き込めないとき、または教材のノートブックが壊れているとき。
    """
    report = FillReport()
    with Workspace() as workspace:
        for rel, source in workspace.notebooks().items():
            target = workspace.root / rel
            if target.exists() or target.is_symlink():
                report.kept.append(rel)
                if rel not in workspace.records:
                    workspace.record(rel, read_notebook(source))
                continue
            workspace.place(rel, read_notebook(source))
            report.copied.append(rel)
    return report
