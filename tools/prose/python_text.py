"""Python のコードから、日本語の docstring・注釈・文字列を元の位置つきで取り出す。

構文木ではなく字句を読む。つながった文字列や f-string でも、行と列がずれない。
`コード` の形と f-string の差し込みは、長さを変えずに伏せる（中の名前は用語ではない）。
"""

import io
import re
import tokenize
from collections.abc import Iterator

from prose.document import JAPANESE, Kind, Line

_STRING = re.compile(r"""(?s)^(?P<prefix>[A-Za-z]*)(?P<quote>'{3}|"{3}|'|")(?P<body>.*)(?P=quote)$""")
_CODE = re.compile(r"`[^`\n]*`")
_ESCAPE = re.compile(r"\\[nt\"'\\]")
_FIELD = re.compile(r"\{\{|\}\}|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")


def light_lines(code: str) -> list[Line]:
    """コードの中の、日本語を含む行だけを返す。"""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    found = [line for token in tokens for line in _token_lines(token)]
    return [line for line in found if JAPANESE.search(line.text)]


def _token_lines(token: tokenize.TokenInfo) -> Iterator[Line]:
    row, column = token.start
    if token.type == tokenize.COMMENT:
        yield Line(_plain(token.string), row, column, Kind.LIGHT)
    elif token.type == tokenize.STRING and (match := _STRING.match(token.string)):
        body = match["body"]
        if "f" in match["prefix"].lower():
            body = _FIELD.sub(lambda m: "x" * len(m.group()), body)
        yield from _body_lines(body, row, column + match.start("body"))
    elif tokenize.tok_name[token.type] == "FSTRING_MIDDLE":  # Python 3.12 から
        yield from _body_lines(token.string, row, column)


def _body_lines(body: str, row: int, column: int) -> Iterator[Line]:
    for offset, text in enumerate(body.split("\n")):
        width = len(text) - len(text.lstrip()) if offset else 0
        yield Line(_plain(text[width:]), row + offset, width if offset else column, Kind.LIGHT)


def _plain(text: str) -> str:
    hidden = _CODE.sub(lambda m: "x" * len(m.group()), text)
    return _ESCAPE.sub("  ", hidden)
