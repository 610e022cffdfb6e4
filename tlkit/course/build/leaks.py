"""解答の文が、演習ノートブックのどこか（コード・文章・出力・メタデータ）に現れていないかを調べる。

現れたとみなすのは、次のどれか。
1. 範囲の中の文と同じ文（空白やかっこの違いは問わない）。
2. 変数名を替えると同じになる文。ただし情報の量（演算・呼び出し・属性・定数の数）が 4 以上のもの。
   `n = x.shape[0]` のような決まり文句は、別の変数名で現れても漏れとは呼ばない。
3. 範囲の中の文の右辺が、ほかの式の一部として現れたもの。ただし情報の量が 6 以上のもの。変数名が違っても見つける。
4. 3 と同じ右辺が、空白を無視した文字の並びとして現れたもの（文章や出力の中の、式として読めない所のため）。

漏れとみなさないのは、雛形（`### STUB`）が与える文、作者が `### ALLOW 文` で許した文、
pass・import・`return 名前` のようにだれが書いても同じ文（`normal.is_trivial`）。関数の見出し（def）も、雛形が与えるので見ない。

隣: 文の形をそろえるのは `normal.py`、探す先の文字列を集めるのは `haystack.py`。
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tlkit.course.build import haystack, normal
from tlkit.course.build.regions import Region
from tlkit.course.build.source import SourceCell
from tlkit.course.build.structure import Piece

RENAMED_WEIGHT = 4
EXPRESSION_WEIGHT = 6


@dataclass(frozen=True)
class Secret:
    """現れてはいけない文 1 つと、その照合に使う形。"""

    place: str
    text: str
    plain: str
    renamed: str | None
    value: str | None
    value_renamed: str | None

    @property
    def compact(self) -> str | None:
        """空白を除いた右辺。"""
        return _compact(self.value) if self.value else None


def secrets_of(pieces: Sequence[Piece]) -> list[Secret]:
    """答えのセルの範囲から、現れてはいけない文を集める。

    Raises:
        CourseError: `### ALLOW` の文が読めないか、範囲のどの文とも違うとき。
    """
    found: dict[str, Secret] = {}
    for piece in pieces:
        for region in piece.regions:
            for secret in _region_secrets(piece.cell, region):
                found.setdefault(secret.plain, secret)
    return list(found.values())


def allowed_of(pieces: Sequence[Piece]) -> list[str]:
    """作者が許した文を「ファイル:行: 文」の形で返す（build の結果に載せる）。"""
    return [
        f"{piece.cell.file}:{piece.cell.line + region.begin}: {statement}"
        for piece in pieces
        for region in piece.regions
        for statement in region.allow
    ]


def find_leaks(notebook: Any, secrets: Sequence[Secret]) -> list[str]:
    """漏れを「どこに、どの解答の文が」の日本語で返す。なければ空。"""
    problems: list[str] = []
    if not secrets:
        return problems
    for place, texts in haystack.texts_of(notebook):
        for text in texts:
            problems += [_problem(place, secret) for secret in secrets if _occurs(secret, text)]
    return list(dict.fromkeys(problems))


def _problem(place: str, secret: Secret) -> str:
    return (
        f"{secret.place}: 解答の文 `{secret.text}` が、演習ノートブックの{place}に現れています。\n"
        f"そこから取り除くか、与えてよい文なら範囲の中に `### ALLOW {secret.text}` と書いてください。"
    )


def _occurs(secret: Secret, text: haystack.Text) -> bool:
    hit = secret.plain in text.plain or secret.renamed in text.renamed
    inner = secret.value in text.values or secret.value_renamed in text.values_renamed
    return hit or inner or bool(secret.compact and secret.compact in text.compact)


def _region_secrets(cell: SourceCell, region: Region) -> Iterable[Secret]:
    statements = list(normal.simple_statements(list(region.statements)))
    given = {normal.plain(s) for s in normal.simple_statements(ast.parse(region.stub).body)}
    allowed = {_allowed(cell, region, text, statements) for text in region.allow}
    for statement in statements:
        text = normal.plain(statement)
        if not normal.is_trivial(statement) and text not in given | allowed:
            yield _secret(cell, region, statement, text)


def _secret(cell: SourceCell, region: Region, statement: ast.stmt, text: str) -> Secret:
    value = getattr(statement, "value", None)
    heavy = isinstance(value, ast.expr) and normal.weight(value) >= EXPRESSION_WEIGHT
    return Secret(
        place=f"{cell.file}:{cell.line + region.begin}",
        text=text.split("\n")[0],
        plain=text,
        renamed=normal.renamed(statement) if normal.weight(statement) >= RENAMED_WEIGHT else None,
        value=normal.plain(value) if heavy and value else None,
        value_renamed=normal.renamed(value) if heavy and value else None,
    )


def _allowed(cell: SourceCell, region: Region, text: str, statements: Sequence[ast.stmt]) -> str:
    wanted = next((normal.plain(s) for s in haystack.parse_statements(text)), None)
    if wanted is None or wanted not in {normal.plain(statement) for statement in statements}:
        raise cell.error(
            f"`### ALLOW {text}` と同じ文が、この範囲にありません。範囲の文をそのまま書くか、この行を消してください。",
            region.begin,
        )
    return wanted


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)
