"""build の進み具合の表示。端末なら動く棒、そうでなければ 1 行ずつ。

隣: 呼ぶのは `run.py`。
"""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class BuildProgress:
    """「何を終えたか」を知らせる。with で使う。"""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._console = console or Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("ノートブックを実行しています", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """1 行を知らせる（棒は進めない）。"""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def done(self, line: str) -> None:
        """1 冊の終わりを知らせ、棒を進める。"""
        self.say(line)
        self._bar.advance(self._task)
