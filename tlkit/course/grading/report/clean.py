"""学習者が決めた文字列を、報告に載せられる形にする。

端末の命令（ANSI）と制御文字は消し、文字の向きを変える符号などは番号の形で見せる。HTML の印は、ここでは触れない
（HTML にするとき、jinja2 がすべて文字に戻す）。
"""

import re
from collections.abc import Iterable

from tlkit.course.grading.shown import shown

MAX_TEXT = 4000
_ESCAPE = r"(?:\x1b|\\u001b|\\x1b)"  # そのままの ESC と、番号の形で見せた ESC
_ANSI = re.compile(
    rf"{_ESCAPE}\[[0-?]*[ -/]*[@-~]"  # 色、消去、カーソルの移動
    rf"|{_ESCAPE}\][^\x07\x1b\\\n]*(?:\x07|\\u0007|\x1b\\\\)?"  # 題名、リンク
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """改行とタブは残す。長すぎれば途中を略す。UTF-8 で必ず書ける。"""
    plain = _CONTROL.sub("", _ANSI.sub("", text[: 4 * limit].replace("\r\n", "\n").replace("\r", "\n")))
    return "\n".join("\t".join(shown(part, limit) for part in line.split("\t")) for line in plain.split("\n"))


def code_parts(text: str) -> list[tuple[bool, str]]:
    """逆引用符で囲まれた所を分ける。（コードか, 文字）の並び。対にならない逆引用符は、文字のまま残す。"""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return [(False, text)]
    return [(number % 2 == 1, piece) for number, piece in enumerate(pieces) if piece]


def listed(names: Iterable[str]) -> str:
    """読点でつなぐ。"""
    return "、".join(names)
