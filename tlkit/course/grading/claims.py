"""檻から届いた行を読む。どれも学習者が書けるので、形の合うものだけを受け取る。

ここで確かめるのは形だけである。中身が正しいかどうかは、隠した入力を知る外側（`judging.py`）が決める。
"""

import json
import re
from typing import Any, NoReturn

from tlkit.course.checks.harness import MAX_PRINTED, Claim, from_json
from tlkit.course.checks.plain import MAX_SEALED, PlainError

_STATES = {"done", "untouched", "unfinished", "returned-none", "raised", "unusable"}
_ERROR_TEXT = {"type": 60, "message": 500, "source": 500, "function": 60}
_REASON = re.compile(r"missing|timeout|memory|refused|crash:[A-Za-z_]{1,60}")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_MOST_NAMES = 50
_NAME_LENGTH = 300
_MESSAGE_LENGTH = 300
_PRINTED_SPARE = 100


def frame(line: bytes) -> dict[str, Any] | None:
    """1 行を JSON の辞書として読む。そうでなければ None。"""
    try:
        loaded = json.loads(line.decode("ascii"), parse_constant=_refuse, object_pairs_hook=_pairs)
    except (ValueError, RecursionError, MemoryError):
        return None
    return loaded if isinstance(loaded, dict) else None


def claim(text: object, question: str) -> Claim | None:
    """答えの記録を読む。形が違えば None。"""
    if not isinstance(text, str) or len(text) > MAX_SEALED:
        return None
    try:
        loaded = from_json(text)
    except (PlainError, TypeError):
        return None
    return _tidy(loaded) if loaded.question == question and _sound(loaded) else None


def reason(value: object) -> str | None:
    """答えが呼べなかった理由。知らない書き方なら None。"""
    return value if isinstance(value, str) and _REASON.fullmatch(value) else None


def error_text(value: object) -> str:
    """セルの誤りの記録を「型: 文」にする。機械によって変わる番地は伏せる。"""
    if not isinstance(value, dict):
        return "誤り"
    kind, message = value.get("type"), value.get("message")
    kind = kind[:60] if isinstance(kind, str) and kind else "誤り"
    message = message[:_MESSAGE_LENGTH] if isinstance(message, str) else ""
    return hide_addresses(f"{kind}: {message}" if message else kind)


def hide_addresses(text: str) -> str:
    """`<object at 0x7f…>` の番地は動かすたびに変わるので、同じ文に揃える。"""
    return _ADDRESS.sub("0x…", text)


def _sound(claim: Claim) -> bool:
    return (
        isinstance(claim.state, str)
        and claim.state in _STATES
        and _names(claim.borrowed)
        and _names(claim.mutated)
        and isinstance(claim.printed, str)
        and len(claim.printed) <= MAX_PRINTED + _PRINTED_SPARE
        and (claim.error is None or _error(claim.error))
    )


def _names(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_NAMES
        and all(isinstance(name, str) and len(name) <= _NAME_LENGTH for name in value)
    )


def _error(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {*_ERROR_TEXT, "line", "index"}:
        return False
    texts = {key: value[key] for key in _ERROR_TEXT if key in value}
    numbers = [value.get("line"), value.get("index")]
    return all(isinstance(text, str) and len(text) <= _ERROR_TEXT[key] for key, text in texts.items()) and all(
        number is None or type(number) is int for number in numbers
    )


def _tidy(claim: Claim) -> Claim:
    error = claim.error
    if error is not None and "message" in error:
        error = error | {"message": hide_addresses(error["message"])}
    return Claim(
        claim.question, claim.state, claim.data, error, claim.borrowed, claim.mutated, hide_addresses(claim.printed)
    )


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("同じ名前が二度現れます。")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"JSON にない値があります（{text}）。")
