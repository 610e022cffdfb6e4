"""一つの記録の合否を、檻の外で決める。同じ記録を何度も決め直さないよう、提出ごとに覚えておく。

判定の中身は `checks/harness.py` の decide にある。学習者のコードはここでは動かない。
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tlkit.course.checks import harness
from tlkit.course.checks.question import Question, Verdict

_ALONE = threading.Lock()  # 判定は乱数の状態などプロセス全体の設定を使うので、一度に一つだけ行う


class Verdicts:
    """一つの提出の、これまでに決めた合否。"""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[harness.Claim, Verdict]] = {}  # 記録も持ち、番号の使い回しを防ぐ

    def of(self, question: Question, claim: harness.Claim, seed: int) -> Verdict:
        """種 seed の入力で得た記録の合否。"""
        key = id(claim), seed
        if key not in self._known:
            with _ALONE, _one_thread():
                self._known[key] = claim, harness.decide(question, claim, seed)
        return self._known[key][1]


@contextmanager
def _one_thread() -> Iterator[None]:
    """計算を 1 本のスレッドで行う。足す順番が変わって、表示する桁がずれるのを防ぐ。"""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
