"""照合の検査に使う、二問だけの小さな配布版と、その提出。"""

import copy
import json
from pathlib import Path
from typing import Any

from course_samples import code, notebook, text

from tlkit.course.grading.assignment import Assignment, from_document

SLUG = "01_basics"
STUB1 = 'def mmd2(x, y, sigma=1.0):\n    raise NotImplementedError("ここを実装してください")'
STUB2 = 'def leep(probs, labels):\n    raise NotImplementedError("ここを実装してください")'
RIGHT1 = "def mmd2(x, y, sigma=1.0):\n    total = x + y\n    return total * sigma"
RIGHT2 = "def leep(probs, labels):\n    return mmd2(probs, labels)"
SETUP = "import math"
SETUP2 = "SCALE = 3"
FOLLOW = 'heavy = [n**2 for n in range(3)]\n\nif ready("01-1"):\n    inner = mmd2(1, 2)'
A1, A2 = "ex-01-1-answer", "ex-01-2-answer"
C1, C2 = "ex-01-1-check", "ex-01-2-check"


def release_document(stamp: str = "f" * 64) -> dict[str, Any]:
    document = notebook(
        text("# 演習", "c-title"),
        code(SETUP, "c-setup"),
        text("## 01-1", "c-q1"),
        code(STUB1, A1),
        code('check("01-1", mmd2)', C1),
        code(FOLLOW, "c-follow"),
        code(SETUP2, "c-setup2"),
        text("## 01-2", "c-q2"),
        code(STUB2, A2),
        code('check("01-2", leep)', C2),
    )
    document["metadata"]["tlkit"]["fingerprint"] = {"cells": stamp}
    return document


def release() -> Assignment:
    return from_document(release_document(), SLUG)


def submission(one: str = RIGHT1, two: str = RIGHT2) -> dict[str, Any]:
    document = release_document()
    cell(document, A1)["source"] = one
    cell(document, A2)["source"] = two
    return document


def cell(document: dict[str, Any], cell_id: str) -> dict[str, Any]:
    return next(one for one in document["cells"] if one["id"] == cell_id)


def index(document: dict[str, Any], cell_id: str) -> int:
    return next(number for number, one in enumerate(document["cells"]) if one["id"] == cell_id)


def insert_after(document: dict[str, Any], cell_id: str, *cells: dict[str, Any]) -> dict[str, Any]:
    at = index(document, cell_id) + 1
    document["cells"][at:at] = copy.deepcopy(list(cells))
    return document


def drop(document: dict[str, Any], *cell_ids: str) -> dict[str, Any]:
    document["cells"] = [one for one in document["cells"] if one["id"] not in cell_ids]
    return document


def without_ids(document: dict[str, Any]) -> dict[str, Any]:
    """Colab で保存したときのように、セルの id と教材の metadata を失わせる。"""
    for number, one in enumerate(document["cells"]):
        one["id"] = f"made-{number}"
    document["metadata"] = {"kernelspec": document["metadata"]["kernelspec"], "colab": {"provenance": []}}
    return document


def to_bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8")


def hand_in(path: Path, document: dict[str, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_bytes(document or submission()))
    return path
