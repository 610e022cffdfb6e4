"""コマンドの誤りを、日本語の一文と終了コードにする。

利用者が直せる誤り（CourseError、使い方の誤り）には追跡情報を出しません。
思いがけない例外では追跡情報を残し、何を知らせてほしいかを添えます。
"""

import os
import re
import sys
import traceback
from contextlib import suppress

import typer

from tlkit.course.errors import CourseError

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[
    1
]  # typer が公開していない UsageError（版によらず BadParameter の親）
INTERRUPTED = 130
_TRANSLATIONS = (
    (r"No such command '(.+?)'\.", "「{0}」というコマンドはありません。"),
    (r"No such option: (\S+)", "「{0}」というオプションはありません。"),
    (r"Missing argument '(.+?)'\.", "引数 {0} が必要です。"),
    (r"Missing option '(.+?)'\.", "オプション {0} が必要です。"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)", "余分な引数があります: {0}"),
    (r"Option '(.+?)' requires an argument\.", "オプション {0} には値が必要です。"),
    (r"Invalid value for '(.+?)': .*(?:valid integer|not a valid int)", "{0} には整数を指定してください。"),
    (r"Invalid value for '(.+?)': .*greater than or equal to (\d+)", "{0} には {1} 以上の整数を指定してください。"),
    (r"Invalid value for '(.+?)': .*not in the range x>=(\d+)", "{0} には {1} 以上の整数を指定してください。"),
)


def run_safely(app: typer.Typer) -> int:
    """コマンドを 1 回動かし、終了コードを返す。誤りは標準エラーに日本語で書く。"""
    _survive_narrow_console()
    try:
        code = int(app(standalone_mode=False, prog_name="tlkit") or 0)
    except CourseError as error:
        return _say(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # `tlkit … | head` のように、読む側が先に終わった
        _discard_stdout()
        return 1
    except Exception as error:
        return _usage(error) if isinstance(error, USAGE_ERROR) else _unexpected(error)
    if code == INTERRUPTED:
        _say("中断しました。", code)
    return _flushed(code)


def japanese_usage(message: str) -> str:
    """よくある使い方の誤りの英文を日本語にする。知らない文はそのまま添える。"""
    for pattern, japanese in _TRANSLATIONS:
        found = re.match(pattern, message)
        if found:
            return japanese.format(*found.groups())
    return f"使い方が正しくありません: {message}"


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tlkit"
    if type(error).__name__ == "NoArgsIsHelpError":  # `tlkit` とだけ打ったとき。文面は使い方そのもの
        print(getattr(error, "message", ""))
        return 2
    formatted = error.format_message() if hasattr(error, "format_message") else str(error)
    return _say(f"{japanese_usage(formatted)}\n使い方: {command} --help", 2)


def _unexpected(error: Exception) -> int:
    traceback.print_exception(error)
    return _say(
        "思いがけない誤りで止まりました。上の表示の全文と、打ったコマンド、`tlkit doctor` の結果を添えて知らせてください。",
        1,
    )


def _say(text: str, code: int) -> int:
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr)
    return code


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return 1
    return code


def _discard_stdout() -> None:
    # Python は終了時にもう一度 stdout を書き出そうとする。行き先を捨て場に替え、英語の警告を出させない。
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _survive_narrow_console() -> None:
    """cp932 の画面のように ✅ を表せないところでも、例外にせず ? で表す。"""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
