"""検査の印と、それが求めるもの。足りなければ理由を付けて省く（CI では省くこと自体が失敗になる）。"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # 端末のない場所から `&` で起動されると、SIGINT は「無視」で始まり、子にも伝わる。Ctrl-C の検査のために既定へ戻す
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _cuda() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "CUDA のある機械ではない"


def _realdata() -> str | None:
    folder = os.environ.get("TLKIT_TEST_DATA")
    return None if folder and Path(folder).is_dir() else "TLKIT_TEST_DATA が実データのフォルダを指していない"


def _linux() -> str | None:
    return None if sys.platform == "linux" else "Linux ではない"


def _browser() -> str | None:
    chromium = os.environ.get("TLKIT_CHROMIUM", "/usr/bin/chromium")
    return None if Path(chromium).is_file() else f"Chromium が無い（{chromium}。場所は TLKIT_CHROMIUM で変えられる）"


def _podman() -> str | None:
    from tlkit.course.grading import available, drivers

    tried = [available.trouble(driver) for driver in drivers.candidates() if driver.name == "podman"]
    return None if None in tried else (tried[0] if tried else "podman が無い（Debian では apt install podman runc）")


_NEEDS: dict[str, Callable[[], str | None]] = {
    "cuda": _cuda,
    "realdata": _realdata,
    "linux": _linux,
    "browser": _browser,
    "podman": _podman,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """印が求めるものが無いとき、その検査を省く。"""
    reasons: dict[str, str | None] = {}
    for item in items:
        for name in _NEEDS:
            if item.get_closest_marker(name):
                reason = reasons.setdefault(name, _NEEDS[name]())
                if reason is not None:
                    item.add_marker(pytest.mark.skip(reason=f"{name}: {reason}"))
