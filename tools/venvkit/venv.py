"""`.venv` そのもの: 状態を見分け、作り、途中で切れた跡を片づける。パッケージを入れるのは隣の install.py。"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from venvkit.messages import BootstrapError, say
from venvkit.project import Pin, canonical

WINDOWS = os.name == "nt"
# 仮想環境の Python の中で動かす。条件（marker）の解釈には、pip が内に持つ packaging を借りる。
_PROBE = """
import json, sys, sysconfig
import pip
from pip._vendor.packaging.markers import Marker
markers = json.load(sys.stdin)
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "platform": sys.platform,
    "purelib": sysconfig.get_path("purelib"),
    "applies": [not m or Marker(m).evaluate() for m in markers],
}))
"""


@dataclass(frozen=True)
class Facts:
    """仮想環境の Python から聞き取ったこと。"""

    version: tuple[int, int]
    platform: str
    purelib: Path
    pins: tuple[Pin, ...]


def python_of(folder: Path) -> Path:
    """仮想環境の Python の場所。"""
    return folder / "Scripts" / "python.exe" if WINDOWS else folder / "bin" / "python"


def command(folder: Path, *arguments: str) -> list[str]:
    """仮想環境の Python を、外の PYTHONPATH などに乱されない形で呼ぶ。"""
    return [str(python_of(folder)), "-I", "-X", "utf8", *arguments]


def is_ours(folder: Path) -> bool:
    """仮想環境だと見分けられるか（pyvenv.cfg があるか）。消してよいのはそのときだけ。"""
    return (folder / "pyvenv.cfg").is_file() and not folder.is_symlink()


def is_absent(folder: Path) -> bool:
    """無いか、空のフォルダか。"""
    if not os.path.lexists(folder):
        return True
    return folder.is_dir() and not any(folder.iterdir())


def inspect(folder: Path, pins: list[Pin]) -> Facts | None:
    """仮想環境の Python を起動して確かめる。起動できない、pip が無い、などなら None。"""
    try:
        done = subprocess.run(
            command(folder, "-c", _PROBE),
            input=json.dumps([pin.marker for pin in pins]),
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        told: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    applicable = tuple(pin for pin, applies in zip(pins, told["applies"], strict=True) if applies)
    return Facts((told["version"][0], told["version"][1]), told["platform"], Path(told["purelib"]), applicable)


def remove(folder: Path) -> None:
    """仮想環境を消す。仮想環境と分からないものには触らない。

    Raises:
        BootstrapError: 仮想環境でないフォルダやファイルのとき、または消せないとき。
    """
    if is_absent(folder):
        return
    if not is_ours(folder):
        raise BootstrapError(
            f"`{folder}` は仮想環境ではないようです（pyvenv.cfg がありません）。中身を失わないよう、触らずに止めました。\n"
            "別の名前に変えるか、要らないことを確かめて自分で消してから、もう一度実行してください。"
        )
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise BootstrapError(
            f"`{folder}` を消せません: {error}\nこの仮想環境を使っている JupyterLab や端末を閉じてから、もう一度実行してください。"
        ) from error


def create(folder: Path) -> None:
    """仮想環境を新しく作る。pip は Python に付いてくるものを使うので、通信はしない。"""
    remove(folder)
    say(f"仮想環境 {folder.name} を作ります（Python {sys.version_info[0]}.{sys.version_info[1]}）。")
    base = getattr(sys, "_base_executable", None) or sys.executable  # 仮想環境の中から呼ばれても、元の Python で作る
    done = subprocess.run([base, "-I", "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise BootstrapError(
            f"仮想環境を作れませんでした（{folder}）。\n{tail}\n"
            "空き容量と書き込みの権限を確かめてください。Ubuntu/Debian では sudo apt install python3-venv も必要です。"
        )


def installed(purelib: Path) -> dict[str, str]:
    """入っているパッケージの名前と版。`+cpu` のような区別も残す。"""
    found = {}
    for info in purelib.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        found[canonical(name)] = version
    return found


def sweep(purelib: Path) -> list[str]:
    """途中で切られた導入の跡を消し、そのパッケージの名前を返す。

    pip は INSTALLER を最後に書く。それが無い dist-info は半端で、残すと「導入済み」と誤って扱われる。
    """
    broken = []
    for info in purelib.glob("*.dist-info"):
        if not (info / "INSTALLER").is_file() or not (info / "RECORD").is_file():
            shutil.rmtree(info)
            broken.append(info.name.partition("-")[0])
    for leftover in purelib.glob("~*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return broken
