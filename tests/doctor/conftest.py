"""診断の検査が共に使う、健康な環境。"""

import shutil
from pathlib import Path
from types import SimpleNamespace as Namespace

import pytest
from doctor_broken import GB, Patch, socket_that

from tlkit.course.doctor import accelerator, machine

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def healthy(monkeypatch: Patch, tmp_path: Path) -> Path:
    """機械の事情（メモリ、ネットワーク、GPU）だけを固定し、残りは本物の環境。"""
    course = tmp_path / "course"
    (course / "chapters").mkdir(parents=True)
    (course / "chapters" / "00_start.py").touch()
    shutil.copy(PROJECT / "requirements.lock", course)
    monkeypatch.setenv("TLKIT_COURSE", str(course))
    monkeypatch.setenv("TLKIT_DATA", str(tmp_path / "cache"))
    for name in ("TLKIT_WORK", "TLKIT_BUILD", "JUPYTER_PATH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: Namespace(available=8 * GB))
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "no-cgroup")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Namespace(free=50 * GB))
    monkeypatch.setattr(machine.socket, "socket", socket_that(None))
    monkeypatch.setattr(accelerator, "nvidia_driver", lambda: None)
    return tmp_path
