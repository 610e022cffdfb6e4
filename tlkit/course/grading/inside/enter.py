"""温めた Python の写しを、用意された檻（`keeper.py` が場所を空けている世界）に入らせる。

bubblewrap が作った名前空間に setns で入り、権限をすべて捨てる。見えるものと許すことは、檻の中で始めた Python と同じになる。

- 利用者の名前空間は二重である（bwrap の `--disable-userns`）。外側の一枚がほかの名前空間を持つので、先にそこへ入る。
- fork を重ねるのは、進行役の親を世界の主にするためである。親が檻の外にいると、中からは親の番号が 0 に見え、
  `os.kill(os.getppid(), 9)` が、自分の組全体を止めることになる。
"""

import ctypes
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_NEWUSER = 0x10000000
_SPACES = {"ipc": 0x08000000, "uts": 0x04000000, "net": 0x40000000, "cgroup": 0x02000000, "pid": 0x20000000}
_NEWNS = 0x00020000
_GET_OWNER = 0xB701  # ioctl NS_GET_USERNS: その名前空間を持つ、利用者の名前空間
_CAPBSET_DROP, _SET_DUMPABLE, _CAP_AMBIENT, _CLEAR_ALL = 24, 4, 47, 4
_CAPABILITY_VERSION = 0x20080522
_STUDENT = 1000


def send_in(first: int, told: int, work: Callable[[], NoReturn]) -> int:
    """いまのプロセスの写しを檻に入れ、work を動かす。

    Args:
        first: 世界の主の番号。
        told: 進行役の（檻の中での）番号を書く口。
        work: 檻の中で動かすこと。戻らない。

    Returns:
        檻に入らせる係の終了コード。0 なら入れた。
    """
    child = os.fork()
    if child == 0:
        _guarded(lambda: _join_and_fork(first, told, work))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _join_and_fork(first: int, told: int, work: Callable[[], NoReturn]) -> NoReturn:
    _join(first)
    middle = os.fork()  # pid の名前空間は、次に fork した子から替わる
    if middle == 0:
        _guarded(lambda: _fork_runner(told, work))
    os._exit(os.waitstatus_to_exitcode(os.waitpid(middle, 0)[1]))


def _fork_runner(told: int, work: Callable[[], NoReturn]) -> NoReturn:
    os.setsid()  # 中から kill(0) されても、温めた Python に届かない
    runner = os.fork()
    if runner == 0:
        _guarded(lambda: _start_unprivileged(work))
    os.write(told, b"%d" % runner)
    os._exit(0)  # 進行役は、世界の主に引き取られる


def _start_unprivileged(work: Callable[[], NoReturn]) -> NoReturn:
    drop_privileges()
    work()


def _guarded(work: Callable[[], NoReturn]) -> NoReturn:
    """fork した子から、温めた Python の続きへ戻らないようにする。"""
    try:
        work()
    except BaseException as error:
        with suppress(OSError):
            os.write(2, f"檻に入れません: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def _join(first: int) -> None:
    """世界の主と同じ名前空間に入る。"""
    folder = Path(f"/proc/{first}/ns")
    user, mount = (os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC) for name in ("user", "mnt"))
    spaces = {
        kind: os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        for name, kind in _SPACES.items()
        if (folder / name).exists()
    }
    _setns(fcntl.ioctl(mount, _GET_OWNER), _NEWUSER)
    for kind, descriptor in spaces.items():
        _setns(descriptor, kind)
    _setns(mount, _NEWNS)
    _setns(user, _NEWUSER)


def drop_privileges() -> None:
    """権限をすべて捨てる。取り戻す道（境界の集合、環境の集合）も閉じる。"""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    for number in range(last + 1):
        _call("prctl", _CAPBSET_DROP, number, 0, 0, 0)
    _call("prctl", _CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    os.setresgid(_STUDENT, _STUDENT, _STUDENT)
    os.setresuid(_STUDENT, _STUDENT, _STUDENT)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)  # 利用者を替えると 0 になる。檻の中で始めた Python に合わせる


def _setns(descriptor: int, kind: int) -> None:
    _call("setns", descriptor, kind)


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")
