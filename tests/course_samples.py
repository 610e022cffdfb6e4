"""小さな教材と作業フォルダを作る、テストの道具。"""

import json
from pathlib import Path
from typing import Any

REL = "exercises/01_basics.ipynb"
STUB = 'def mmd2(x, y):\n    raise NotImplementedError("ここを実装してください")'
CHECK = 'check("01-1", mmd2)'
STUB2 = "sigma = ..."
CHECK2 = 'check("01-2", sigma)'


def code(source: str, cell_id: str, **extra: Any) -> dict[str, Any]:
    cell = {
        "cell_type": "code",
        "id": cell_id,
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    return cell | extra


def text(source: str, cell_id: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": source}


def notebook(
    *cells: dict[str, Any], kind: str = "exercise", questions: tuple[str, ...] = ("01-1", "01-2")
) -> dict[str, Any]:
    course = {"kind": kind, "slug": "01_basics", "questions": list(questions)}
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"tlkit": course, "kernelspec": spec}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def exercise(*, note: str = "問題文") -> dict[str, Any]:
    """演習 2 問のノートブック。"""
    return notebook(
        text("# 演習", "c-title"),
        code("import math", "c-setup"),
        text(note, "c-q1"),
        code(STUB, "ex-01-1-answer", outputs=[{"output_type": "stream", "name": "stdout", "text": "元の出力\n"}]),
        code(CHECK, "ex-01-1-check", outputs=[{"output_type": "stream", "name": "stdout", "text": "⏳ 01-1 未着手\n"}]),
        text("次の問題", "c-q2"),
        code(STUB2, "ex-01-2-answer"),
        code(CHECK2, "ex-01-2-check"),
    )


def chapter(body: str = "本文") -> dict[str, Any]:
    return notebook(text(body, "c-body"), code("1 + 1", "c-code"), kind="chapter", questions=())


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def make_course(root: Path) -> Path:
    """章 2 つ（00、01）と演習 1 つの教材。"""
    (root / "chapters").mkdir(parents=True)
    (root / "chapters" / "00_start.py").write_text("# %%\n", encoding="utf-8")
    (root / "solutions").mkdir()
    (root / "solutions" / "01_basics.py").write_text("# %%\n", encoding="utf-8")
    write(root / "chapters" / "00_start.ipynb", chapter("はじめに"))
    write(root / "chapters" / "01_basics.ipynb", chapter())
    write(root / "exercises" / "01_basics.ipynb", exercise())
    return root


def edit(path: Path, index: int, source: str) -> None:
    document = read(path)
    document["cells"][index]["source"] = source
    write(path, document)


def backups(work: Path) -> list[Path]:
    return [path for path in (work / "backup").rglob("*") if path.is_file()]


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob(".tlkit-*.tmp"))


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".tlkit" not in p.parts
    }
