"""別のプロセスで、本当に壊れた環境を作る検査。"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def diagnose(tmp: Path, cwd: Path, *, as_json: bool = True, **env: str) -> subprocess.CompletedProcess[bytes]:
    code = f"import sys; from tlkit.course.doctor import run; sys.exit(run(as_json={as_json}))"
    settings = {**os.environ, "TLKIT_COURSE": str(tmp / "course"), "TLKIT_DATA": str(tmp / "cache"), **env}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=cwd, env=settings, timeout=120, check=False
    )


def faults_of(done: subprocess.CompletedProcess[bytes]) -> dict[str, dict[str, str]]:
    """この機械の今の空きに左右される項目は除く。"""
    rows = json.loads(done.stdout)
    return {
        row["name"]: row
        for row in rows
        if row["state"] == "fault" and row["name"] not in {"空きメモリ", "空きディスク"}
    }


def test_real_torch_package_that_lost_a_library(healthy: Path) -> None:
    broken = healthy / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(
        'raise ImportError("libc10.so: cannot open shared object file")', encoding="utf-8"
    )
    done = diagnose(healthy, healthy, PYTHONPATH=str(healthy / "site"))
    faults = faults_of(done)
    assert done.returncode == 1
    assert list(faults) == ["PyTorch"]
    assert "共有ライブラリが欠けている" in faults["PyTorch"]["seen"]


def test_file_named_torch_beside_the_notebook(healthy: Path) -> None:
    (healthy / "torch.py").write_text("x = 1\n", encoding="utf-8")
    faults = faults_of(diagnose(healthy, healthy))
    assert list(faults) == ["PyTorch"]
    assert "本物のtorchではなく" in faults["PyTorch"]["seen"]
    assert "torch.py の名前を torch 以外に" in faults["PyTorch"]["fix"]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["cp932", "ascii"])
def test_narrow_stdout_is_found_and_the_table_still_prints(healthy: Path, codec: str) -> None:
    assert list(faults_of(diagnose(healthy, healthy, PYTHONIOENCODING=codec))) == ["文字コード"]
    table = diagnose(healthy, healthy, as_json=False, PYTHONIOENCODING=codec)
    assert (table.returncode, table.stderr) == (1, b"")
    assert "PYTHONUTF8=1" in table.stdout.decode(codec)
