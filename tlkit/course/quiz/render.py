"""クイズを、章のノートブックのセルにする。build が呼ぶ。

1 問は Markdown のセル（問題文、選択肢、折りたたんだ答えと解説）と、`quiz("q01-01", ...)` の 1 行のセルになる。
採点は `mark.py`、YAML の形は `schema.py`。
"""

import textwrap
from collections.abc import Sequence

import nbformat.v4
from nbformat import NotebookNode

from tlkit.course.errors import CourseError
from tlkit.course.quiz.schema import LETTERS, QuizItem, load_quiz, quiz_file


def quiz_cells(slug: str, ids: Sequence[str] | None = None) -> list[NotebookNode]:
    """章のクイズのセルを、問題ごとに 2 つずつ並べて返す。

    Args:
        slug: 章の名前。例 "01_basics"。
        ids: 載せる問題の番号を、載せる順に。省くとファイルのすべて。

    Raises:
        CourseError: ファイルの形が違うか、その番号の問題がないとき。
    """
    items = load_quiz(quiz_file(slug))
    if ids is not None:
        items = _select(items, ids, quiz_file(slug).name)
    return [cell for item in items for cell in (_question_cell(item), _mark_cell(item))]


def to_markdown(item: QuizItem) -> str:
    """1 問の Markdown。

    `<details>` の中は、前後に空行がないと Markdown として読まれない。だから空行で区切る。
    """
    badges = [f"**{item.scope}**", item.skill, "難易度 " + "★" * item.difficulty + "☆" * (3 - item.difficulty)]
    if item.syllabus:
        badges.append(f"シラバス {item.syllabus}")
    choices = [_bullet(f"({letter}) {choice}") for letter, choice in zip(LETTERS, item.choices, strict=True)]
    parts = [f"### 問 {item.id}", " ｜ ".join(badges), item.stem.strip(), "\n".join(choices), *_explanation(item)]
    return "\n\n".join(parts)


def _explanation(item: QuizItem) -> list[str]:
    reasons = [
        _bullet(f"({letter}) {'正しい' if letter == item.letter else '誤り'}: {why}")
        for letter, why in zip(LETTERS, item.why, strict=True)
    ]
    back = [f"読み返す節: [{item.section}](#{item.section})"] if item.section else []
    head = "<details>\n<summary>答えと解説</summary>"
    return [head, f"**答え ({item.letter})**", "\n".join(reasons), *back, "</details>"]


def _bullet(text: str) -> str:
    """箇条書きの 1 項目。2 行目からは字下げして、項目の中にとどめる。"""
    first, *rest = text.strip().split("\n")
    return "\n".join([f"- {first}", textwrap.indent("\n".join(rest), "  ")]) if rest else f"- {first}"


def _question_cell(item: QuizItem) -> NotebookNode:
    return _cell("markdown", to_markdown(item), item.id)


def _mark_cell(item: QuizItem) -> NotebookNode:
    return _cell("code", f'quiz("{item.id}", ...)', f"{item.id}-mark")


def _cell(kind: str, source: str, cell_id: str) -> NotebookNode:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    cell: NotebookNode = make(source, id=cell_id)  # type: ignore[no-untyped-call]
    return cell


def _select(items: list[QuizItem], ids: Sequence[str], file: str) -> list[QuizItem]:
    known = {item.id: item for item in items}
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise CourseError(f"{file} に問題 {'、'.join(unknown)} がありません。あるのは {'、'.join(known)} です。")
    return [known[name] for name in ids]
