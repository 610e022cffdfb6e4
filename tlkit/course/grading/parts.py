"""提出のセルを、配布版のセルに結びつける。結びつけは、grade id（セルの id）、次に同じ中身、の順である。

関数の途中で分割されたセルは、ここでつなぎ直す。答えのセル選びは `providers.py`、実行順は `matching.py`。
"""

import re
from dataclasses import dataclass
from typing import Any

from tlkit.course.grading.assignment import Assignment, ReleaseCell
from tlkit.course.grading.origin import NeedsHumanError
from tlkit.course.grading.shown import shown
from tlkit.course.grading.snippets import Facts, facts

MAX_CELLS = 2_000
MAX_CELL = 100_000  # 1 つのセルの文字数。これを超えるコードは、構文解析だけで数秒かかることがある
MAX_TOTAL = 500_000
MAX_JOINED = 20
MAX_DEPTH = 6
_FENCE = re.compile(r"\A\s*(?:```|~~~)\w*[^\S\n]*\n(.*?)\n?(?:```|~~~)\s*\Z", re.DOTALL)


@dataclass(eq=False)
class Part:
    """提出の一つのセル。

    Attributes:
        number: 上から数えたセルの番号（1 から）。配布版で補ったものは 0。
        id: 安全に表示できるセルの id。
        source: 中身（改行は LF）。
        is_code: コードのセルか。
        home: 結びついた配布版のセル。学習者が足したセルなら None。
    """

    number: int
    id: str
    source: str
    is_code: bool
    home: ReleaseCell | None = None

    @property
    def facts(self) -> Facts:
        """中身について分かること。"""
        return facts(self.source)

    @property
    def runnable(self) -> str:
        """確認の呼び出しと、合格後の部分を除いた中身。"""
        return self.facts.runnable

    @property
    def names(self) -> frozenset[str]:
        """動かしたときに定義される名前。"""
        return facts(self.runnable).names

    @property
    def unchanged(self) -> bool:
        """配布版のままか。"""
        return self.home is not None and same(self.source, self.home.source)

    def role_is(self, *roles: str) -> bool:
        """結びついた配布版のセルの役割が、どれかに当たるか。"""
        return self.home is not None and self.home.role in roles


def read_parts(document: dict[str, Any], assignment: Assignment) -> tuple[list[Part], list[str]]:
    """提出のセルと、採点者への知らせを返す。空のセルは除く。

    Raises:
        NeedsHumanError: セルが多すぎる、または長すぎるとき。
    """
    release = {cell.id: cell for cell in assignment.cells}
    parts = [
        _part(number, cell, release) for number, cell in enumerate(document["cells"], start=1) if cell["source"].strip()
    ]
    _require_small(parts)
    parts, joined = _joined(parts)
    _link_by_source(parts, assignment)
    notes = [f"分割されたセルをつなぎました（上から {number} 番目のセルから）。" for number in joined]
    return parts, notes


def same(one: str, other: str) -> bool:
    """行末の空白と前後の空行を除いて、同じ中身か。"""
    return normal(one) == normal(other)


def normal(source: str) -> str:
    """比べるための形。"""
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def unfenced(text: str) -> str:
    """markdown に変えられたコード。``` で囲まれていれば外す。"""
    match = _FENCE.match(text)
    return match.group(1) if match else text


def _part(number: int, cell: dict[str, Any], release: dict[str, ReleaseCell]) -> Part:
    source = cell["source"].replace("\r\n", "\n").replace("\r", "\n")
    key = _grade_id(cell, release)
    return Part(number, shown(key, 64), source, cell["cell_type"] == "code", release.get(key))


def _grade_id(cell: dict[str, Any], release: dict[str, ReleaseCell]) -> str:
    nbgrader = cell["metadata"].get("nbgrader")
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return grade_id if isinstance(grade_id, str) and grade_id in release else str(cell["id"])


def _require_small(parts: list[Part]) -> None:
    longest = max(parts, key=lambda part: len(part.source), default=None)
    total = sum(len(part.source) for part in parts)
    if len(parts) > MAX_CELLS:
        raise NeedsHumanError(
            f"セルが多すぎます（{len(parts):,} 個、上限 {MAX_CELLS:,} 個）。ノートブックを開いて確かめてください。"
        )
    if longest is not None and len(longest.source) > MAX_CELL:
        raise NeedsHumanError(
            f"上から {longest.number} 番目のセルが長すぎます（{len(longest.source):,} 文字、上限 {MAX_CELL:,} 文字）。"
            "ノートブックを開いて確かめてください。"
        )
    if total > MAX_TOTAL:
        raise NeedsHumanError(f"中身が長すぎます（合わせて {total:,} 文字、上限 {MAX_TOTAL:,} 文字）。")


def _joined(parts: list[Part]) -> tuple[list[Part], list[int]]:
    """これだけでは動かせず、前のセルとつなぐと動かせるコードを、一つにする。"""
    done: list[Part] = []
    joined: list[int] = []
    for part in parts:
        group = _group_of(done, part) if len(joined) < MAX_JOINED else []
        if group:
            del done[-len(group) :]
            joined.append(group[0].number)
        done.append(_one([*group, part]) if group else part)
    return done, sorted(set(joined))


def _group_of(done: list[Part], part: Part) -> list[Part]:
    """part とつなぐと動かせるようになる、直前のいくつかのセル。"""
    if not part.is_code or part.role_is("check"):
        return []
    for depth in range(1, MAX_DEPTH + 1):
        group = done[-depth:]
        first = group[0] if len(group) == depth else None
        if first is None or not first.is_code or first.role_is("check"):
            return []
        text = "\n".join(one.source for one in [*group, part])
        broken = not (part.facts.parses and first.facts.parses)
        if broken and len(text) <= MAX_CELL and facts(text).parses and not facts(text).indented:
            return group
        if not first.facts.indented:
            return []
    return []


def _one(group: list[Part]) -> Part:
    home = next((one.home for one in group if one.role_is("answer")), None)
    home = home or next((one.home for one in group if one.home), None)
    return Part(group[0].number, home.id if home else group[0].id, "\n".join(one.source for one in group), True, home)


def _link_by_source(parts: list[Part], assignment: Assignment) -> None:
    """id を失ったセル（Colab で保存したものなど）を、同じ中身の配布版のセルに結びつける。"""
    taken = {part.home.id for part in parts if part.home}
    free: dict[tuple[bool, str], list[ReleaseCell]] = {}
    for cell in assignment.cells:
        if cell.id not in taken:
            free.setdefault((cell.role != "text", normal(cell.source)), []).append(cell)
    for part in parts:
        same_cells = free.get((part.is_code, normal(part.source)))
        if part.home is None and same_cells:
            part.home = same_cells.pop(0)
            part.id = part.home.id
