r"""`make lab` や `make test` が使う仮想環境 `.venv` を、作る・直す・そのまま使う。標準ライブラリだけで動く。

使い方: `python3 tools/bootstrap.py lab|dev|clean [--cpu 1|0]`（Windows: `py -3.12 tools\bootstrap.py lab`）
この入口は古い Python でも読み込めるように書く。読み込めなければ、日本語の案内も出せないため。
実際の手順は隣の `venvkit/` にある（install.py から読むとよい）。
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 13)
CANDIDATES = ("python3.12", "python3.13", "python3.11")
PROBE = "import ensurepip, sys, venv; print('%d %d' % sys.version_info[:2])"


def supported(version: tuple[int, ...]) -> bool:
    """この版の Python で教材が動くか。"""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def can_prepare(root: Path) -> bool:
    """この Python で用意を始められるか。Debian の python3 には、仮想環境を作る部品が無いことがある。"""
    made = (root / ".venv" / "pyvenv.cfg").is_file()
    return supported(sys.version_info[:2]) and (made or importlib.util.find_spec("ensurepip") is not None)


def usable(command: list[str]) -> bool:
    """そのコマンドが、対応する版の、仮想環境を作れる Python かを、実際に起動して確かめる。"""
    try:
        done = subprocess.run([*command, "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=False)
        return done.returncode == 0 and supported(tuple(int(part) for part in done.stdout.split()))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False


def find_python() -> list[str] | None:
    """PATH（Windows では py ランチャーも）から、使える Python を探す。"""
    found = [[path] for path in map(shutil.which, CANDIDATES) if path]
    launcher = shutil.which("py") if sys.platform == "win32" else None
    if launcher:
        found += [[launcher, "-" + name[len("python") :]] for name in CANDIDATES]
    return next((command for command in found if usable(command)), None)


def explain_missing() -> str:
    """使える Python が見つからないときの案内文。"""
    here = "%d.%d" % sys.version_info[:2]  # noqa: UP031 古い Python でも読めるように
    reason = f"いまの Python は {here} です（{sys.executable}）。"
    if supported(sys.version_info[:2]):
        reason += "\nこの Python には仮想環境を作る部品（venv と ensurepip）がありません。"
    return (
        f"{reason}\n必要なもの: Python 3.11、3.12、3.13 のどれか。PATH の中も探しましたが、使えるものがありませんでした。\n"
        "  Ubuntu/Debian: sudo apt install python3 python3-venv\n"
        "  macOS: Python の公式サイトのインストーラーか Homebrew で 3.12 を入れてください\n"
        "  Windows: Python の公式サイトのインストーラーで 3.12 を入れてください\n"
        "別の場所にある Python を使うなら: make lab PYTHON=/path/to/python3.12"
    )


def hand_over(command: list[str]) -> int:
    """見つけた Python で、この同じスクリプトを同じ引数で動かす。"""
    print(f"`{sys.executable}` は使えないので、代わりに `{' '.join(command)}` を使います。", flush=True)
    arguments = [*command, __file__, *sys.argv[1:]]
    if os.name == "posix":  # Windows の exec は親が先に終わってしまうので使わない
        os.execv(command[0], arguments)
    return subprocess.run(arguments, check=False).returncode


def parse(argv: list[str]) -> argparse.Namespace:
    """コマンドラインの引数を読む。"""
    parser = argparse.ArgumentParser(description="教材の仮想環境 .venv を用意します。")
    parser.add_argument("profile", choices=("lab", "dev", "clean"), help="lab: 学ぶ人 / dev: 検査まで / clean: 消す")
    parser.add_argument("--cpu", default="", help="1: CPU 専用の PyTorch（Linux）/ 0: 通常版へ戻す / 空: いまのまま")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """入口。終了コードは 0 成功、1 用意できない、130 中断。"""
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    options = parse(sys.argv[1:] if argv is None else argv)
    if not can_prepare(ROOT):
        other = find_python()
        if other:
            return hand_over(other)
        print(explain_missing(), file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # 止められたら Ctrl-C と同じ後始末をする
    from venvkit.install import run  # 対応する版だと確かめてから読み込む（tomllib などを使うため）

    return run(ROOT, options.profile, options.cpu)


if __name__ == "__main__":
    sys.exit(main())
