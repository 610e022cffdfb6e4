"""bubblewrap のない Linux で使う檻: podman か docker のコンテナ。見えるものと許すことは `cage.py` と同じにそろえる。

コンテナは、この機械のカーネルで動く。だから外からの見張り（`world.py`）が、bubblewrap の檻と同じように量り、止められる。
道具の側の上限（記憶、プロセスの数）は、見張りより緩い二本目の帯である。中の 1 番のプロセスは `container_first.py`。
"""

import secrets
import shutil
import site
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlkit.course.errors import CourseError
from tlkit.course.grading import allowance, cage, container_image, container_seccomp, unroot
from tlkit.course.grading.container_process import ContainerProcess
from tlkit.course.grading.interpreter import Python, python_mounts, this_python
from tlkit.course.grading.model import Limits

_FIRST = Path(__file__).with_name("container_first.py")
_OUTSIDE = 1_000_000_000  # 中の番号 0 に当てる、機械のだれのものでもない番号
_USERS = range(30_000, 60_000)
_ETC = ("/etc/ld.so.cache", "/etc/alternatives")
_SPARE_SECONDS = 300.0
_EMPTY = "ro,nosuid,nodev,noexec,size=4k"

_CLOSED = (
    *("--rm", "--interactive", "--pull=never", "--network=none", "--ipc=private", "--read-only", "--cap-drop=ALL"),
    *("--security-opt=no-new-privileges", "--security-opt=label=disable", "--hostname=cage", "--log-driver=none"),
    *("--oom-score-adj=1000", "--ulimit=core=0", "--ulimit=nofile=512:512"),
    *("--tmpfs", f"/sys:{_EMPTY}", "--tmpfs", f"/sys/fs/cgroup:{_EMPTY}"),  # 機械の様子を見せない
    *("--tmpfs", f"/dev/mqueue:{_EMPTY}"),
)
_PODMAN = (
    *("--pid=private", "--uts=private", "--cgroupns=private", "--systemd=false", "--read-only-tmpfs=false"),
    *("--no-hosts", "--http-proxy=false", "--env-host=false", "--tmpfs", f"/run/secrets:{_EMPTY}"),
)
_DOCKER = ("--dns=192.0.2.1",)  # 採点者の名前解決の設定を見せない


@dataclass(frozen=True)
class Engine:
    """コンテナの道具。

    Attributes:
        kind: podman か docker。
        program: 呼ぶコマンド。
    """

    kind: Literal["podman", "docker"]
    program: tuple[str, ...]


def engines() -> list[Engine]:
    """この機械にある道具。先に試すものから。"""
    found: list[Engine] = []
    podman, docker, runc = (shutil.which(name) for name in ("podman", "docker", "runc"))
    if podman is not None:
        found.append(Engine("podman", (podman,)))
        if runc is not None:  # 既定の crun は、cgroup の作りによっては動かない
            found.append(Engine("podman", (podman, "--runtime", runc)))
    if docker is not None:
        found.append(Engine("docker", (docker,)))
    return found


def start(engine: Engine, tree: Path, limits: Limits, arguments: Sequence[str]) -> ContainerProcess:
    """コンテナを一つ始める。引数は `cage.command` と同じ。

    Raises:
        CourseError: 始められないとき。
    """
    name = f"tlkit-cage-{secrets.token_hex(12)}"
    image = container_image.prepare(engine.program)
    return ContainerProcess(engine.program, name, command(engine, name, image, tree, limits, arguments))


def command(engine: Engine, name: str, image: str, tree: Path, limits: Limits, arguments: Sequence[str]) -> list[str]:
    """コンテナの中で Python を `arguments` つきで動かすコマンド。"""
    python = this_python()
    environment = cage.environment(python)
    return [
        *(*engine.program, "run", f"--name={name}", *_CLOSED),
        *((*_PODMAN, *container_seccomp.option(engine.program)) if engine.kind == "podman" else _DOCKER),
        *_user(engine),
        *_limits(limits),
        *(f"--env={key}={value}" for key, value in environment.items()),
        *_mounts(tree, python),
        *(image, python.executable, "-I", "-S", "-c", _FIRST.read_text(encoding="utf-8")),
        *(str(allowance.total(limits).seconds + _SPARE_SECONDS), ",".join(environment), cage.WORK),
        *(python.executable, "-s", "-P", *arguments),
    ]


def _user(engine: Engine) -> Iterator[str]:
    """中の利用者。外から見て、root でも採点者でもない番号にする。"""
    if engine.kind == "docker":
        user = _unused()  # docker は番号を移さない。プロセスの数の上限を、ほかの檻と分け合わないようにもする
    else:
        user = 1000
        if unroot.is_root():  # root でない podman は、番号をいつも移している
            yield from (f"--{kind}map=0:{_OUTSIDE}:{user + 1}" for kind in ("uid", "gid"))
    yield f"--user={user}:{user}"


def _unused() -> int:
    import pwd  # Windows にはない

    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return secrets.choice([number for number in _USERS if number not in taken])


def _limits(limits: Limits) -> Iterator[str]:
    """道具の側の上限。先に効くのは外の見張りで、止めた理由を言えるのもそちらである。"""
    memory, processes = 2 * (limits.memory_mb + limits.disk_mb), 4 * limits.processes
    yield from (f"--memory={memory}m", f"--memory-swap={memory}m")
    yield from (f"--pids-limit={processes}", f"--ulimit=nproc={processes}:{processes}")
    size = f"rw,nosuid,nodev,size={limits.disk_mb}m,mode=1777"
    yield from ("--tmpfs", f"{cage.SCRATCH}:exec,{size}", "--tmpfs", f"/dev/shm:noexec,{size}")


def _mounts(tree: Path, python: Python) -> Iterator[str]:
    """見せるもの。どれも読むだけ。"""
    for source, target in _shown(tree, python):
        _check(source)
        yield f"--mount=type=bind,source={source},destination={target},readonly"
    for packages in site.getsitepackages():  # 仮想環境に入っている別の tlkit には、正解と判定がある
        installed = Path(packages, "tlkit")
        if installed.is_dir():
            yield from ("--tmpfs", f"{installed}:{_EMPTY}")


def _shown(tree: Path, python: Python) -> Iterator[tuple[str, str]]:
    yield "/usr", "/usr"
    for name in container_image.SYSTEM:
        path = Path("/", name)
        if path.is_dir() and not path.is_symlink():
            yield str(path), str(path)
    for path in map(Path, _ETC):
        if path.exists():
            yield str(path), str(path)
    yield from python_mounts(python)
    yield str(cage.package_folder(tree)), cage.PACKAGE


def _check(source: str) -> None:
    if any(letter in source for letter in ',"\n'):
        raise CourseError(
            f"{source!r} の名前に , や引用符があり、コンテナに見せられません。場所の名前を変えてください。"
        )
    unroot.check_readable(source)
