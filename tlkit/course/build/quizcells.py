"""章の `<!-- quiz -->` の行を、確認クイズのセルに置き換える。

`<!-- quiz -->` はその章の全問、`<!-- quiz: q01-01 q01-02 -->` は書いた問題だけ。
隣: セルの中身を作るのは `tlkit/course/quiz/render.py`、並べるのは `assemble.py`。
"""

import re
from typing import Any

from tlkit.course.build.source import SourceCell
from tlkit.course.build.targets import Kind
from tlkit.course.errors import CourseError

_QUIZ = re.compile(r"^\s*<!--\s*quiz\s*(?::\s*(.*?))?\s*-->\s*$")


def split_quiz(cell: SourceCell, kind: Kind, slug: str) -> list[str | list[Any]]:
    """markdown セルを、文章と「クイズのセルの列」に分けて順に返す。

    Raises:
        CourseError: 章でない所に書いたとき。知らない問題の名前のとき。
    """
    parts: list[str | list[Any]] = []
    prose: list[str] = []
    for number, line in enumerate(cell.text.split("\n")):
        match = _QUIZ.match(line)
        if not match:
            prose.append(line)
            continue
        if kind != "chapter":
            raise cell.error("確認クイズは章だけに置けます。chapters/ の元ファイルへ移してください。", number)
        parts += [*_text(prose), _quiz(cell, number, slug, match.group(1))]
        prose = []
    return [*parts, *_text(prose)]


def _text(lines: list[str]) -> list[str]:
    text = "\n".join(lines).strip("\n")
    return [text] if text.strip() else []


def _quiz(cell: SourceCell, number: int, slug: str, names: str | None) -> list[Any]:
    from tlkit.course.quiz.render import quiz_cells

    ids = names.replace(",", " ").split() if names is not None else None
    try:
        return list(quiz_cells(slug, ids))
    except CourseError as error:
        raise cell.error(f"確認クイズを置けません。\n{error}", number) from error
