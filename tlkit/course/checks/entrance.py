"""tlkit の関数に入ったことの知らせ口。採点の檻に見せる写しだけで使う。

写しでは、科学の側のどの関数も、初めに `entered` を呼ぶよう翻訳してある（`grading/inside_marks.py`）。
profiler は Python のすべての動きを遅くするので、採点では、こちらで見張る。見張りそのものは `borrowed.py` にある。
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Listener = Callable[[FrameType], object]

MARKED = False  # 印の付いた写しでは、翻訳するときに True に替わる
_listener: Listener | None = None


def entered() -> None:
    """いま入った関数のフレームを、聞いている者に渡す。だれも聞いていなければ何もしない。"""
    if _listener is not None:
        _listener(sys._getframe(1))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """この間に入った関数を、listener に知らせる。スレッドの違いは問わない。"""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
