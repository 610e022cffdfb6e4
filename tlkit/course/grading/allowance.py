"""時間の上限: 最低の上限と、解答例の時間の 5 倍の、長いほう。

解答例の時間は `calibration.py` が計る。止めたときの文に両方の数を書き、長すぎたのか短すぎる上限だったのかを読めるようにする。
"""

from dataclasses import dataclass

from tlkit.course.grading.model import Limits

TIMES = 5  # 解答例の何倍まで待つか


@dataclass(frozen=True)
class Allowance:
    """許す時間。

    Attributes:
        seconds: 上限 [秒]。
        said: 文の中での書き方。「上限の 150 秒（解答例の 30 秒の 5 倍）」など。
    """

    seconds: float
    said: str


def cell(limits: Limits, step: str) -> Allowance:
    """一つのセル。配布版にない（学習者が足した）セルには、解答例で最も長いセルの分を許す。"""
    times = dict(limits.pace.cells)
    if step in times:
        return _longer(limits.cell_seconds, times[step], "解答例")
    return _longer(limits.cell_seconds, max(times.values(), default=None), "解答例で最も長いセル")


def probe(limits: Limits, question: str) -> Allowance:
    """一つの問題の答えを呼ぶ時間。"""
    return _longer(limits.probe_seconds, dict(limits.pace.probes).get(question), "解答例")


def total(limits: Limits) -> Allowance:
    """全体。"""
    times = [seconds for _, seconds in (*limits.pace.cells, *limits.pace.probes)]
    return _longer(limits.total_seconds, round(sum(times), 1) if times else None, "解答例")


def _longer(least: float, solution: float | None, whose: str) -> Allowance:
    if solution is None:
        return Allowance(least, f"上限の {least:g} 秒")
    if TIMES * solution <= least:  # 計った時間は書かない。短い時間は揺れるので、同じ提出の文が変わってしまう
        return Allowance(least, f"上限の {least:g} 秒（最低の上限。{whose}の {TIMES} 倍は、これより短い）")
    seconds = round(TIMES * solution, 1)
    return Allowance(seconds, f"上限の {seconds:g} 秒（{whose}の {solution:g} 秒の {TIMES} 倍）")
