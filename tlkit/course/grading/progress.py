"""採点の進み具合: 終わった数、状態ごとの数、残り時間の見込み。"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tlkit.course.grading.model import State


@dataclass(frozen=True)
class Progress:
    """進み具合。

    Attributes:
        done: 結果の決まった人数（前に採点した人と、採点に進めない人を含む）。
        total: 名簿の人数。
        cached: 前の採点の結果を使った人数。
        states: 状態 → 人数。
        seconds_left: 残り時間の見込み [秒]。まだ一人も終わっていなければ None。
    """

    done: int
    total: int
    cached: int
    states: Mapping[State, int]
    seconds_left: float | None


Listener = Callable[[Progress], None]


class Tracker:
    """数えて知らせる。"""

    def __init__(
        self,
        total: int,
        settled: Iterable[State],
        cached: int,
        listener: Listener | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._states = Counter(settled)
        self._cached = cached
        self._listener = listener
        self._clock = clock
        self._began = clock()
        self._graded = 0
        self._tell()

    def begin(self) -> None:
        """これから一つ目を始める。残り時間は、ここから数える。"""
        self._began = self._clock()

    def add(self, state: State) -> None:
        """一人分の結果が決まった。"""
        self._states[state] += 1
        self._graded += 1
        self._tell()

    def _tell(self) -> None:
        if self._listener is None:
            return
        done = self._states.total()
        left = (self._clock() - self._began) / self._graded * (self._total - done) if self._graded else None
        if done == self._total:
            left = 0.0
        self._listener(Progress(done, self._total, self._cached, dict(sorted(self._states.items())), left))
