"""檻: 提出されたコードを動かす、閉じた場所。Linux の bubblewrap で作る。

中から見えるのは、/usr、Python、仮想環境、採点用に用意した tlkit だけで、どれも読むだけである。
書けるのは大きさを限った /tmp と /dev/shm で、終われば消える。ネットワークも、外のプロセスも見えない。
中での進行は `inside/`、外からの見張りは `supervise.py`、使えるかどうかの試しは `available.py` にある。
檻の始め方は二つある。新しい Python を檻の中で始める（`command`）か、温めた Python を `nursery` で育てておき、
その写しを、中身のない檻（`room`）に入らせる（`zygote.py`）。どちらの檻も、見えるものと許すことは同じである。
"""

import os
import shutil
import site
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading import unroot
from tlkit.course.grading.interpreter import Python, python_mounts, this_python
from tlkit.course.grading.model import MEGABYTE, Limits
from tlkit.course.kernel import ONE_THREAD

TREE = "/tree"  # 檻の中での tlkit の置き場所
PACKAGE = f"{TREE}/tlkit"
SCRATCH = "/tmp"  # 檻の中だけの、大きさを限った場所
HOME = f"{SCRATCH}/home"
WORK = f"{SCRATCH}/work"
_SYSTEM = ("lib", "lib32", "lib64", "libx32", "bin", "sbin")
_ETC = ("/etc/ld.so.cache", "/etc/alternatives")
_AS_NOBODY = ("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv")
_HOST = ("--hostname", "cage")
# 学習者のコードが動く檻
_CLOSED = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--disable-userns", *_AS_NOBODY, *_HOST),
)
_OWN_PROC = ("--proc", "/proc", "--remount-ro", "/proc")
# 温めた Python を置くところ
_OPEN = ("--unshare-user", "--unshare-net", "--unshare-uts", *_AS_NOBODY, *_HOST)
_HOST_PROC = ("--dev-bind", "/proc", "/proc")  # 中で作る檻が自分の /proc を持つには、覆いのない /proc が要る
_TUNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ATEN_CPU_CAPABILITY")  # 機械に合わせた計算の設定だけは渡す


def command(tree: Path, limits: Limits, arguments: Sequence[str], python: Python | None = None) -> list[str]:
    """檻の中で Python を `arguments` つきで動かすコマンド。

    Args:
        tree: 檻に見せる、パッケージ tlkit のフォルダ（または、それを含むフォルダ）。
        limits: 書ける場所の大きさを決める上限。
        arguments: Python への引数。
        python: 使う Python。省くと、いま動いている Python。

    Raises:
        CourseError: bubblewrap か、見せるはずのフォルダがないとき。
    """
    python = python or this_python()
    start, mounts = _staged(tree, python)
    return [*start, bwrap(), *_CLOSED, *_view(mounts, python, limits, _OWN_PROC), *_python(python), *arguments]


def nursery(tree: Path, limits: Limits, arguments: Sequence[str], python: Python | None = None) -> list[str]:
    """温めた Python を置くところ。学習者のコードは動かない。

    見えるものは檻と同じ。違いは、中で檻（`room`）を作れることと、作った檻の番号を外と同じに数えることである。
    """
    python = python or this_python()
    start, mounts = _staged(tree, python)
    return [*start, bwrap(), *_OPEN, *_view(mounts, python, limits, _HOST_PROC), *_python(python), *arguments]


def room(limits: Limits, arguments: Sequence[str], python: Python | None = None) -> list[str]:
    """`nursery` の中で実行して、檻を一つ作るコマンド。世界の主として、Python を `arguments` つきで動かす。"""
    python = python or this_python()
    mounts = [*python_mounts(python), (PACKAGE, PACKAGE)]
    start = [bwrap(), "--as-pid-1", *_CLOSED]
    return [*start, *_view(mounts, python, limits, _OWN_PROC), "--", python.executable, "-I", "-S", *arguments]


def bwrap() -> str:
    """bubblewrap の場所。

    Raises:
        CourseError: Linux でないか、入っていないとき。
    """
    found = shutil.which("bwrap") if sys.platform == "linux" else None
    if found is None:
        raise CourseError(NO_BWRAP)
    return found


NO_BWRAP = (
    "人のノートブックを閉じ込めて動かす bubblewrap（bwrap コマンド）がありません。"
    "閉じ込めずに動かすと、採点者のファイルやほかの人の提出に手が届くため、採点を始めません。\n"
    "Linux で `sudo apt install bubblewrap`（Fedora は `sudo dnf install bubblewrap`）を実行してください。"
    "macOS と Windows では、Linux の仮想機械か WSL2 の中で採点してください。"
)


def package_folder(tree: Path) -> Path:
    """パッケージ tlkit のフォルダ。

    Raises:
        CourseError: そこに tlkit がないとき。
    """
    for candidate in (tree / "tlkit", tree):
        if (candidate / "course" / "grading" / "inside" / "__main__.py").is_file():
            return candidate.resolve()
    raise CourseError(
        f"檻に見せる tlkit が {tree} にありません。`tlkit grade` をもう一度実行してください"
        "（一時フォルダが、途中で掃除されたのかもしれません）。"
    )


def environment(python: Python) -> dict[str, str]:
    """檻の中の環境変数。採点者のものは、計算の設定のほかは何も渡さない。"""
    return {
        **ONE_THREAD,
        **{name: os.environ[name] for name in _TUNING if name in os.environ},
        "PATH": f"{Path(python.executable).parent}:/usr/bin:/bin",
        "HOME": HOME,
        "USER": "student",
        "LOGNAME": "student",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "PYTHONPATH": TREE,
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
        "IPYTHONDIR": f"{HOME}/.ipython",
        "HF_HUB_OFFLINE": "1",
    }


def _staged(tree: Path, python: Python) -> tuple[list[str], list[tuple[str, str]]]:
    """root を降りる前置き（root でなければ空）と、見せるものの（もと, 檻の中）。"""
    mounts = [*python_mounts(python), (str(package_folder(tree)), PACKAGE)]
    return unroot.stage(bwrap(), mounts) if unroot.is_root() else ([], mounts)


def _view(mounts: Iterable[tuple[str, str]], python: Python, limits: Limits, proc: Sequence[str]) -> Iterable[str]:
    """中から見えるもの。"""
    yield from _settings(environment(python))
    yield from _system_mounts(proc)
    yield from _writable_mounts(limits)
    for source, target in mounts:
        yield from ("--ro-bind", source, target)
    yield from _hidden_packages()
    yield from ("--remount-ro", "/", "--chdir", WORK)


def _python(python: Python) -> tuple[str, ...]:
    return "--", python.executable, "-s", "-P"


def _settings(values: dict[str, str]) -> Iterable[str]:
    for name, value in values.items():
        yield from ("--setenv", name, value)


def _system_mounts(proc: Sequence[str]) -> Iterable[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for name in _ETC:
        yield from ("--ro-bind-try", name, name)
    yield from (*proc, "--dev", "/dev")


def _hidden_packages() -> Iterable[str]:
    """仮想環境に入っている別の tlkit には、正解と判定がある。空のフォルダで隠す。"""
    for packages in site.getsitepackages():
        installed = Path(packages, "tlkit")
        if installed.is_dir():
            yield from ("--size", "4096", "--tmpfs", str(installed), "--remount-ro", str(installed))


def _writable_mounts(limits: Limits) -> Iterable[str]:
    """書ける場所。tmpfs には必ず大きさを付ける。後から重ねると、/tmp にある仮想環境が隠れるので、先に置く。"""
    size = str(limits.disk_mb * MEGABYTE)
    yield from ("--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev")
    yield from ("--size", size, "--tmpfs", "/tmp", "--dir", HOME, "--dir", WORK)
