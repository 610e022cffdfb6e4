"""test_sweep.py が、別のプロセスでも動かす関数。動いた組を、設定の "log" のファイルに書く。"""

import os
import sys
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import torch

from tlkit.distill.sweep import sweep

SETTINGS = [{"T": t, "alpha": a} for t in (1, 3.0, 10) for a in (0.3, 0.9)]
SEEDS = (4, 0, 7)


class Inline(Executor):
    """渡されたその場で動かす。"""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def value(setting: dict, seed: int) -> dict:
    """初めの組ほど遅く終わる。"""
    time.sleep(0.002 * (10 - setting["T"]))
    g = torch.Generator().manual_seed(seed)
    return {"score": float(torch.rand((), generator=g)) * setting["alpha"], "pair": [setting["T"], None]}


def threads(setting: dict, seed: int) -> int:
    return torch.get_num_threads()


def dies_at_two(setting: dict, seed: int) -> int:
    if seed == 2:
        time.sleep(0.5)  # 終わった結果が、親に届くのを待つ
        os._exit(1)
    return seed


def logged(setting: dict, seed: int) -> float:
    with Path(setting["log"]).open("a", encoding="utf-8") as log:
        log.write(f"{setting['x']} {seed}\n")
    time.sleep(setting["wait"])
    if setting.get("broken"):
        raise ZeroDivisionError("わざと")
    return setting["x"] + seed / 10


def logged_settings(log: Path, wait: float = 0.0, **extra: Any) -> list[dict[str, Any]]:
    return [{"x": x, "log": str(log), "wait": wait, **extra} for x in range(6)]


if __name__ == "__main__":
    log, store = map(Path, sys.argv[1:])
    sweep(logged, logged_settings(log, 0.3), seeds=range(5), store=store, fingerprint="kill")
