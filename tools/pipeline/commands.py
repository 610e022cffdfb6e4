"""段階が使うコマンドの起動。

出力はそのまま流す。時間の上限を超えたら、子孫のプロセスまで止める（カーネルや xdist の子を残さない）。
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

EXIT_TIMEOUT = 124
EXIT_LEFT_OUT = 77
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Done:
    """終わったコマンド。"""

    code: int
    seconds: float


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """段階に渡す環境変数。計算は 1 スレッドで行い、結果と時間を揃える。"""
    return {**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **(extra or {})}


def run(command: list[str], *, cwd: Path, limit: float, extra: Mapping[str, str] | None = None) -> Done:
    """コマンドを動かし、終わりを待つ。起動できなければ終了コード 127、時間切れなら 124。"""
    started = time.monotonic()
    try:
        child = subprocess.Popen(command, cwd=cwd, env=environment(extra), stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"コマンド {command[0]} を起動できません: {error}", flush=True)
        return Done(127, 0.0)
    try:
        code = child.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{limit:.0f} 秒を超えたので止めました: {' '.join(command)}", flush=True)
        stop_tree(child.pid)
        code = EXIT_TIMEOUT
    except KeyboardInterrupt:
        stop_tree(child.pid)
        raise
    return Done(code, time.monotonic() - started)


def stop_tree(pid: int) -> None:
    """プロセスと、その子孫をすべて止める。"""
    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for process in family:
        _signal(process.terminate)
    _, alive = psutil.wait_procs(family, timeout=5)
    for process in alive:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=5)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
