"""採点の画面: 進み具合の行と、終わったときのまとめ。

端末では一行を書き換え、ファイルに流すときは間をおいて行を足す。標準エラーに書き、結果の表だけを標準出力に出す。
"""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from tlkit.course.grading.progress import Progress
from tlkit.course.grading.report.figures import counts, distribution
from tlkit.course.grading.report.table import ATTENTION, LABELS, Line, Report, Shown

_EVERY = 10.0
_MOST = 20


class ProgressLine:
    """進み具合を受け取って表示する。"""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._last = float("-inf")
        self._live = self._stream.isatty()

    def __call__(self, progress: Progress) -> None:
        """端末でなければ、10 秒ごとと、終わったときだけ書く。"""
        over = progress.done == progress.total
        if not self._live and not over and self._clock() - self._last < _EVERY:
            return
        self._last = self._clock()
        text = progress_text(progress)
        self._stream.write(f"\r\x1b[2K{text}" if self._live else f"{text}\n")
        if self._live and over:
            self._stream.write("\n")
        self._stream.flush()


def progress_text(progress: Progress) -> str:
    """例: 採点 57/200（採点済み 50、要確認 7）残り約 1 分 20 秒。"""
    states = "、".join(f"{LABELS[state]} {count}" for state, count in progress.states.items())
    cached = f"、うち前回の結果 {progress.cached}" if progress.cached else ""
    left = "" if progress.seconds_left is None else f" 残り{duration(progress.seconds_left)}"
    if progress.done == progress.total:
        left = " 終わりました"
    return f"採点 {progress.done}/{progress.total}（{states or '準備中'}{cached}）{left}"


def duration(seconds: float) -> str:
    """およその時間。"""
    whole = round(seconds)
    if whole < 60:
        return f"約 {whole} 秒"
    if whole < 3600:
        return f"約 {whole // 60} 分 {whole % 60} 秒"
    return f"約 {whole // 3600} 時間 {whole % 3600 // 60} 分"


def summary(report: Report) -> list[str]:
    """まとめの行。確かめることを先に、理由つきで並べる。"""
    states = [f"{LABELS[state]} {count}" for state, count in counts(report).items() if count]
    lines = [f"演習 {report.slug}: 全 {len(report.lines)} 件（{'、'.join(states) or 'なし'}）"]
    spread = distribution(report)
    if spread is not None:
        lines.append(
            f"採点済みの {spread.count} 人: 平均 {spread.mean:.1f} 点、中央値 {spread.median:.1f} 点（満点 {report.full} 点）"
        )
    attention = report.of(*ATTENTION)
    if attention:
        lines += ["", "確かめること（合計点はまだありません。0 点ではありません）"]
        lines += [f"  {_reason(line)}" for line in attention[:_MOST]]
        if len(attention) > _MOST:
            lines.append(f"  ほか {len(attention) - _MOST} 件。全部は報告（tlkit grade report）にあります。")
    return lines


def exit_code(report: Report) -> int:
    """0 = 提出のあった全員を採点した、3 = 人が確かめるものがある、1 = 採点側の故障がある。"""
    states: set[Shown] = {line.state for line in report.lines}
    if "infra_error" in states:
        return 1
    return 0 if states <= {"graded", "missing"} and "graded" in states else 3


def _reason(line: Line) -> str:
    first = line.reason.split("\n", 1)[0]
    return f"{line.student} {line.name} [{line.label}] {first}".replace("  ", " ")
