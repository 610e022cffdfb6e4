"""テストから本物の `tlkit lab` を起動する道具。test_lab.py とブラウザの検査が使う。"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlkit.course.paths import course_root

ADDRESS = re.compile(r"(http://127\.0\.0\.1:(\d+)/)(\S*)\?token=(\w+)")
LAUNCH = "import sys; from tlkit.course.lab import launch; sys.exit(launch({port}, {browser}))"


@dataclass
class LabSession:
    """動いている JupyterLab。"""

    process: "subprocess.Popen[str]"
    base: str
    port: int
    path: str
    token: str
    work: Path
    lines: list[str] = field(default_factory=list)

    def get(self, path: str, token: str | None = None) -> str:
        key = self.token if token is None else token
        request = urllib.request.Request(self.base + path, headers={"Authorization": f"token {key}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def interrupt(self) -> int:
        """端末の Ctrl-C と同じく、親と子のどちらにも届ける。"""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=30)


def make_course(folder: Path) -> Path:
    """`.jupyter` の設定だけを本物から借りた、空の教材。"""
    course = folder / "course"
    (course / "chapters").mkdir(parents=True)
    (course / "chapters" / "00_start.py").touch()
    (course / ".jupyter").symlink_to(course_root() / ".jupyter")
    return course


def environment(course: Path, home: Path, work: Path | None = None) -> dict[str, str]:
    """設定の無い新しい利用者の、画面の無い機械。work を渡すと、作業フォルダをそこに置く。"""
    home.mkdir(exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "TLKIT_WORK", "XDG_RUNTIME_DIR"):
        kept.pop(name, None)
    place = {"TLKIT_WORK": str(work)} if work else {}
    return {**kept, **place, "TLKIT_COURSE": str(course), "HOME": str(home), "PYTHONUNBUFFERED": "1"}


@contextmanager
def running_lab(course: Path, home: Path, port: int | None = None, work: Path | None = None) -> Iterator[LabSession]:
    """`tlkit lab` を起動し、アドレスが表示されたら渡し、終わりに必ず止める。"""
    script = LAUNCH.format(port=port, browser=True)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(course, home, work),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        found = _read_address(process, lines)
        threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True).start()
        base, number, path, token = found.groups()
        yield LabSession(process, base, int(number), path, token, work or course / "work", lines)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _read_address(process: "subprocess.Popen[str]", lines: list[str]) -> re.Match[str]:
    for line in process.stdout or ():
        lines.append(line)
        found = ADDRESS.search(line)
        if found:
            return found
    raise AssertionError("アドレスが表示されずに終わりました:\n" + "".join(lines))


@contextmanager
def taken_port() -> Iterator[int]:
    """ふさがったポート。"""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]
