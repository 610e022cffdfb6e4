"""podman のコンテナで許すシステムコール。名前空間を作る呼び出しと、ファイルシステムを付け替える呼び出しを、既定から除く。

podman の既定は、コンテナの中で新しい名前空間を作ることを許す。作れると、カーネルの広い部分に手が届く。
docker の既定は、はじめから許さない。bubblewrap の檻では `--disable-userns` が同じ役目をする。
"""

import atexit
import functools
import json
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

_REFUSED = frozenset(
    {
        *("clone", "clone3", "unshare", "setns"),
        *("mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "mount_setattr"),
        *("fsopen", "fsconfig", "fsmount", "fspick"),
    }
)
_NEW_NAMESPACES = 0x7E02_0000  # clone の引数のうち、名前空間を作る印のすべて
_CLONE = {
    "names": ["clone"],
    "action": "SCMP_ACT_ALLOW",
    "args": [{"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
}
_SECONDS = 30.0


def option(program: tuple[str, ...]) -> list[str]:
    """コンテナを始めるコマンドに足す引数。既定のプロファイルが見つからなければ空（試しで「閉じていない」と分かる）。"""
    written = _written(program)
    return [] if written is None else [f"--security-opt=seccomp={written}"]


def strict(profile: dict[str, Any]) -> dict[str, Any]:
    """プロファイルから、名前空間とファイルシステムの呼び出しを除いたもの。

    clone は、名前空間を作らないときだけ許す。clone3 は引数を調べられないので、ないことにする（C ライブラリは clone を使う）。
    """
    rules = [{**rule, "names": sorted(set(rule["names"]) - _REFUSED)} for rule in profile["syscalls"]]
    return {**profile, "syscalls": [*(rule for rule in rules if rule["names"]), _CLONE]}


@functools.cache
def _written(program: tuple[str, ...]) -> Path | None:
    with suppress(OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        asking = [*program, "info", "--format", "{{.Host.Security.SECCOMPProfilePath}}"]
        told = subprocess.run(asking, capture_output=True, text=True, check=True, timeout=_SECONDS, cwd="/").stdout
        profile = strict(json.loads(Path(told.strip()).read_text(encoding="utf-8")))
        if profile["defaultAction"] != "SCMP_ACT_ERRNO":  # 書いていないものを許す形では、除いても効かない
            return None
        descriptor, name = tempfile.mkstemp(prefix="tlkit-seccomp-", suffix=".json")
        atexit.register(Path(name).unlink, missing_ok=True)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(profile, file)
        return Path(name)
    return None
