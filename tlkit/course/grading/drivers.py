"""檻の作り方の候補。どれを使うかは `available.py` が、本当に一つ作って決める。

速くて、何重にも確かめてある bubblewrap を先に試す。なければ podman、docker の順に試す。どれも Linux だけで使える。
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tlkit.course.grading import cage, container
from tlkit.course.grading.model import Limits
from tlkit.course.grading.process import CagedProcess

BUBBLEWRAP = "bubblewrap"


@dataclass(frozen=True)
class Driver:
    """檻の作り方。

    Attributes:
        name: bubblewrap、podman、docker のどれか。
        start: 檻を始める関数。引数は、檻に見せる tlkit のフォルダ、上限、Python への引数。
        detail: 呼ぶコマンド。人に見せるために使う。
    """

    name: str
    start: Callable[[Path, Limits, Sequence[str]], CagedProcess]
    detail: str = ""


def candidates() -> list[Driver]:
    """この機械で試すもの。先に試すものから。Linux でなければ空。"""
    if sys.platform != "linux":
        return []
    return [bubblewrap(), *map(_contained, container.engines())]


def bubblewrap() -> Driver:
    """bubblewrap の檻。"""
    return Driver(BUBBLEWRAP, _bubblewrap, "bwrap")


def _bubblewrap(tree: Path, limits: Limits, arguments: Sequence[str]) -> CagedProcess:
    return CagedProcess(cage.command(tree, limits, arguments))


def _contained(engine: container.Engine) -> Driver:
    return Driver(engine.kind, partial(container.start, engine), " ".join(engine.program))
