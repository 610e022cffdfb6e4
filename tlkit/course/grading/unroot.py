"""管理者（root）が採点するとき、檻を「だれでもない利用者」として作る。

root のまま作ると、中で uid 1000 に見えても、機械から見れば root である。
/proc の設定や /dev/null の許可を書き換えられ、プロセスの数の上限も効かない。
だから外側の bubblewrap で、見せるフォルダを読める場所へ写し、利用者を替えてから、内側の檻を作る。
"""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from tlkit.course.errors import CourseError

NOBODY = 65534
_STAGE = "/mnt"  # 外側の世界だけで、空の置き場所として使う
Mounts = Sequence[tuple[str, str]]


def is_root() -> bool:
    """管理者として動いているか。"""
    return os.geteuid() == 0


def stage(bwrap: str, mounts: Mounts) -> tuple[list[str], list[tuple[str, str]]]:
    """利用者を替える前置きと、置き場所を写したあとの（もと, 檻の中）の組。

    root だけが入れるフォルダ（/root など）の下にあるものも、こうすると内側の檻から見せられる。

    Raises:
        CourseError: 利用者を替える道具がないか、見せるものをほかの利用者が読めないとき。
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise CourseError(
            "setpriv コマンドがないので、root の権限を外して檻を作れません。"
            "`apt install util-linux` で入れるか、root でない利用者で採点してください。"
        )
    outer = [bwrap, "--dev-bind", "/", "/", "--tmpfs", _STAGE, "--die-with-parent"]
    moved = []
    for number, (source, target) in enumerate(mounts):
        check_readable(source)
        outer += ["--ro-bind", source, f"{_STAGE}/{number}"]
        moved.append((f"{_STAGE}/{number}", target))
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    return [*outer, "--", setpriv, *ids, "--"], moved


def check_readable(source: str) -> None:
    """root でもその持ち主でもない利用者に読めるか。

    Raises:
        CourseError: 読めないとき。
    """
    mode = Path(source).stat().st_mode
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    if mode & needed != needed:
        raise CourseError(
            f"{source} を、root でない利用者が読めません。檻は root の権限を外して作ります。\n"
            f"`chmod -R o+rX {source}` で読めるようにするか、root でない利用者で採点してください。"
        )
