"""ノートブックの中の 1 問を、元のセルに戻す。学習者がセルを分割・削除・複製していても戻せるようにする。

探し方は、セルの id → 定義している名前（確認セルは `check` の呼び出し）の順です。
どちらでも見つからなければ、元の並びで隣にあったセルのそばに入れ直します。
"""

import copy
import re
from dataclasses import dataclass
from typing import Any

from tlkit.course.cells import check_calls, defined_names, is_fragment
from tlkit.course.errors import CourseError

Cell = dict[str, Any]


@dataclass(frozen=True)
class Restored:
    """戻した結果。`inserted` は入れ直したセルの数、`removed` は外した余分なセルの数。"""

    exercise: str
    inserted: int
    removed: int


def restore_exercise(mine: dict[str, Any], pristine: dict[str, Any], exercise: str) -> Restored:
    """`mine` のセルを書き換え、`exercise` の答えと確認のセルを `pristine` のものに戻す。

    Raises:
        CourseError: 元のノートブックに、この演習の答えのセルが無いとき。
    """
    answers, checks = (_parts(pristine, exercise, part) for part in ("answer", "check"))
    if not answers or not checks:
        raise CourseError(
            f"元のノートブックに、演習 {exercise} の答えと確認のセルがありません。教材を作り直してください（tlkit build）。"
        )
    surgery = _Surgery(mine["cells"], pristine["cells"], exercise)
    for cell in checks:  # 先に確認セルを決めると、答えを入れる場所が決まる
        surgery.put(cell, surgery.find_check(cell))
    limit = surgery.index(checks[-1])
    for cell in answers:
        surgery.put(cell, surgery.find_answer(cell, limit))
    names = set().union(*(defined_names(cell["source"]) for cell in answers))
    removed = surgery.drop_leftovers(names, surgery.index(answers[0]), surgery.index(checks[-1]))
    return Restored(exercise, surgery.inserted, removed)


class _Surgery:
    def __init__(self, cells: list[Cell], pristine: list[Cell], exercise: str) -> None:
        self.cells, self.pristine, self.exercise = cells, pristine, exercise
        self.course_ids = {cell["id"] for cell in pristine}
        self.done: list[Cell] = []
        self.inserted = 0

    def index(self, cell: Cell) -> int:
        return next(i for i, one in enumerate(self.cells) if one["id"] == cell["id"] and one in self.done)

    def find_check(self, wanted: Cell) -> int | None:
        spot = self._by_id(wanted["id"])
        if spot is not None:
            return spot
        return self._by_source(lambda source: self.exercise in check_calls(source))

    def find_answer(self, wanted: Cell, limit: int) -> int | None:
        names = defined_names(wanted["source"])
        spot = self._by_id(wanted["id"])
        if spot is None:
            spot = self._by_source(lambda source: bool(names & defined_names(source)))
        if spot is not None and spot > limit:  # 確認セルより後ろに動かされた答えは、前に入れ直す
            del self.cells[spot]
            return None
        return spot

    def put(self, wanted: Cell, spot: int | None) -> None:
        fresh = copy.deepcopy(wanted) | {"outputs": [], "execution_count": None}
        self.done.append(fresh)
        if spot is None:
            self.cells.insert(self._place_for(wanted), fresh)
            self.inserted += 1
        else:
            self.cells[spot] = fresh

    def drop_leftovers(self, names: set[str], start: int, stop: int) -> int:
        while start > 0 and self._is_learners(self.cells[start - 1]):  # 分割の前半が、答えのセルの上に残ることもある
            start -= 1
        keep = [
            cell
            for i, cell in enumerate(self.cells)
            if i >= stop or not self._is_leftover(cell, names, inside=i >= start)
        ]
        removed = len(self.cells) - len(keep)
        self.cells[:] = keep
        return removed

    def _is_leftover(self, cell: Cell, names: set[str], *, inside: bool) -> bool:
        if not self._is_learners(cell):
            return False
        return bool(names & defined_names(cell["source"])) or (inside and is_fragment(cell["source"]))

    def _is_learners(self, cell: Cell) -> bool:
        if cell["cell_type"] != "code" or any(cell is one for one in self.done):
            return False
        copied = any(cell["id"] == one["id"] for one in self.done)  # id ごと複製されたセル
        return copied or cell["id"] not in self.course_ids

    def _by_id(self, cell_id: str) -> int | None:
        return next((i for i, cell in enumerate(self.cells) if cell["id"] == cell_id), None)

    def _by_source(self, matches: Any) -> int | None:
        return next(
            (i for i, cell in enumerate(self.cells) if self._is_learners(cell) and matches(cell["source"])), None
        )

    def _place_for(self, wanted: Cell) -> int:
        order = [cell["id"] for cell in self.pristine]
        here = order.index(wanted["id"])
        for cell_id in order[here + 1 :]:
            spot = self._by_id(cell_id)
            if spot is not None:
                return spot
        for cell_id in reversed(order[:here]):
            spot = self._by_id(cell_id)
            if spot is not None:
                return spot + 1
        return len(self.cells)


def _parts(document: dict[str, Any], exercise: str, part: str) -> list[Cell]:
    pattern = re.compile(rf"ex-{re.escape(exercise)}-{part}(-\d+)?")
    return [cell for cell in document["cells"] if pattern.fullmatch(cell["id"])]
