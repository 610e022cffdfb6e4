"""温めた Python。頼まれるたびに自分の写しを作り、新しい檻に入れて、一つの提出を動かさせる。

`python -m tlkit.course.grading.inside.zygote` で始まり、標準入力につながったソケットで頼みを聞く。
学習者のコードは、ここでは動かない。檻に入るところは `enter.py`、檻の世界の主は `keeper.py`、
温める中身は `warm.py`、頼む側は `../zygote.py` にある。
"""

import array
import fcntl
import json
import os
import select
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tlkit.course.grading.inside import enter, keeper
from tlkit.course.grading.inside.frames import silence, take_over

MAX_REQUEST = 1 << 16
_START_SECONDS = 60.0
_PIPES = 4  # 標準入力、標準出力、標準エラー、終わりの知らせ


def serve(control: socket.socket) -> None:
    """相手が口を閉じるまで、頼みを聞く。"""
    order = json.loads(control.recv(MAX_REQUEST))
    from tlkit.course.grading.inside.warm import warm_up

    warm_up(order["questions"], order["modules"])
    threads = len(list(Path("/proc/self/task").iterdir()))
    control.send(json.dumps({"threads": threads}).encode("ascii"))
    makers: list[subprocess.Popen[bytes]] = []
    while True:
        data, descriptors = _receive(control)
        if not data:
            return
        control.send(json.dumps(_answer(json.loads(data), descriptors, makers)).encode("utf-8"))
        for descriptor in descriptors:
            os.close(descriptor)
        makers = [maker for maker in makers if maker.poll() is None]


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    found = array.array("i")
    data, extra, _, _ = control.recvmsg(MAX_REQUEST, socket.CMSG_SPACE(_PIPES * found.itemsize))
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content)
    return data, list(found)


def _answer(
    request: dict[str, Any], descriptors: Sequence[int], makers: list[subprocess.Popen[bytes]]
) -> dict[str, Any]:
    """檻を一つ作り、写しを入れる。できなければ、その理由を返す。"""
    try:
        return {"first": _start(request["command"], descriptors, makers)}
    except (OSError, ValueError, KeyError, TimeoutError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _start(command: list[str], descriptors: Sequence[int], makers: list[subprocess.Popen[bytes]]) -> int:
    inlet, outlet, complaints, ended = descriptors
    orders, order = os.pipe()
    built, building = os.pipe()
    info, told = os.pipe()
    told_runner, runner = os.pipe()
    try:
        makers.append(
            subprocess.Popen(
                [command[0], "--info-fd", str(told), *command[1:], keeper.__file__, str(ended)],
                stdin=orders,
                stdout=building,
                stderr=complaints,
                pass_fds=(told, ended),
            )
        )
        os.close(building)
        building = -1
        first = int(json.loads(_until(info, b"}"))["child-pid"])
        _until(built, b".")
        if enter.send_in(first, runner, lambda: _work((inlet, outlet, complaints))) != 0:
            makers[-1].kill()
            raise OSError("檻に入れません。")
        os.write(order, os.read(told_runner, 32))
        return first
    finally:
        for descriptor in (orders, order, built, building, info, told, told_runner, runner):
            if descriptor >= 0:
                os.close(descriptor)


def _until(descriptor: int, mark: bytes) -> bytes:
    """印が来るまで読む。"""
    text = b""
    while mark not in text:
        if not select.select([descriptor], [], [], _START_SECONDS)[0]:
            raise TimeoutError("檻が時間内にできません。")
        chunk = os.read(descriptor, 4096)
        if not chunk:
            raise ValueError("檻を作る bwrap が、途中で終わりました。")
        text += chunk
    return text


def _work(pipes: Sequence[int]) -> NoReturn:
    """写しの仕事: 口をつなぎ替え、提出を一つ動かす。"""
    from tlkit.course.grading.inside.runner import run
    from tlkit.course.grading.inside.warm import freshen

    held = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _PIPES) for descriptor in pipes]
    for target, descriptor in enumerate(held):
        os.dup2(descriptor, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(os.environ.get("PWD", "/"))
    freshen()
    run(take_over())
    os._exit(0)


if __name__ == "__main__":
    listener = socket.socket(fileno=os.dup(0))
    silence(0, 1)
    serve(listener)
