"""requirements.lock と pyproject.toml を読み、何を入れるかの材料にする。隣の stamp.py が指紋を使う。"""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from venvkit.messages import BootstrapError

LOCK = "requirements.lock"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?:\s*;\s*(?P<marker>.+))?$")


@dataclass(frozen=True)
class Pin:
    """固定された一つのパッケージ。marker は、それを入れる環境の条件。"""

    name: str
    version: str
    marker: str = ""


def canonical(name: str) -> str:
    """パッケージ名の表記のゆれ（大文字・下線・点）をそろえる。"""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(root: Path) -> list[Pin]:
    """固定された版の一覧を、書かれた順に返す。

    Raises:
        BootstrapError: ファイルが無いか、`名前==版 ; 条件` の形でない行があるとき。
    """
    path = root / LOCK
    if not path.is_file():
        raise BootstrapError(
            f"`{LOCK}` が見つかりません（{path}）。教材を取得し直してください（git status で確かめられます）。"
        )
    pins = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        match = _PIN.match(text)
        if not match:
            raise BootstrapError(
                f"{LOCK}:{number} を読めません: {text}\n`名前==版` か `名前==版 ; 条件` の形が必要です。"
            )
        pins.append(Pin(canonical(match["name"]), match["version"], match["marker"] or ""))
    return pins


def fingerprint(root: Path) -> str:
    """入れるものを決める部分（lock と、pyproject の依存の部分）の指紋。"""
    try:
        settings: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BootstrapError(f"pyproject.toml を読めません: {error}\n教材を取得し直してください。") from error
    project = settings.get("project", {})
    keys = ("name", "requires-python", "dependencies", "optional-dependencies", "scripts")
    relevant = {
        "project": {key: project.get(key) for key in keys},
        "build": settings.get("build-system"),
        "packages": settings.get("tool", {}).get("setuptools"),
    }
    lock = (root / LOCK).read_bytes() if (root / LOCK).is_file() else b""
    return hashlib.sha256(lock + json.dumps(relevant, sort_keys=True).encode()).hexdigest()
