"""`tlkit check FILE` の本体。ノートブックを動かし、1 問ずつの合否と診断の表にする。

✅ になるのは、この実行の中で `check` が「合格」と記録した問題だけです。
読む入口は `tlkit/course/intake.py`、動かす部分は `notebook_run.py`、表は `notebook_table.py` です。
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tlkit.course.cells import check_calls
from tlkit.course.checks import registry
from tlkit.course.checks.question import Question
from tlkit.course.errors import CourseError
from tlkit.course.intake import read_notebook, require_python
from tlkit.course.paths import course_root

if TYPE_CHECKING:
    from tlkit.course.checks.notebook_run import CellFault, Run

DEFAULT_TIMEOUT = 600
_SLUG = re.compile(r"(\d\d_[a-z0-9_]+?)(?:_new\d*)?(?![a-z0-9_])")

State = Literal["passed", "failed", "untouched", "missing", "replaced", "stopped", "timeout", "dead"]


@dataclass(frozen=True)
class Row:
    """1 問の結果。`detail` は学習者が読む診断。"""

    question: str
    title: str
    state: State
    detail: str


@dataclass(frozen=True)
class NotebookResult:
    """ノートブック 1 冊の結果。"""

    path: Path
    rows: tuple[Row, ...]

    @property
    def exit_code(self) -> int:
        """すべて合格なら 0、そうでなければ 1。"""
        return 0 if self.rows and all(row.state == "passed" for row in self.rows) else 1


def check_notebook(path: Path, *, timeout: int = DEFAULT_TIMEOUT) -> NotebookResult:
    """ノートブックをまっさらなカーネルで動かし、演習の合否を調べる。ファイルは書き換えない。

    Args:
        path: 演習のノートブック。
        timeout: 1 つのセルにかけてよい時間 [秒]。

    Raises:
        CourseError: ノートブックとして読めない、この教材の演習ではない、カーネルが始まらない、のどれか。
    """
    document = read_notebook(path).document
    require_python(document, str(path))
    questions = exercise_questions(document, path)
    from tlkit.course.checks.notebook_run import run_notebook

    run = run_notebook(document, path.resolve().parent, timeout)
    return NotebookResult(path, tuple(_row(question, document, run) for question in questions))


def exercise_questions(document: dict[str, Any], path: Path) -> list[Question]:
    """このノートブックに入っているはずの問題。metadata の一覧に、登録されている問題を足す。"""
    metadata = document["metadata"].get("tlkit")
    metadata = metadata if isinstance(metadata, dict) else {}
    if metadata.get("kind") == "chapter":
        raise CourseError(f"{path} は章のノートブックです。演習はありません。\n演習は exercises フォルダにあります。")
    slug = str(metadata.get("slug") or _slug_from_name(path))
    listed = metadata.get("questions")
    ids = [str(one) for one in listed] if isinstance(listed, list) else []
    ids += [question.id for question in registry.questions(slug) if question.id not in ids]
    if not ids:
        raise CourseError(
            f"{path} は、この教材の演習のノートブックではありません。\n"
            "work/exercises にあるノートブック（例: work/exercises/01_basics.ipynb）を指定してください。"
        )
    return [registry.question(one) for one in ids]


def _slug_from_name(path: Path) -> str:
    """metadata を失ったノートブックの章。`01_basics（新版）` や `01_basics (1)` も 01_basics と読む。"""
    found = _SLUG.match(path.stem)
    if found is None or not (course_root() / "solutions" / f"{found.group(1)}.py").is_file():
        return ""
    return found.group(1)


def _row(question: Question, document: dict[str, Any], run: "Run") -> Row:
    record = run.records.get(question.id)
    if record is None:
        state, detail = _without_record(question, document, run)
    elif record["state"] == "passed":
        state, detail = "passed", "合格"
    elif record["state"] == "untouched":
        state, detail = "untouched", "未着手です。" + _earlier_fault(question, document, run)
    else:
        state, detail = "failed", record["message"] + _earlier_fault(question, document, run)
    return Row(question.id, question.title, state, detail)


def _without_record(question: Question, document: dict[str, Any], run: "Run") -> tuple[State, str]:
    numbers = _check_cells(question.id, document)
    if not numbers:
        call = f'check("{question.id}", {", ".join(question.answers)})'
        return "missing", f"確認セルがありません。答えのセルの下に、次の 1 行のセルを足してください: {call}"
    fault = _decisive_fault(numbers, run)
    if fault is None:
        return "replaced", (
            f"確認セル（{numbers[-1]} 番目のセル）は動きましたが、教材の check が呼ばれていません。"
            "check が差し替えられています。check という名前を自分で定義していないか確かめてください。"
        )
    if fault.kind == "timeout":
        return (
            "timeout",
            f"時間切れ: {fault.number} 番目のセルが {fault.message}。終わらない繰り返しがないか確かめてください。",
        )
    if fault.kind == "dead":
        return "dead", f"カーネルが落ちました: {fault.number} 番目のセルで {fault.message}。"
    return "stopped", f"途中のセルで止まりました: {fault.number} 番目のセルで {fault.message}"


def _decisive_fault(numbers: list[int], run: "Run") -> "CellFault | None":
    """確認に届かなかった原因。確認セルが無事に終わっていれば None。"""
    last = numbers[-1]
    at_check = [fault for fault in run.faults if fault.number in numbers]
    if run.reached >= last and not at_check:
        return None
    before = [fault for fault in run.faults if fault.number <= last]
    fatal = [fault for fault in (*at_check, *before[-1:]) if fault.kind != "error"]
    return (fatal or before)[0]  # 後の誤りは、たいてい最初の誤りの巻き添えである


def _earlier_fault(question: Question, document: dict[str, Any], run: "Run") -> str:
    last = max(_check_cells(question.id, document), default=len(document["cells"]))
    faults = [fault for fault in run.faults if fault.number <= last]
    return f"（その前に、{faults[0].number} 番目のセルで {faults[0].message}）" if faults else ""


def _check_cells(exercise: str, document: dict[str, Any]) -> list[int]:
    """`check` をこの番号で呼んでいるコードセル。上から数えた番号（1 から）。"""
    return [
        number
        for number, cell in enumerate(document["cells"], start=1)
        if cell["cell_type"] == "code" and exercise in check_calls(cell["source"])
    ]
