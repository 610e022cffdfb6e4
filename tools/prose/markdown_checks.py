"""textlint が見つけない、本文の崩れを調べる（markdown-it-py で実際に組んで確かめる）。

- 太字の崩れ: `**用語（略語）**は` のように、組んだあとも `**` が文字として残る。
- 文末の常体: 「考える。」のような動詞の終止形（textlint は「である」だけを見る）。
"""

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from prose.document import Document, Finding, Kind, locate

_PLAIN_END = re.compile(
    r"(?P<word>[ぁ-ん一-龠]*(?:[るくつむぶぬぐだ]|(?<![まで])す|(?<!しょ)う|(?<!まし)(?<!でし)た|(?<!くださ)い))。(?=[^」』）]|$)"
)
_CONTAINERS = {"bullet_list", "ordered_list", "table", "heading", "blockquote"}


def check(document: Document) -> list[Finding]:
    """マークダウンの文章を組み、崩れを返す。"""
    if not document.markdown:
        return []
    return [finding for token, in_body in _inlines(document) for finding in _check_inline(document, token, in_body)]


def _inlines(document: Document) -> Iterator[tuple[Token, bool]]:
    """文字を持つ節と、それが（箇条書き・表・見出しでない）本文かどうか。"""
    depth = 0
    for token in MarkdownIt("commonmark").enable("table").parse(document.text()):
        if token.type.rsplit("_", 1)[0] in _CONTAINERS:
            depth += token.nesting
        if token.type == "inline" and token.map:
            yield token, depth == 0


def _check_inline(document: Document, token: Token, in_body: bool) -> Iterator[Finding]:
    row = (token.map or [0])[0] + 1
    for child in token.children or []:
        if child.type in {"softbreak", "hardbreak"}:
            row += 1
        elif child.type == "text":
            yield from _check_text(document, row, child.content, in_body)


def _check_text(document: Document, row: int, text: str, in_body: bool) -> Iterator[Finding]:
    line = document.origin(row)
    if "**" in text:
        column = max(line.text.find("**"), 0) + 1
        message = "太字になっていません。閉じる ** の直前の記号を外に出し、**用語**（略語）は の形にします"
        yield locate(document, row, column, message, "太字の崩れ")
    if in_body and line.kind is Kind.PROSE:
        for match in _PLAIN_END.finditer(text):
            column = max(line.text.find(match.group()), 0) + 1
            message = f"本文の文末が常体です（…{match['word'][-8:]}。）。です・ますに揃えます"
            yield locate(document, row, column, message, "文末の常体")
