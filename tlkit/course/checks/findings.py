"""判定の小さな道具。性質を順に調べ、破れた最初の一つを診断にする。

各問題の judge は、破れた性質を `yield "診断の名前", "文"` と並べる関数を書き、`first` で一つにまとめる。
隣: 診断の形は `question.py`、どの問題にも共通の診断は `diagnoses.py`、記録の形は `trial.py`。
"""

from collections.abc import Iterator
from typing import Any

from tlkit.course.checks.diagnoses import raised
from tlkit.course.checks.question import Verdict, wrong
from tlkit.course.checks.trial import failed

Records = dict[str, dict[str, Any]]
Finding = Iterator[tuple[str, str]]  # （診断の名前, 文）。最初の一つを使う


def first(findings: Finding) -> Verdict | None:
    """破れた最初の性質。一つもなければ None。"""
    for code, message in findings:
        return wrong(code, message)
    return None


def first_raised(records: Records, when: str = "") -> Verdict | None:
    """例外で止まった最初の場合。一つもなければ None。"""
    return next((raised(record["error"], when) for record in records.values() if failed(record)), None)


def not_a_number(records: Records, meaning: str) -> Finding:
    """返り値が一つの数（Python の数、0 次元の配列かテンソル）でない場合を挙げる。"""
    for record in records.values():
        if failed(record):
            continue
        if record["kind"] == "other":
            yield "not-number", f"返り値が {record['type']} です。{meaning}を、一つの数で返してください。"
        elif record["shape"]:
            shape = tuple(record["shape"])
            yield "not-scalar", f"返り値の形が {shape} です。{meaning}は一つの数です。平均を取り忘れていませんか。"


def close(a: float, b: float, tolerance: float = 1e-3) -> bool:
    """a が b に近いか。b が大きいときは割合で比べる。NaN は何とも近くない。"""
    return abs(a - b) <= tolerance * max(1.0, abs(b))
