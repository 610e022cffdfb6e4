import os
import subprocess
import sys
import tempfile

import pytest

from tlkit.course.grading import scratch


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _left(place, name, age=7200.0):
    folder = place / name
    (folder / "tlkit").mkdir(parents=True)
    then = folder.stat().st_mtime - age
    os.utime(folder, (then, then))
    return folder


def _ended_pid():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    return ended.pid


def test_only_old_folders_of_ended_graders_are_removed(place):
    ended = _ended_pid()
    abandoned = _left(place, f"tlkit-grade-{ended}-a")
    kept = [
        _left(place, f"tlkit-grade-{ended}-b", age=60),  # 新しい
        _left(place, f"tlkit-grade-{os.getpid()}-c"),  # まだ動いている
        _left(place, "tlkit-grade-notes"),  # 番号がない
        _left(place, "tlkit-grade-x-y"),
        _left(place, f"other-{ended}-a"),
    ]
    outside = _left(place, "outside")
    (place / f"tlkit-grade-{ended}-link").symlink_to(outside)
    made = scratch.make()
    assert not abandoned.exists()
    assert all(folder.is_dir() for folder in [*kept, outside, made])
    assert made.name.startswith(f"tlkit-grade-{os.getpid()}-")


def test_the_folder_is_gone_when_the_process_ends(place):
    code = f"import tempfile; tempfile.tempdir = {str(place)!r}\nfrom tlkit.course.grading import scratch; print(scratch.make())"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert made.startswith(str(place)) and not os.path.lexists(made)
