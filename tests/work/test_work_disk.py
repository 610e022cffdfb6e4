"""書き込めないときの作業フォルダ: 満杯のディスク、権限、読み取り専用。何も失わず、日本語で知らせる。"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from course_samples import REL, edit, exercise, leftovers, snapshot, write

from tlkit.course.errors import CourseError
from tlkit.course.work import fill, reset, update


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "空き容量"), (errno.EACCES, "権限"), (errno.EROFS, "読み取り専用")])  # fmt: skip
@pytest.mark.parametrize("action", [update, lambda: reset("01-1"), lambda: reset("01_basics")])
def test_failing_write_loses_nothing(course, work, monkeypatch, number, told, action):
    edit(work / "chapters/00_start.ipynb", 0, "書き込み")
    write(course / REL, exercise(note="二版"))
    before = snapshot(work)

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CourseError, match=told):
        action()
    assert snapshot(work) == before
    assert leftovers(work) == []


def test_folder_that_is_a_file(course, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/chapters").write_text("邪魔", encoding="utf-8")
    with pytest.raises(CourseError, match="フォルダのはずの場所にファイル"):
        fill()


_IN_NAMESPACE = """
import sys
from tlkit.course.errors import CourseError
from tlkit.course.work import fill, reset, update
try:
    {"fill": fill, "update": update, "reset": lambda: reset("01-1")}[sys.argv[1]]()
except CourseError as error:
    print(error)
    sys.exit(2)
"""


def in_mount_namespace(
    course: Path, work: Path, mount: str, action: str, then: str = ""
) -> subprocess.CompletedProcess:
    script = f'{mount} && "$0" -c "$1" {action}; code=$?; {then or ":"}; exit $code'
    env = os.environ | {"TLKIT_COURSE": str(course), "TLKIT_WORK": str(work), "PYTHONUTF8": "1"}
    command = ["unshare", "-rm", "sh", "-c", script, sys.executable, _IN_NAMESPACE]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def need_namespace() -> None:
    works = sys.platform == "linux" and shutil.which("unshare")
    if not works or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("ユーザー名前空間が使えない機械")


@pytest.mark.linux
def test_really_full_disk_while_filling(course, tmp_path):
    need_namespace()
    work = tmp_path / "small"
    work.mkdir()
    write(course / REL, exercise(note="大" * 60_000))
    listing = f'find "{work}" -name "*.tmp" | wc -l; ls "{work}/exercises" | wc -l'
    done = in_mount_namespace(course, work, f'mount -t tmpfs -o size=128k tmpfs "{work}"', "fill", listing)
    assert done.returncode == 2, done.stderr
    assert "空き容量が足りません" in done.stdout
    assert done.stdout.split()[-2:] == ["0", "0"]


@pytest.mark.linux
@pytest.mark.parametrize("action", ["update", "reset"])
def test_really_full_disk_keeps_the_learners_file(course, work, tmp_path, action):
    need_namespace()
    edit(work / REL, 3, "私の答え " + "長" * 20_000)
    write(course / REL, exercise(note="大" * 60_000))
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=180k tmpfs "{small}" && cp -r "{work}/." "{small}"'
    same = f'cmp "{work}/{REL}" "{small}/{REL}" && echo SAME; find "{small}" -name "*.tmp" | wc -l'
    done = in_mount_namespace(course, small, mount + f' && head -c 30000 /dev/zero > "{small}/pad"', action, same)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "空き容量が足りません" in done.stdout
    assert done.stdout.split()[-2:] == ["SAME", "0"]


@pytest.mark.linux
def test_really_read_only_folder(course, work):
    need_namespace()
    write(course / REL, exercise(note="二版"))
    before = snapshot(work)
    done = in_mount_namespace(
        course, work, f'mount --bind "{work}" "{work}" && mount -o remount,ro,bind "{work}"', "update"
    )
    assert done.returncode == 2, done.stderr
    assert "読み取り専用の場所です" in done.stdout
    assert snapshot(work) == before
