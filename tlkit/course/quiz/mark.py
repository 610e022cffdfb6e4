"""クイズの採点。ノートブックの中で `quiz("q01-03", "b")` と呼ぶ。

間違えたときは、選んだ選択肢がなぜ違うかだけを示し、正答は教えない（答えは折りたたみの中にある）。
"""

import re
import sys
import unicodedata
from types import EllipsisType
from typing import Any

from tlkit.course.checks.progress import record_quiz
from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root
from tlkit.course.quiz.schema import LETTERS, QuizItem, load_quiz


def quiz(quiz_id: str, answer: str | EllipsisType = ...) -> None:
    """答えを採点し、結果と、選んだ選択肢の理由を表示する。

    Args:
        quiz_id: 問題の番号。例 "q01-03"。
        answer: 選んだ記号。"a"、"b"、"c"、"d" のどれか。`...` のままなら未回答とみなす。

    Raises:
        CourseError: 問題がないか、記号が a〜d でないとき。
    """
    item = find(quiz_id)
    if isinstance(answer, EllipsisType):
        print(f"⏳ {item.id} 未回答")
        return
    letter = as_letter(answer)
    right = letter == item.letter
    print(f"✅ {item.id} 正解" if right else f"❌ {item.id} 不正解")
    _show(item.why[LETTERS.index(letter)])
    record_quiz(item.id, letter, correct=right)


def find(quiz_id: str) -> QuizItem:
    """番号で問題を探す。ファイルは章の番号で決まる。"""
    if not isinstance(quiz_id, str) or not re.fullmatch(r"q\d{2}-\d{2}", quiz_id):
        raise CourseError(f'問題の番号に {quiz_id!r} が渡されました。"q01-03" の形で指定してください。')
    folder = course_root() / "chapters" / "quiz"
    files = sorted(folder.glob(f"{quiz_id[1:3]}_*.yaml"))
    if not files:
        raise CourseError(f"問題 {quiz_id} のファイルが {folder} にありません。章の番号を確かめてください。")
    items = [item for file in files for item in load_quiz(file)]
    for item in items:
        if item.id == quiz_id:
            return item
    known = "、".join(item.id for item in items)
    raise CourseError(f"問題 {quiz_id} はありません。この章にあるのは {known} です。")


def as_letter(answer: Any) -> str:
    """答えの記号を a〜d にそろえる。大文字、全角、前後の空白、かっこは受け入れる。"""
    text = unicodedata.normalize("NFKC", answer).strip(" ()").lower() if isinstance(answer, str) else ""
    if len(text) != 1 or text not in LETTERS:
        raise CourseError(
            f'答えに {answer!r} が渡されました。"a"、"b"、"c"、"d" のどれかを引用符つきで渡してください。'
        )
    return text


def _show(text: str) -> None:
    """理由を表示する。ノートブックの中では、数式が読めるように Markdown で出す。"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.display import Markdown, display

        display(Markdown(text))  # type: ignore[no-untyped-call]
    else:
        print(text)
