"""採点の記録: 始めた採点、その終わり、鍵ごとの結果、手で直した点数、名簿の並び、解答例の時間。

採点の終わりと結果は一度に書くので、いつ止められても、失われる結果も二重になる結果もない。
書くのは採点を進める側（`pipeline.py`）だけである。入れ物は `database.py`、行の形は `rows.py`。
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from tlkit.course.errors import CourseError
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.database import Database
from tlkit.course.grading.model import Pace, Result
from tlkit.course.grading.rows import (
    Entry,
    Override,
    Row,
    Status,
    make_row,
    pace_from_json,
    pace_to_json,
    result_from_json,
    result_to_json,
)

_FIELDS = [field.name for field in fields(Entry)]
_ROWS = """
SELECT e.*,
  (SELECT n.result FROM grades g JOIN endings n ON n.attempt = g.attempt WHERE g.key = e.key) AS stored,
  (SELECT n.result FROM attempts a JOIN endings n ON n.attempt = a.id
    WHERE a.key = e.key AND n.state = 'infra_error' ORDER BY a.id DESC LIMIT 1) AS broken
FROM entries e WHERE e.slug = ? ORDER BY e.position
"""


class Store:
    """採点の記録。一つのスレッドから使う。"""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """閉じる。"""
        self._database.close()

    def enter(self, slug: str, entries: Sequence[Entry]) -> None:
        """演習 slug の名簿の並びを、一度に入れ替える。前の採点結果は消えない。"""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM entries WHERE slug = ?", (slug,))
            for position, entry in enumerate(entries):
                *values, notes = astuple(entry)
                row = (slug, position, *values, json.dumps(notes, ensure_ascii=False))
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO entries (slug, position, {', '.join(_FIELDS)}) VALUES ({marks})", row)

    def begin(self, key: str, student: str) -> int:
        """採点を始めたことを記録し、その番号を返す。"""
        with self._database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO attempts (key, student, at) VALUES (?, ?, ?)", (key, student, _now())
            ).lastrowid
        if added is None:
            raise AssertionError("INSERT は番号を返す")
        return added

    def finish(self, attempt: int, result: Result, seconds: float = 0.0, peak_mb: float = 0.0) -> None:
        """採点の終わりと結果を、一度に書く。採点側の故障なら、結果は残さず、次にやり直す。

        Raises:
            CourseError: 始めていない採点か、もう終わった採点のとき。
        """
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO endings (attempt, state, result, seconds, peak_mb, at) VALUES (?, ?, ?, ?, ?, ?)",
                (attempt, result.state, result_to_json(result), seconds, peak_mb, _now()),
            )
            if result.state != "infra_error":
                connection.execute(
                    "INSERT INTO grades (key, attempt) SELECT key, id FROM attempts WHERE id = ? "
                    "ON CONFLICT (key) DO UPDATE SET attempt = excluded.attempt",
                    (attempt,),
                )

    def lookup(self, key: str) -> Result | None:
        """鍵の結果。まだなければ None。"""
        found = self._database.all(
            "SELECT n.result FROM grades g JOIN endings n ON n.attempt = g.attempt WHERE g.key = ?", key
        )
        return result_from_json(found[0]["result"]) if found else None

    def pace(self, name: str) -> Pace | None:
        """解答例の時間。まだ計っていなければ None。"""
        found = self._database.all("SELECT pace FROM paces WHERE name = ?", name)
        return pace_from_json(found[0]["pace"]) if found else None

    def keep_pace(self, name: str, pace: Pace) -> Pace:
        """計った解答例の時間を残す。もう残っていれば、先のものを採る。残っているものを返す。"""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO paces (name, pace, at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
                (name, pace_to_json(pace), _now()),
            )
        return self.pace(name) or pace

    def override(self, assignment: Assignment, student: str, question: str, points: int | None, why: str) -> None:
        """点数を手で直す。採点し直しても残る。points が None なら、直した点数を取り消す。

        Raises:
            CourseError: いない学生、ない問題、配点を超える点数、空の理由のとき。
        """
        full = {item.id: item.points for item in assignment.questions}
        if question not in full:
            raise CourseError(f"演習 {assignment.slug} に問題 {question} はありません（{'、'.join(full)}）。")
        if not self._database.all("SELECT 1 FROM entries WHERE slug = ? AND student = ?", assignment.slug, student):
            raise CourseError(f"学生 {student} は、採点した名簿にいません。学籍番号を確かめてください。")
        if points is not None and not 0 <= points <= full[question]:
            raise CourseError(f"{question} の点数は 0 から {full[question]} までです（渡された値: {points}）。")
        if not why.strip():
            raise CourseError("点数を直す理由を `--why` で書いてください。理由は記録と報告に残ります。")
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO overrides (slug, student, question, points, why, at) VALUES (?, ?, ?, ?, ?, ?)",
                (assignment.slug, student, question, points, why.strip(), _now()),
            )

    def rows(self, slug: str) -> list[Row]:
        """演習 slug の行を、名簿の順に返す。時刻などは含まないので、同じ記録からは同じ行ができる。"""
        overrides = self._overrides(slug)
        rows = []
        for found in self._database.all(_ROWS, slug):
            values = {name: found[name] for name in _FIELDS} | {"notes": tuple(json.loads(found["notes"]))}
            rows.append(
                make_row(Entry(**values), found["stored"], found["broken"], overrides.get(found["student"], {}))
            )
        return rows

    def status(self, slug: str) -> Status:
        """進み具合。"""
        rows = self.rows(slug)
        states: dict[str, int] = {}
        for row in rows:
            if not row.pending:
                states[row.result.state] = states.get(row.result.state, 0) + 1
        interrupted = self._database.all(
            "SELECT count(*) AS n FROM attempts WHERE id NOT IN (SELECT attempt FROM endings)"
        )[0]["n"]
        return Status(len(rows), sum(row.pending for row in rows), dict(sorted(states.items())), interrupted)

    def slugs(self) -> list[str]:
        """記録にある演習。"""
        return [row["slug"] for row in self._database.all("SELECT DISTINCT slug FROM entries ORDER BY slug")]

    def problems(self) -> list[str]:
        """記録のファイルの壊れたところ。なければ空。"""
        found = [str(row[0]) for row in self._database.all("PRAGMA integrity_check") if row[0] != "ok"]
        return found + [f"{row[0]}: {row[2]}" for row in self._database.all("PRAGMA foreign_key_check")]

    def _overrides(self, slug: str) -> dict[str, dict[str, Override]]:
        """学生 → 問題の id → 最後に直した点数。"""
        found: dict[str, dict[str, Override]] = {}
        for row in self._database.all("SELECT * FROM overrides WHERE slug = ? ORDER BY id", slug):
            mine = found.setdefault(row["student"], {})
            mine.pop(row["question"], None)
            if row["points"] is not None:
                mine[row["question"]] = Override(row["points"], row["why"])
        return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
