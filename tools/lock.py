"""requirements.lock を作り直す・確かめる（`python tools/lock.py [--check]`）。uv を使う。

--check は、lock が pyproject を満たし、URL を含まず、対応するすべての OS と Python で、
バイナリの wheel だけで揃うことを、実際には入れずに解いて確かめる。
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HEADER = """\
# すべての OS と Python に共通の、固定された版の一覧。make が、pip を呼ぶたびに制約として渡す。
# 手で書き換えない。作り直す: .venv/bin/python tools/lock.py
# 確かめる（対応する OS と Python のすべてで解けるか）: .venv/bin/python tools/lock.py --check
"""
PLATFORMS = {
    "x86_64-manylinux_2_28": {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"},
    "x86_64-pc-windows-msvc": {"sys_platform": "win32", "platform_machine": "AMD64", "os_name": "nt"},
    "aarch64-apple-darwin": {"sys_platform": "darwin", "platform_machine": "arm64", "os_name": "posix"},
}
MACOS_MINIMUM = "14.0"  # uv が「最も古い対応 macOS」として使う環境変数の値
PYTHONS = ("3.11", "3.12", "3.13")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;\s*(.+))?$")


class LockError(Exception):
    """lock が作れない、または正しくない理由。"""


def compile_requirements(*arguments: str) -> str:
    """Uv に依存を解かせ、結果の文字列を返す。

    Raises:
        LockError: 解けないとき。uv の説明を添える。
    """
    uv = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", "--only-binary", ":all:"]
    quiet = ["--no-header", "--no-annotate", "--no-progress", "--no-config"]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS_MINIMUM}
    done = subprocess.run(
        [*uv, *quiet, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", env=environment, check=False
    )
    if done.returncode:
        raise LockError("\n".join(done.stderr.strip().splitlines()[-15:]))
    return done.stdout


def pins(text: str) -> list[tuple[str, str, str]]:
    """（名前, 版, 条件）の一覧。"""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    matches = [(line, PIN.match(line)) for line in lines if line]
    broken = [line for line, match in matches if match is None]
    if broken:
        raise LockError(f"`名前==版 ; 条件` の形でない行があります（URL やパスは書けません）: {broken[:3]}")
    return [(canonicalize_name(match[1]), match[2], match[3] or "") for _, match in matches if match]


def tidy(text: str) -> str:
    """ブラウザ上の Python（emscripten）にしか関わらない行を除き、見出しを付ける。"""
    kept = []
    for name, version, marker in pins(text):
        if marker and not any(Marker(marker).evaluate(environment) for environment in environments()):
            continue
        kept.append(f"{name}=={version}" + (f" ; {marker}" if marker else ""))
    return HEADER + "\n".join(kept) + "\n"


def environments() -> list[dict[str, str]]:
    """対応するすべての環境の、条件（marker）の値。"""
    shared = {"platform_python_implementation": "CPython", "implementation_name": "cpython", "extra": ""}
    system = {"linux": "Linux", "win32": "Windows", "darwin": "Darwin"}
    return [
        {
            **shared,
            **values,
            "platform_system": system[values["sys_platform"]],
            "python_version": python,
            "python_full_version": f"{python}.{patch}",
        }
        for values, python, patch in product(PLATFORMS.values(), PYTHONS, (0, 9))
    ]


def expected(platform: str, python: str) -> dict[str, str]:
    """その環境で lock が定める版。"""
    here = [
        environment
        for environment in environments()
        if environment["sys_platform"] == PLATFORMS[platform]["sys_platform"]
        and environment["python_version"] == python
    ]
    return {
        f"{name}=={version}": name
        for name, version, marker in pins(LOCK.read_text(encoding="utf-8"))
        if not marker or any(Marker(marker).evaluate(environment) for environment in here)
    }


def check_one(target: tuple[str, str]) -> str:
    """一つの環境で解いてみる。良ければ空文字、悪ければ理由を返す。"""
    platform, python = target
    constraint = ["--constraint", str(LOCK), "--python-platform", platform, "--python-version", python]
    try:
        found = pins(compile_requirements(*constraint))
        wanted = expected(platform, python)
    except LockError as error:
        return str(error)
    solved = {f"{name}=={version}" for name, version, _ in found}
    outside = sorted(solved - wanted.keys())
    if outside:
        return f"lock に無い版が選ばれました: {', '.join(outside)}"
    unused = sorted(set(wanted.values()) - {name for name, _, _ in found})
    return f"要らない行が lock にあります: {', '.join(unused)}" if unused else ""


def check() -> int:
    """すべての環境で確かめ、環境ごとに一行を出す。"""
    targets = list(product(PLATFORMS, PYTHONS))
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(targets, pool.map(check_one, targets), strict=True))
    for (platform, python), fault in results.items():
        print(f"{'✅' if not fault else '❌'} {platform} Python {python} {fault}")
    failed = sum(bool(fault) for fault in results.values())
    print(f"{len(targets) - failed} / {len(targets)} の環境で、lock のとおりに揃います。")
    return 1 if failed else 0


def remake(upgrade: bool) -> int:
    """今の lock の版をできるだけ保って、作り直す。"""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        if LOCK.is_file() and not upgrade:
            output.write_text(LOCK.read_text(encoding="utf-8"), encoding="utf-8")  # uv は、ここにある版を優先する
        compile_requirements("--universal", "--python-version", PYTHONS[0], "--output-file", str(output))
        text = tidy(output.read_text(encoding="utf-8"))
    LOCK.write_text(text, encoding="utf-8", newline="\n")
    print(f"{LOCK.name} を作り直しました（{len(pins(text))} 行）。")
    return 0


def main(argv: list[str] | None = None) -> int:
    """入口。"""
    parser = argparse.ArgumentParser(description="requirements.lock を作り直す、または確かめます。")
    parser.add_argument("--check", action="store_true", help="対応するすべての環境で解けるかを確かめる")
    parser.add_argument("--upgrade", action="store_true", help="今の版にこだわらず、新しい版で作り直す")
    options = parser.parse_args(argv)
    try:
        return check() if options.check else remake(options.upgrade)
    except LockError as error:
        print(f"requirements.lock の処理に失敗しました。\n{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
