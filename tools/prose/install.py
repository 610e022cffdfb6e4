"""textlint を package-lock.json のとおりに入れる。入っていれば何もしない。

別の場所に入れてから置き換えるので、途中で切れても半端な状態が残らず、同時に動いても壊れない。
標準ライブラリだけで動く（`python tools/prose/install.py` と単独でも使える）。
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_STAMP = ".installed-lock"


class ToolMissingError(Exception):
    """検査に要る道具がない。理由と直し方を日本語で持つ。"""


def node() -> str:
    """Node.js の実行ファイル。

    Raises:
        ToolMissingError: 見つからないとき。
    """
    return _tool("node")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolMissingError(f"{name} がありません。Node.js 20 以上（node と npm）を入れると、文章の検査が動きます。")
    return found


def _fingerprint() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()


def installed() -> bool:
    """package-lock.json と同じものが入っているか。"""
    stamp = FOLDER / "node_modules" / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _fingerprint()


def ensure() -> None:
    """必要なら `npm ci` で入れる。

    Raises:
        ToolMissingError: npm がない、または取り寄せに失敗したとき。
    """
    if installed():
        return
    print("textlint を入れます（約 135 MB、1 分ほど）…", flush=True)
    with tempfile.TemporaryDirectory(prefix=".node_modules-", dir=FOLDER, ignore_cleanup_errors=True) as made:
        _npm_ci(Path(made))
        _swap(Path(made) / "node_modules")


def _npm_ci(folder: Path) -> None:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(FOLDER / name, folder / name)
    command = [_tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise ToolMissingError(
            f"npm ci が失敗しました（終了コード {done.returncode}）。"
            f"ネットワークを確かめて、もう一度動かしてください。\n{done.stderr.strip()[-800:]}"
        )
    (folder / "node_modules" / _STAMP).write_text(_fingerprint(), encoding="ascii")


def _swap(fresh: Path) -> None:
    """新しい node_modules を置く。ほかの実行が先に置いていたら、そちらを使う。"""
    target, old = FOLDER / "node_modules", fresh.with_name("old")
    if installed():
        return
    if target.exists():
        target.rename(old)
    fresh.rename(target)


if __name__ == "__main__":
    try:
        ensure()
    except ToolMissingError as error:
        sys.exit(f"textlint を使えません: {error}")
