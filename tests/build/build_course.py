"""build の検査に使う、小さな教材を作る道具。"""

import textwrap
from pathlib import Path
from typing import Any

from tlkit.course.build.assemble import Draft, assemble
from tlkit.course.build.notebook import from_text
from tlkit.course.build.source import SourceCell
from tlkit.course.build.targets import Kind, Target

ANSWER = '''
def mmd2(x, y, sigma, estimator="biased"):
    """MMD² を返す。"""
    ### BEGIN SOLUTION
    def gram(a, b):
        return torch.exp(-(a[:, None, :] - b[None, :, :]).square().sum(dim=2) / (2 * sigma**2))

    def within(z):
        inner, n = gram(z, z), len(z)
        if estimator == "biased":
            return inner.sum() / n**2
        return (inner.sum() - inner.diagonal().sum()) / (n * (n - 1))

    return within(x) + within(y) - 2 * gram(x, y).mean()
    ### END SOLUTION
'''
SETUP = "import torch\n\nfrom tlkit.course import check, ready"
USE = 'if ready("01-1"):\n    print(f"{mmd2(torch.zeros(2, 1), torch.ones(2, 1), 1.0).item():.3f}")'


def code(text: str) -> str:
    return f"# %%\n{text.strip(chr(10))}\n"


def prose(text: str) -> str:
    return "# %% [markdown]\n" + "\n".join(f"# {line}".rstrip() for line in text.strip("\n").split("\n")) + "\n"


def exercise(*after: str, answer: str = ANSWER, setup: str = SETUP, box: str = "<!-- exercise: 01-1 -->") -> str:
    """演習 1 問の元ファイル。after は確認のセルより後のセル。"""
    check = code('check("01-1", mmd2)')
    return "\n".join([code(setup), prose(f"# 演習\n\n{box}"), code(answer), check, *after])


def make_course(root: Path, solution: str | None = None, chapter: str | None = None) -> Path:
    """root に教材を作る。"""
    for name in ("chapters", "solutions", "exercises"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "chapters" / "00_start.py").write_text(chapter or prose("# はじめに") + code("print(1)"), encoding="utf-8")
    if solution is not None:
        (root / "solutions" / "01_basics.py").write_text(solution, encoding="utf-8")
    return root


def draft(tmp_path: Path, source: str, kind: Kind = "exercise") -> Draft:
    """元ファイル 1 つを組み立てる（実行はしない）。"""
    folder = "chapters" if kind == "chapter" else "solutions"
    path = tmp_path / folder / "01_basics.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    output = tmp_path / ("exercises" if kind == "exercise" else folder) / "01_basics.ipynb"
    return assemble(Target(path, output, kind, tmp_path))


def cell(text: str, kind: str = "code") -> SourceCell:
    """元ファイルのセル 1 つ（10 行目から始まる）。"""
    return SourceCell(kind, textwrap.dedent(text).strip("\n"), "solutions/01_basics.py", 10)


def load(path: Path) -> Any:
    return from_text(path.read_text(encoding="utf-8"))


def stdout(notebook: Any) -> dict[str, str]:
    """セルの id → 標準出力。"""
    return {
        c.id: "".join("".join(o.text) for o in c.outputs if o.get("name") == "stdout")
        for c in notebook.cells
        if c.cell_type == "code"
    }
