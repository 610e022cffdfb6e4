"""ネットワークを切った状態でコマンドを動かす: `python tools/offline.py -- コマンド…`。

新しいユーザー名前空間とネットワーク名前空間に入り、ループバックだけを上げる（ループバックが無いとカーネルが固まる）。
コマンドへ移る前に、外へつながらないことと、ループバックが使えることを必ず確かめる。
確かめたあとは exec で置き換わるので、終了コードも Ctrl-C もコマンドのものがそのまま伝わる。
標準ライブラリだけで動く。呼び出し元は `tools/pipeline/notebooks.py`。
"""

import argparse
import ctypes
import errno
import os
import socket
import struct
import sys
from pathlib import Path

EXIT_UNAVAILABLE = 77  # この機械では切れない（自動ツールの慣例で「省いた」を表す番号）
EXIT_NOT_CUT = 78  # 切ったはずなのに外へつながる。決して先へ進まない
EXIT_NO_COMMAND = 127

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
# 文書用に予約された宛先（RFC 5737 と RFC 3849）。UDP の connect は経路を選ぶだけで、何も送らない。
_DOCUMENTATION_ADDRESSES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_UNREACHABLE = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH, errno.EAFNOSUPPORT}


class CannotCutError(Exception):
    """この機械ではネットワークを切れない。理由を日本語で持つ。"""


class NotCutError(Exception):
    """切ったはずのネットワークが切れていない。"""


def enter_namespace() -> None:
    """今のプロセスを、新しいユーザー名前空間とネットワーク名前空間へ移す。

    Raises:
        CannotCutError: Linux でない、または名前空間が許されていないとき。
    """
    if not sys.platform.startswith("linux"):
        raise CannotCutError(f"{sys.platform} にはネットワーク名前空間がありません（Linux だけで使えます）。")
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        _keep_identity(uid, gid)
    elif uid != 0 or libc.unshare(_CLONE_NEWNET) != 0:  # root ならユーザー名前空間なしでも切れる
        reason = os.strerror(ctypes.get_errno())
        raise CannotCutError(
            f"名前空間を作れません（{reason}）。\n"
            "Ubuntu 23.10 以降では AppArmor が一般の利用者による作成を止めています。\n"
            "root で動かすか、`sysctl kernel.apparmor_restrict_unprivileged_userns=0` で許してください。"
        )


def _keep_identity(uid: int, gid: int) -> None:
    """名前空間の中でも同じ利用者のままにする（ファイルの持ち主が変わらないように）。"""
    try:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path("/proc/self", name).write_text(line, encoding="ascii")
    except OSError as error:
        raise CannotCutError(f"利用者の対応付けを書けません（{error}）。名前空間の制限を確かめてください。") from error


def raise_loopback() -> None:
    """ループバックの口 lo を上げる。

    Raises:
        CannotCutError: 権限がなく、上げられないとき。
    """
    try:
        _set_up("lo")
    except OSError as error:
        raise CannotCutError(
            f"ループバックを上げられません（{error}）。AppArmor が名前空間の中の権限を止めている恐れがあります。"
        ) from error


def prove() -> None:
    """外へつながらず、ループバックは使えることを確かめる。

    Raises:
        NotCutError: 一つでも満たされないとき。
    """
    if outside := [name for name in _interfaces() if name != "lo" and _flags(name) & _IFF_UP]:
        raise NotCutError(f"lo のほかに動いている口があります: {'、'.join(outside)}")
    for family, address in _DOCUMENTATION_ADDRESSES:
        _prove_unreachable(family, address)
    _prove_loopback()


def _interfaces() -> list[str]:
    """/proc/net/dev に並ぶ口の名前。"""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return [line.split(":", 1)[0].strip() for line in lines]


def _prove_unreachable(family: socket.AddressFamily, address: str) -> None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as error:
        if error.errno in _UNREACHABLE:
            return
        raise NotCutError(f"{address} への接続が、予想と違う失敗をしました: {error}") from error
    raise NotCutError(f"外の宛先 {address} への経路があります。")


def _prove_loopback() -> None:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise NotCutError(
            f"ループバックが使えません（{error}）。カーネルと通信できないので、先へ進みません。"
        ) from error


def _flags(name: str) -> int:
    """口の状態（SIOCGIFFLAGS）。"""
    return int(struct.unpack("16sH", _interface_request(_SIOCGIFFLAGS, name, 0)[:18])[1])


def _set_up(name: str) -> None:
    _interface_request(_SIOCSIFFLAGS, name, _flags(name) | _IFF_UP)


def _interface_request(request: int, name: str, flags: int) -> bytes:
    if sys.platform == "win32":
        raise CannotCutError("Windows にはこの操作がありません。")
    import fcntl  # Windows に無いので、ここで読む

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control.fileno(), request, struct.pack("16sH14s", name.encode(), flags, b""))


def cut() -> None:
    """切って、切れたことを確かめる。"""
    enter_namespace()
    raise_loopback()
    prove()


def main(arguments: list[str]) -> int:
    """コマンドラインの入口。コマンドがなければ、切れるかどうかだけを調べる。"""
    parser = argparse.ArgumentParser(
        prog="offline.py", description="ネットワークを切り、切れたことを確かめてからコマンドを動かします。"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="`--` のあとにコマンド。省くと確かめるだけです")
    command = [word for i, word in enumerate(parser.parse_args(arguments).command) if not (i == 0 and word == "--")]
    try:
        cut()
    except CannotCutError as error:
        print(f"ネットワークを切れません: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except NotCutError as error:
        print(f"ネットワークが切れていません: {error}", file=sys.stderr)
        return EXIT_NOT_CUT
    return _become(command) if command else 0


def _become(command: list[str]) -> int:
    """コマンドに置き換わる。戻るのは、起動できなかったときだけ。"""
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"コマンド {command[0]} を起動できません: {error}", file=sys.stderr)
    return EXIT_NO_COMMAND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
