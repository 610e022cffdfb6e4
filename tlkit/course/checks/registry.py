"""問題の一覧。章 NN の問題は、モジュール `tlkit.course.checks.cNN` の `QUESTIONS` に並ぶ。"""

import difflib
import functools
import importlib
import pkgutil
import re
from pathlib import Path

from tlkit.course.checks.question import Question
from tlkit.course.errors import CourseError


def question(question_id: str) -> Question:
    """id（例 "01-1"）の問題を返す。

    Raises:
        CourseError: その id の問題がないとき。似た id を添える。
    """
    chapter = question_id[:2] if isinstance(question_id, str) else ""
    for candidate in _chapter(chapter):
        if candidate.id == question_id:
            return candidate
    raise CourseError(_unknown(question_id))


def questions(slug: str) -> list[Question]:
    """章（例 "01_basics"）の問題を、番号の順に返す。問題のない章なら空。"""
    return list(_chapter(slug[:2]))


def all_questions() -> list[Question]:
    """全部の問題を、章と番号の順に返す。"""
    return [item for chapter in _chapters() for item in _chapter(chapter)]


@functools.cache
def _chapters() -> tuple[str, ...]:
    folder = str(Path(__file__).parent)
    return tuple(sorted(m.name[1:] for m in pkgutil.iter_modules([folder]) if re.fullmatch(r"c\d\d", m.name)))


def _chapter(number: str) -> tuple[Question, ...]:
    if number not in _chapters():
        return ()
    found: tuple[Question, ...] = importlib.import_module(f"tlkit.course.checks.c{number}").QUESTIONS
    return found


def _unknown(question_id: object) -> str:
    wanted = str(question_id)
    known = [item.id for item in questions(wanted) or all_questions()]  # 章が合っていれば、その章の id だけを薦める
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or known[:3]
    listed = "、".join(f'"{name}"' for name in near)
    return (
        f"演習 {question_id!r} は見つかりません。id は「章-番号」の文字列です（例: {listed}）。"
        "演習の見出しにある番号を確かめてください。"
    )
