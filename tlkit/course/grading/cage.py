"""檻: 提出されたコードを動かす、閉じた場所。Linux の bubblewrap で作る。

中から見えるのは、/usr、Python、仮想環境、採点用に用意した tlkit だけで、どれも読むだけである。
書けるのは大きさを限った /tmp と /dev/shm で、終われば消える。ネットワークも、外のプロセスも見えない。
中での進行は `inside/`、外からの見張りは `supervise.py`、使えるかどうかの試しは `available.py` にある。
"""

import os
import shutil
import site
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading import unroot
from tlkit.course.grading.model import MEGABYTE, Limits
from tlkit.course.kernel import ONE_THREAD

TREE = "/tree"  # 檻の中での tlkit の置き場所
SCRATCH = "/tmp"  # 檻の中だけの、大きさを限った場所
HOME = f"{SCRATCH}/home"
WORK = f"{SCRATCH}/work"
_NAMESPACES = ("user", "ipc", "pid", "net", "uts")
_SYSTEM = ("lib", "lib32", "lib64", "libx32", "bin", "sbin")
_ETC = ("/etc/ld.so.cache", "/etc/alternatives")
_MOST_LINKS = 40
_TUNING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ATEN_CPU_CAPABILITY")  # 機械に合わせた計算の設定だけは渡す


@dataclass(frozen=True)
class Python:
    """檻の中で使う Python。

    Attributes:
        executable: 実行ファイル。
        folders: 読むだけで見せるフォルダ（仮想環境と、その土台の Python）。
    """

    executable: str
    folders: tuple[str, ...]


def this_python() -> Python:
    """いま動いている Python と、その仮想環境。"""
    folders = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    return Python(sys.executable, _outermost([*folders, *map(os.path.realpath, folders)]))


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
    mounts = [*_python_mounts(python), (str(package_folder(tree)), f"{TREE}/tlkit")]
    start: list[str] = []
    if unroot.is_root():
        start, mounts = unroot.stage(bwrap(), mounts)
    return [
        *(*start, bwrap()),
        *(f"--unshare-{name}" for name in _NAMESPACES),
        *("--unshare-cgroup-try", "--disable-userns", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"),
        *("--new-session", "--die-with-parent", "--hostname", "cage", "--clearenv"),
        *_settings(environment(python)),
        *_system_mounts(),
        *_writable_mounts(limits),
        *(part for source, target in mounts for part in ("--ro-bind", source, target)),
        *_hidden_packages(),
        *("--remount-ro", "/", "--chdir", WORK, "--"),
        *(python.executable, "-s", "-P", *arguments),
    ]


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


def _settings(values: dict[str, str]) -> Iterable[str]:
    for name, value in values.items():
        yield from ("--setenv", name, value)


def _system_mounts() -> Iterable[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for name in _ETC:
        yield from ("--ro-bind-try", name, name)
    yield from ("--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev")


def _python_mounts(python: Python) -> Iterable[tuple[str, str]]:
    """Python の置き場所の（もと, 檻の中）。"""
    for folder in python.folders:
        _check_folder(folder)
        yield folder, folder
    for link in _links(python.executable):
        if not _inside(link, ("/usr", *python.folders)):
            yield link, link


def _hidden_packages() -> Iterable[str]:
    """仮想環境に入っている別の tlkit には、正解と判定がある。空のフォルダで隠す。"""
    for packages in site.getsitepackages():
        installed = Path(packages, "tlkit")
        if installed.is_dir():
            yield from ("--size", "4096", "--tmpfs", str(installed), "--remount-ro", str(installed))


def _check_folder(folder: str) -> None:
    if folder in ("/", "/home", str(Path.home())):
        raise CourseError(
            f"Python が {folder} に直に入っているため、ほかのファイルを見せずに動かすことができません。"
            "専用のフォルダに仮想環境を作って（`make lab` が作る .venv など）、そこから採点してください。"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CourseError(
            f"Python のフォルダ {folder} を、いまの利用者では読めません。"
            "この利用者が読める場所に Python と仮想環境を置いて、採点をやり直してください。"
        )


def _links(executable: str) -> Iterable[str]:
    """実行ファイルから、リンクをたどった途中の名前。"""
    path = Path(executable)
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield str(path)


def _writable_mounts(limits: Limits) -> Iterable[str]:
    """書ける場所。tmpfs には必ず大きさを付ける。後から重ねると、/tmp にある仮想環境が隠れるので、先に置く。"""
    size = str(limits.disk_mb * MEGABYTE)
    yield from ("--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev")
    yield from ("--size", size, "--tmpfs", "/tmp", "--dir", HOME, "--dir", WORK)


def _outermost(folders: Iterable[str]) -> tuple[str, ...]:
    """ほかのフォルダの中にあるものと、/usr の下のものを除く。"""
    kept: list[str] = []
    for folder in sorted(set(folders), key=len):
        if not _inside(folder, ("/usr", *kept)):
            kept.append(folder)
    return tuple(kept)


def _inside(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
