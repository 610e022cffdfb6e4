"""採点を試すための小さな学級を作る。12 人分の提出と、名簿（一人は未提出）からなる。

正しい、一部だけ、未着手、壊れている、悪意がある、重なっている、の全部が入る。中身は配布版と解答から作り、いつも同じである。
提出を読む側は `gather.py`、採点の流れは `pipeline.py`。
"""

import copy
import io
import json
import shlex
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tlkit.course.errors import CourseError
from tlkit.course.intake import read_notebook
from tlkit.course.paths import course_root

SLUG = "01_basics"
SUBMISSIONS = "submissions"
ROSTER = "roster.csv"
README = "README.md"
PEOPLE = (  # （氏名、何を出したか）。学籍番号は s001 から順
    ("青木葵", "全問正解"),
    ("石田樹", "全問正解を、zipにまとめたもの"),
    ("上野海", "4問だけ解いて、残りはひな形のまま"),
    ("江口瑛", "01-1の答えが誤り"),
    ("大西緒", "ひな形のまま（未着手）"),
    ("加藤楓", "途中で切れた、壊れたファイル"),
    ("木村希", "文字コードがUTF-16のファイル"),
    ("工藤空", "01-3の途中で、Pythonを終わらせるコード"),
    ("小林心", "確認の関数を書き換え、「合格」と印字する、不正なコード"),
    ("佐藤咲", "出し直しあり（1回目は4問、2回目は全問正解）"),
    ("島田潮", "中身の違うノートブックが二つ"),
    ("鈴木涼", "拡張子だけを変えたPDF"),
    ("瀬川星", "提出なし"),
)
_WRONG = "def mmd2(x, y, sigma, estimator='biased'):\n    return (x.mean(dim=0) - y.mean(dim=0)).square().sum()"
_EXIT = "import os\n\nos._exit(0)"
_CHEAT = (
    "import numpy as np\nimport torch\n\n"
    "np.testing.assert_allclose = torch.testing.assert_close = lambda *_args, **_options: None\n"
    "print('✅ 01-1 合格')\n\n\n"
    "def mmd2(x, y, sigma, estimator='biased'):\n    return torch.zeros(())"
)
_DATE = (2026, 4, 1, 0, 0, 0)

Document = dict[str, Any]


def make_sample_class(folder: Path) -> tuple[Path, Path]:
    """folder の下に、提出のフォルダ、名簿、説明を作り、提出のフォルダと名簿の場所を返す。

    Raises:
        CourseError: 空のフォルダでないとき、配布版か解答がないとき。
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(
            f"{folder} はもうあり、空のフォルダではありません。ほかのものを上書きしないよう、"
            "まだない名前か、空のフォルダを指定してください。例: tlkit grade sample sample-class"
        )
    release, answers = _sources()
    submissions, roster = folder / SUBMISSIONS, folder / ROSTER
    for name, data in _files(release, answers):
        path = submissions / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    people = [(f"s{number:03d}", *person) for number, person in enumerate(PEOPLE, start=1)]
    lines = ["学籍番号,氏名", *(f"{student},{name}" for student, name, _ in people)]
    roster.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / README).write_text(_readme(people), encoding="utf-8")
    return submissions, roster


def next_commands(folder: Path) -> tuple[str, ...]:
    """次に打つ命令。本番と同じ命令を、作ったフォルダの中で打つ。"""
    source = [SUBMISSIONS, "--exercise", SLUG, "--roster", ROSTER]
    words = (source, ["status"], ["report", *source], ["override", "s008", "01-3", "0", "--why", "途中で終わるコード"])
    return (shlex.join(["cd", str(folder)]), *(shlex.join(["tlkit", "grade", *one]) for one in words))


def _readme(people: Iterable[tuple[str, str, str]]) -> str:
    rows = [f"| {student} | {name} | {what} |" for student, name, what in people]
    head = [
        "# 採点を試すための学級",
        "",
        f"演習 {SLUG} の、{len(PEOPLE) - 1} 人分の提出です。中身は作りもので、実在の人のものではありません。",
        f"提出は `{SUBMISSIONS}/`、名簿は `{ROSTER}` にあります。",
        "",
        "| 学籍番号 | 氏名 | 提出 |",
        "|---|---|---|",
    ]
    tail = [
        "",
        "工藤さんと小林さんの提出には、悪さをするコードがあります。自分の JupyterLab では実行しないでください。",
    ]
    return "\n".join([*head, *rows, *tail]) + "\n"


def _sources() -> tuple[Document, dict[str, str]]:
    """配布版と、答えのセルの id → 解答。"""
    root = course_root()
    release = read_notebook(root / "exercises" / f"{SLUG}.ipynb").document
    solution = read_notebook(root / "solutions" / f"{SLUG}.ipynb").document
    return release, {cell["id"]: cell["source"] for cell in solution["cells"] if "-answer" in cell["id"]}


def _files(release: Document, answers: dict[str, str]) -> Iterable[tuple[str, bytes]]:
    """提出のフォルダからの名前と、中身。"""
    first, *rest = answers
    third = rest[1]
    right = _filled(release, answers)
    half = _filled(release, {name: answers[name] for name in [first, *rest[:3]]})
    yield "s001.ipynb", right
    yield "s002.zip", _zipped(f"{SLUG}.ipynb", right)
    yield f"s003/{SLUG}.ipynb", half
    yield "s004.ipynb", _filled(release, answers | {first: _WRONG})
    yield "s005.ipynb", _filled(release, {})
    yield "s006.ipynb", right[: len(right) // 2]
    yield "s007.ipynb", right.decode("utf-8").encode("utf-16")
    yield "s008.ipynb", _filled(release, answers | {third: _EXIT})
    yield "s009.ipynb", _filled(release, {first: _CHEAT})
    yield "s010_attempt_1.ipynb", half
    yield "s010_attempt_2.ipynb", right
    yield f"s011/{SLUG}.ipynb", right
    yield f"s011/{SLUG} (1).ipynb", half
    yield "s012.ipynb", b"%PDF-1.7\n"


def _filled(release: Document, answers: dict[str, str]) -> bytes:
    """答えを書き入れたノートブック。"""
    made = copy.deepcopy(release)
    for cell in made["cells"]:
        cell["source"] = answers.get(cell["id"], cell["source"])
    return json.dumps(made, ensure_ascii=False, indent=1).encode("utf-8")


def _zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return out.getvalue()
