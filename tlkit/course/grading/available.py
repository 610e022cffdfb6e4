"""この機械で檻を作れるかを、本当に一つ作って確かめる。作れないときは、理由と直し方を日本語で返す。

設定を読んで推し量ることはしない。名前空間の制限は、版や配布元によって場所も意味も違うためである。
"""

from dataclasses import dataclass
from pathlib import Path

import tlkit
from tlkit.course.errors import CourseError
from tlkit.course.grading import cage
from tlkit.course.grading.model import Limits
from tlkit.course.grading.process import CagedProcess

_SECONDS = 60.0
_ANSWER = b"caged 1000"
_SCRIPT = "import os; print('caged', os.getuid())"
_NAMESPACES = """この機械は、管理者でない利用者が名前空間を作ることを禁じています。どれか一つで直せます。
- Ubuntu 23.10 以降: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`（再起動すると元へ戻ります）
- 古い Debian: `sudo sysctl -w kernel.unprivileged_userns_clone=1`
- Docker の中: コンテナを `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined` で始める"""
_FIXES = (
    (
        ("Unknown option",),
        "bubblewrap が古いようです。0.8 以上に上げてください（Debian 12、Ubuntu 24.04 以降にあります）。",
    ),
    (("uid map", "new namespace", "userns", "clone failed", "Operation not permitted", "proc on"), _NAMESPACES),
)


@dataclass(frozen=True)
class Availability:
    """檻を作れるか。

    Attributes:
        ok: 作れるなら True。
        reason: 作れない理由と直し方。作れるなら空。
    """

    ok: bool
    reason: str = ""


def available() -> Availability:
    """檻を一つ作り、中で Python を動かしてみる。"""
    try:
        command = cage.command(package(), Limits(), ("-c", _SCRIPT))
        with CagedProcess(command) as process:
            said, complained = process.listen(_SECONDS)
    except CourseError as error:
        return Availability(ok=False, reason=str(error))
    if said.strip() == _ANSWER:
        return Availability(ok=True)
    return Availability(ok=False, reason=_explain((complained + said).decode("utf-8", "replace").strip()[-1000:]))


def require() -> None:
    """檻を作れなければ、採点を始めない。

    Raises:
        CourseError: 檻を作れないとき。理由と直し方を添える。
    """
    found = available()
    if not found.ok:
        raise CourseError(found.reason)


def package() -> Path:
    """いま動いている tlkit のフォルダ。"""
    return Path(tlkit.__file__).resolve().parent


def _explain(complaint: str) -> str:
    head = f"bubblewrap で檻を作れませんでした: {complaint or '（何も言わずに終わりました）'}"
    for marks, fix in _FIXES:
        if any(mark in complaint for mark in marks):
            return f"{head}\n{fix}"
    return (
        f"{head}\n`bwrap --version` が 0.8 以上か、この機械で `bwrap --ro-bind / / true` が動くかを確かめてください。"
    )
