"""再帰の深さの上限。学習者が `sys.setrecursionlimit(10**9)` と書いても、決まった深さで RecursionError になる。

上限がないと、終わらない再帰は、そのときの機械しだいで、記憶の上限、時間の上限、MemoryError のどれかで終わる。
同じ提出がいつも同じ結果になるよう、ここで抑える。ふつうの答えは、1 万段も潜らない。
"""

import sys
from typing import Any

MOST = 10_000


def bound_depth() -> None:
    """`sys.setrecursionlimit` を、1 万までしか上げられないものに替える。"""
    real = sys.setrecursionlimit

    def setrecursionlimit(limit: Any, /) -> None:
        """再帰の深さの上限を決める。"""
        real(min(limit, MOST))

    vars(sys)["setrecursionlimit"] = setrecursionlimit
