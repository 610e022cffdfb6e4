"""学習者がノートブックから呼ぶ `check`、`ready`、`hint`。

印字は決まった 1 行だけである（`⏳ 01-1 未着手`、`✅ 01-1 合格`）。不合格は例外 `CheckFailed` で知らせる。
環境変数 TLKIT_CHECK=strict なら未着手も例外に、soft なら不合格も印字だけにする。
"""

import json
import os
from pathlib import Path
from typing import Any

from tlkit.course.checks import progress
from tlkit.course.checks.failure import CheckFailed
from tlkit.course.checks.harness import evaluate
from tlkit.course.checks.question import Question, Verdict
from tlkit.course.checks.registry import question as find
from tlkit.course.errors import CourseError

_MODES = ("", "strict", "soft")
_LEVELS = ("方針", "式", "ほぼコード")
_PRINTED_LINES = 5
_passed: set[str] = set()
_hints: dict[str, int] = {}


def check(question_id: str, *answers: Any) -> None:
    """演習の答えを確かめる。

    Args:
        question_id: 演習の id（例 "01-1"）。
        *answers: 答え（関数や値）。数と順は演習ごとに決まっている。

    Raises:
        CheckFailed: 答えが正しくないとき。文に診断が書いてある。
        CourseError: id や答えの数が違うとき。
    """
    question = find(question_id)
    mode = _mode()
    _match(question, answers)
    verdict, claim, causes = evaluate(question, answers)
    state = "passed" if verdict.passed else "untouched" if verdict.code == "untouched" else "failed"
    (_passed.add if state == "passed" else _passed.discard)(question_id)
    progress.record_check(question_id, state, verdict.code)
    message = _with_printed(verdict, claim.printed if state == "failed" else "")
    _log(question_id, state, verdict.code, message)
    _announce(question_id, state, message, mode, _cause(verdict, causes))


def ready(question_id: str) -> bool:
    """この演習に、今のカーネルで合格しているか。していなければ 1 行印字して False を返す。"""
    find(question_id)
    if question_id in _passed:
        return True
    print(f"⏭ {question_id} が未完成です")
    return False


def hint(question_id: str, level: int | None = None) -> None:
    """ヒントを印字する。呼ぶたびに方針、式、ほぼコードの順に進む。level（1〜3）で直に選べる。"""
    question = find(question_id)
    if level is None:
        level = min(_hints.get(question_id, 0) + 1, len(_LEVELS))
    if level not in (1, 2, 3) or isinstance(level, bool):
        raise CourseError(
            f"ヒントの段に {level!r} が渡されました。1（方針）、2（式）、3（ほぼコード）のどれかを渡してください。"
        )
    _hints[question_id] = max(_hints.get(question_id, 0), level)
    progress.record_hint(question_id, level)
    print(_hint_text(question, level))


def _hint_text(question: Question, level: int) -> str:
    left = len(_LEVELS) - level
    rest = (
        f'残り {left} 段です。次は hint("{question.id}", {level + 1}) で「{_LEVELS[level]}」が出ます。'
        if left
        else "これが最後のヒントです。"
    )
    return (
        f"💡 {question.id} ヒント {level}/{len(_LEVELS)}（{_LEVELS[level - 1]}）\n{question.hints[level - 1]}\n{rest}"
    )


def _mode() -> str:
    mode = os.environ.get("TLKIT_CHECK", "")
    if mode not in _MODES:
        raise CourseError(f"環境変数 TLKIT_CHECK が {mode!r} です。strict か soft にするか、設定を消してください。")
    return mode


def _match(question: Question, answers: tuple[Any, ...]) -> None:
    if len(answers) == len(question.answers):
        return
    names = ", ".join(question.answers)
    raise CourseError(
        f"{question.id} の答えは {len(question.answers)} 個ですが、{len(answers)} 個渡されました。"
        f'check("{question.id}", {names}) の形で呼んでください。'
    )


def _with_printed(verdict: Verdict, printed: str) -> str:
    if not printed.strip():
        return verdict.message
    lines = printed.rstrip().splitlines()  # 答えは何度も呼ばれるので、同じ印字が続く
    head = f"（答えの中で印字された内容。先頭の {_PRINTED_LINES} 行まで）"
    return "\n".join([verdict.message, head, *lines[:_PRINTED_LINES]])


def _cause(verdict: Verdict, causes: list[BaseException]) -> BaseException | None:
    return causes[verdict.cause] if verdict.cause is not None and verdict.cause < len(causes) else None


def _announce(question_id: str, state: str, message: str, mode: str, cause: BaseException | None) -> None:
    if state == "passed":
        print(f"✅ {question_id} 合格")
    elif state == "untouched" and mode != "strict":
        print(f"⏳ {question_id} 未着手")
    elif mode == "soft":
        print(f"❌ {question_id} {message.splitlines()[0]}")
    else:
        raise CheckFailed(f"{question_id} {message}") from cause


def _log(question_id: str, state: str, code: str, message: str) -> None:
    """`tlkit check FILE` が読む記録。印字された文字は当てにしない。"""
    path = os.environ.get("TLKIT_CHECK_LOG")
    if not path:
        return
    line = json.dumps({"question": question_id, "state": state, "code": code, "message": message}, ensure_ascii=False)
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise CourseError(
            f"確認の記録を {path} に書けません（{error}）。書ける場所を TLKIT_CHECK_LOG に指定してください。"
        ) from error
