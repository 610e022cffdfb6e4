"""檻から出ようとする試み。`tlkit grade selftest` が、この機械で一つずつ動かして、止まるかどうかを示す。

試みは、学習者のセルと同じ道筋（`supervise.run`）で動く。出られたときは AssertionError を起こすように書いてある。
"""

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.grading import available, escape_code
from tlkit.course.grading.available import package
from tlkit.course.grading.drivers import BUBBLEWRAP, Driver
from tlkit.course.grading.model import Limits, Outcome, Step
from tlkit.course.grading.supervise import INSIDE, run

LIMITS = Limits(
    cell_seconds=8, probe_seconds=8, total_seconds=20, memory_mb=700, printed_bytes=10_000, disk_mb=16, processes=64
)


@dataclass(frozen=True)
class Attempt:
    """一つの試み。

    Attributes:
        name: 何をしようとするか（日本語）。
        code: 檻の中で動かすコード。host は、檻の外にあるものの名前を持つ。
        limit: 上限で止まるはずのもの。None なら、何も起こせずに最後まで動く。
    """

    name: str
    code: str
    limit: str | None = None


@dataclass(frozen=True)
class Trial:
    """試みの結果。

    Attributes:
        name: 何をしようとしたか。
        blocked: 止められたら True。
        detail: 止め方、または何が起きたか。
    """

    name: str
    blocked: bool
    detail: str


def escape_attempts() -> list[Attempt]:
    """試みの一覧。"""
    quiet = {
        "採点者のファイル、正解、システムの名簿を読む": escape_code.READ,
        "Python、システム、採点用の部品を書き換える": escape_code.WRITE,
        "採点者の機械の 127.0.0.1 につなぐ": escape_code.LOCAL_TCP,
        "採点者の機械の名前だけのソケットにつなぐ": escape_code.ABSTRACT,
        "インターネットにつなぐ": escape_code.NETWORK,
        "外のプロセスを見る、止める": escape_code.PROCESSES,
        "採点者の環境変数と引数を読む": escape_code.SECRETS,
        "名前空間を新しく作って、権限を得る": escape_code.NAMESPACES,
        "ファイルシステムを付け直す": escape_code.MOUNT,
        "管理者の権限を得る": escape_code.PRIVILEGE,
        "装置を直に読み書きする": escape_code.DEVICES,
        "書ける場所を埋め尽くす": escape_code.DISK,
    }
    limited = {
        "届くかぎりのプロセスを止める": (escape_code.KILL, "crash"),
        "合図を無視して、終わらない": (escape_code.LOOP, "wall"),
        "プロセスを際限なく増やす": (escape_code.FORKS, "processes"),
        "子プロセスで記憶を使い尽くす": (escape_code.MEMORY, "memory"),
        "空のファイルを際限なく作る": (escape_code.FILES, "disk"),
    }
    return [Attempt(name, code) for name, code in quiet.items()] + [
        Attempt(name, code, limit) for name, (code, limit) in limited.items()
    ]


def selftest(driver: Driver | None = None) -> Iterator[Trial]:
    """試みを一つずつ動かす。

    Args:
        driver: 檻の作り方。省くと、この機械で使うもの。

    Raises:
        CourseError: 檻を作れないとき。
    """
    used = driver or available.driver()
    with _host(used.name) as host:
        for attempt in escape_attempts():
            program = [Step("attempt", f"host = {host!r}\n{escape_code.REFUSED}\n{attempt.code}")]
            yield _judge(
                attempt, run(program, (), {}, LIMITS, package(), lambda: used.start(package(), LIMITS, INSIDE))
            )


def _judge(attempt: Attempt, outcome: Outcome) -> Trial:
    blocked = outcome.limit == attempt.limit and not outcome.errors
    if not blocked:
        detail = outcome.errors.get("attempt") or outcome.detail or "上限で止まりませんでした。"
    else:
        detail = outcome.detail or "何も起こせませんでした。"
    return Trial(attempt.name, blocked, detail)


@contextmanager
def _host(driver: str = BUBBLEWRAP) -> Iterator[dict[str, str | int | list[str]]]:
    """檻の外に、見えてはいけないものを用意する。"""
    import pwd  # Windows にはない

    secret, before = secrets.token_hex(16), os.environ.get("TLKIT_SELFTEST")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tlkit-selftest-")))
        (folder / "secret.txt").write_text(secret, encoding="utf-8")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0tlkit-selftest-{secret}")
        abstract.listen()
        os.environ["TLKIT_SELFTEST"] = secret
        stack.callback(_restore, before)
        yield {
            "file": str(folder / "secret.txt"),
            "solutions": str(package().parent / "solutions"),
            "port": listener.getsockname()[1],
            "abstract": f"\0tlkit-selftest-{secret}",
            "pid": os.getpid(),
            "driver": driver,
            "users": [entry.pw_name for entry in pwd.getpwall() if entry.pw_name not in ("root", "nobody")],
            "secret": secret,
            "home": f"HOME={Path.home()}",
        }


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop("TLKIT_SELFTEST", None)
    else:
        os.environ["TLKIT_SELFTEST"] = before
