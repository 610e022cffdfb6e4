"""コンテナの中の 1 番のプロセス（pid の世界の主）。進行役の Python を始め、その終わりを自分の終わりにする。

`container.py` が、このファイルの中身を `python -c` に渡す。だから標準ライブラリだけを使い、tlkit を読み込まない。
採点する側が急に止まると、コンテナだけが残る。そのときも、決めた時間で必ず終わる。
1 番のプロセスは、中から送られた合図（SIGKILL と SIGSTOP も）では止まらない。終われば、中のものは残らず止まる。
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_DUMPABLE = 4
_KILLED = 128 + signal.SIGKILL


def main(arguments: list[str]) -> int:
    """進行役を始めて待ち、終了の状態を返す。

    Args:
        arguments: 残り時間 [秒]、渡す環境変数の名前（カンマ区切り）、作業フォルダ、進行役のコマンド。

    Returns:
        進行役の終了コード。合図 N で落ちていれば 128 + N。時間切れなら SIGKILL と同じ。
    """
    seconds, names, work, *command = arguments
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # 中のほかのプロセスに、のぞかれも操られもしない
    Path(os.environ["HOME"]).mkdir(parents=True, exist_ok=True)
    Path(work).mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    # コンテナの道具が足した環境変数（代理サーバーの名前など）は渡さない
    environment = {name: os.environ[name] for name in names.split(",")}
    runner = os.posix_spawn(command[0], command, environment, setsigmask=())
    os.closerange(0, 3)
    return _wait(runner, time.monotonic() + float(seconds))


def _wait(runner: int, end: float) -> int:
    """親をなくしたプロセスも引き取りながら、進行役の終わりを待つ。"""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == runner:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
            left = end - time.monotonic()
            if left <= 0:
                return _KILLED
            signal.sigtimedwait({signal.SIGCHLD}, left)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
