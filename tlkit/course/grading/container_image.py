"""コンテナの土台になる、中身のないイメージ。この機械の中だけで作り、何もダウンロードしない。

入っているのは、空のフォルダと、/lib から /usr/lib などへのリンクだけである。中身は `container.py` が、読むだけで重ねる。
"""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tlkit.course.errors import CourseError

FOLDERS = ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "tree")
SYSTEM = ("lib", "lib32", "lib64", "libx32", "bin", "sbin")
_SECONDS = 120.0


def archive(root: Path = Path("/")) -> bytes:
    """イメージの中身（tar）。同じ作りの機械では、いつも同じバイト列になる。

    Args:
        root: リンクの向きを調べるところ。
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as bundle:
        for name in FOLDERS:
            bundle.addfile(_entry(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755))
        for name in SYSTEM:
            if (root / name).is_symlink():
                bundle.addfile(_entry(name, tarfile.SYMTYPE, str((root / name).readlink())))
    return packed.getvalue()


def prepare(program: Sequence[str]) -> str:
    """イメージがなければ作り、その名前を返す。名前は中身で決まるので、何度呼んでもよい。

    Args:
        program: コンテナの道具を呼ぶコマンド（`podman` など）。

    Raises:
        CourseError: 作れないとき。道具の言い分を添える。
    """
    data = archive()
    name = f"localhost/tlkit-cage:{hashlib.sha256(data).hexdigest()[:16]}"
    if _call([*program, "image", "inspect", name]).returncode != 0:
        done = _call([*program, "import", "-", name], data)
        if done.returncode != 0:
            raise CourseError(done.stderr.decode("utf-8", "replace").strip()[-1000:] or "イメージを作れませんでした。")
    return name


def _entry(name: str, kind: bytes, target: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = (
        kind,
        target,
        mode,
    )  # runc は、重ねる tmpfs の許可を、元のフォルダに合わせる
    return entry


def _call(command: list[str], given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(command, input=given, capture_output=True, check=False, timeout=_SECONDS, cwd="/")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CourseError(f"{command[0]} を動かせません: {error}") from error
