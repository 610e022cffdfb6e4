"""記録から読み出した、学生ごとの行。手で直した点数を重ねた、最終の結果もここで作る。"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tlkit.course.grading.model import Feedback, Pace, Result, State

PENDING = "まだ採点していません。同じ命令をもう一度実行すると、続きから採点します。"


@dataclass(frozen=True)
class Entry:
    """名簿の一人と、採点する提出。

    Attributes:
        student: 学籍番号。
        name: 氏名。
        file: 提出のファイルの名前。
        sha256: 提出の中身の SHA-256。読めなかったときは空。
        key: 採点結果の鍵。採点に進めないときは空。
        state: 採点に進めるなら "graded"、進めなければ "needs_human" か "missing"。
        reason: 進めない理由。
        notes: 提出の集め方についての知らせ。
    """

    student: str
    name: str = ""
    file: str = ""
    sha256: str = ""
    key: str = ""
    state: State = "graded"
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Override:
    """手で直した点数。

    Attributes:
        points: 点数。
        why: 直した理由。
    """

    points: int
    why: str


@dataclass(frozen=True)
class Row:
    """一人の行。

    Attributes:
        entry: 名簿の一人と、その提出。
        result: 機械の採点結果。
        overrides: 問題の id → 手で直した点数。
        pending: まだ採点していないか。
    """

    entry: Entry
    result: Result
    overrides: Mapping[str, Override] = field(default_factory=dict)
    pending: bool = False

    def final(self, questions: tuple[str, ...]) -> Result:
        """手で直した点数を重ねた結果。直した結果、全部の問題に点数が付けば、合計も付く。"""
        changed = {name: item.points for name, item in self.overrides.items() if name in questions}
        if not changed:
            return self.result
        points = {name: self.result.points.get(name) for name in questions} | changed
        known = [point for point in points.values() if point is not None]
        if len(known) < len(questions):
            return replace(self.result, points=points, total=None)
        return replace(self.result, state="graded", points=points, total=sum(known), reason="")


@dataclass(frozen=True)
class Status:
    """進み具合。

    Attributes:
        total: 名簿の人数。
        pending: まだ採点していない人数。
        states: 状態 → 人数（まだの人を除く）。
        interrupted: 始めたまま終わっていない採点の回数。
    """

    total: int
    pending: int
    states: Mapping[str, int]
    interrupted: int


def result_to_json(result: Result) -> str:
    """結果を、同じ結果ならいつも同じ文字列にする。"""
    return json.dumps(asdict(result), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def result_from_json(text: str) -> Result:
    """`result_to_json` の逆。"""
    data: dict[str, Any] = json.loads(text)
    replies = {name: Feedback(**reply) for name, reply in data.pop("feedback").items()}
    return Result(**{**data, "feedback": replies, "notes": tuple(data["notes"])})


def pace_to_json(pace: Pace) -> str:
    """解答例の時間を文字列にする。"""
    return json.dumps(asdict(pace), ensure_ascii=False, sort_keys=True)


def pace_from_json(text: str) -> Pace:
    """`pace_to_json` の逆。"""
    data: dict[str, list[tuple[str, float]]] = json.loads(text)
    return Pace(**{name: tuple((step, seconds) for step, seconds in times) for name, times in data.items()})


def make_row(entry: Entry, stored: str | None, broken: str | None, overrides: Mapping[str, Override]) -> Row:
    """記録の欄から行を作る。

    Args:
        entry: 名簿の一人。
        stored: 採点結果。まだなら None。
        broken: 最後の採点が採点側の故障で終わったときの結果。
        overrides: 手で直した点数。
    """
    if entry.state != "graded":
        return Row(entry, Result(entry.state, reason=entry.reason, notes=entry.notes), overrides)
    text = stored or broken
    result = result_from_json(text) if text else Result("infra_error", reason=PENDING)
    notes = tuple(dict.fromkeys([*entry.notes, *result.notes]))
    return Row(entry, replace(result, notes=notes), overrides, pending=text is None)
