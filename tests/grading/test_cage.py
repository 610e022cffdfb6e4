import contextlib
import os
import shutil
import site
import subprocess
import tempfile
from pathlib import Path

import pytest
from cage_kit import SMALL, run_cells

from tlkit.course.errors import CourseError
from tlkit.course.grading import cage, unroot
from tlkit.course.grading.available import package
from tlkit.course.grading.interpreter import Python, this_python
from tlkit.course.grading.model import Limits
from tlkit.course.grading.process import CagedProcess

pytestmark = pytest.mark.linux
PROJECT = package().parent


def _inside(script, *, python=None, limits=SMALL, tree=None):
    """檻の中で Python のコードを 1 本動かし、標準出力と標準エラーを返す。"""
    with CagedProcess(cage.command(tree or package(), limits, ("-c", script), python)) as process:
        said, complained = process.listen(60)
    return said.decode(), complained.decode()


def _pairs(command, option):
    return [(command[i + 1], command[i + 2]) for i, part in enumerate(command) if part == option]


def test_only_python_and_the_package_are_bound_read_only(monkeypatch):
    monkeypatch.setattr(unroot, "is_root", lambda: False)
    command = cage.command(package(), SMALL, ("-c", "pass"))
    assert "--bind" not in command and "--dev-bind" not in command
    shown = {target for _, target in _pairs(command, "--ro-bind")}
    allowed = {
        "/usr",
        "/tree/tlkit",
        *this_python().folders,
        "/lib",
        "/lib64",
        "/bin",
        "/sbin",
        "/lib32",
        "/libx32",
    }
    assert shown <= allowed
    for secret in (Path.home(), PROJECT, PROJECT / "solutions", PROJECT / "tests", Path("/etc"), Path("/home")):
        assert not any(secret.is_relative_to(folder) for folder in shown), secret


def test_the_command_carries_nothing_of_the_grader(monkeypatch):
    monkeypatch.setenv("TLKIT_SECRET_KEY", "hush-hush-4711")
    command = cage.command(package(), SMALL, ("-c", "pass"))
    assert not any("hush-hush-4711" in part for part in command)
    said, _ = _inside(
        "import os\nfor pid in filter(str.isdecimal, os.listdir('/proc')):\n"
        "    for part in ('environ', 'cmdline'):\n"
        "        try: print(open(f'/proc/{pid}/{part}').read())\n"
        "        except OSError: pass"
    )
    assert "PYTHONHASHSEED=0" in said  # 読めるものを本当に読んでいる
    assert "hush-hush-4711" not in said and "TLKIT_SECRET_KEY" not in said


def test_the_environment_is_fixed():
    said, _ = _inside(
        "import os; print(sorted(os.environ)); print(os.environ['TZ'], os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    names = eval(said.splitlines()[0])
    assert {"PYTHONHASHSEED", "LANG", "OMP_NUM_THREADS", "MPLBACKEND"} <= set(names)
    assert not {"SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "OLDPWD"} & set(names)
    assert said.splitlines()[1] == "UTC "


# 罠 1: 檻の中の getppid() や kill(0) が、檻の外に届かないこと
def test_signals_sent_from_inside_stay_inside():
    victim = subprocess.Popen(["sleep", "60"])  # 採点者と同じプロセスの組にいる
    try:
        outcome = run_cells(
            "import os, signal\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "for target in (os.getppid(), 0, 1, -1):\n"
            "    try: os.kill(target, signal.SIGTERM)\n"
            "    except OSError: pass\n"
            "done = True",
            "assert done",
            "import os; os.kill(0, 9)",
        )
        assert outcome.errors == {}
        assert outcome.limit == "crash" and "SIGKILL" in outcome.detail
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


# 罠 2: 書ける場所には必ず大きさの上限があること
def test_every_writable_place_has_a_size(monkeypatch):
    monkeypatch.setattr(unroot, "is_root", lambda: False)
    command = cage.command(package(), Limits(disk_mb=7), ("-c", "pass"))
    places = [i for i, part in enumerate(command) if part == "--tmpfs"]
    assert len(places) >= 2
    assert all(command[i - 2] == "--size" for i in places)
    assert {"/tmp", "/dev/shm"} <= {command[i + 1] for i in places}
    said, _ = _inside(
        "import os\n"
        "for line in open('/proc/mounts'):\n"
        "    kind, place, name, options = line.split()[:4]\n"
        "    if 'rw' in options.split(',') and name not in ('devpts', 'devtmpfs'): print(place, options)",
        limits=Limits(disk_mb=7),
    )
    assert sorted(line.split()[0] for line in said.splitlines()) == ["/dev/shm", "/tmp"]
    assert all("size=7168k" in line for line in said.splitlines())


# 罠 3: 中では uid 1000、外から見ても root ではないこと
def test_the_caged_user_is_not_root_outside_either():
    script = "import os, sys, time; print(os.getuid(), os.getgid(), os.getgroups(), flush=True); time.sleep(20)"
    with CagedProcess(cage.command(package(), SMALL, ("-c", script))) as process:
        said = os.read(process.pipes[1], 100)
        family = process.family()
        outside = {pid: _uids(pid) for pid in family}
    assert said.split()[:2] == [b"1000", b"1000"]
    innermost = outside[family[-1]]
    assert 0 not in innermost
    assert innermost == ({unroot.NOBODY} if os.geteuid() == 0 else {os.geteuid()})


def _uids(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {int(value) for line in lines if line.startswith("Uid:") for value in line.split()[1:]}


# 罠 4: 入れ子の名前空間が作れないこと（スレッドが 1 本のプロセスで試す）
def test_no_user_namespace_can_be_made_inside():
    said, _ = _inside(
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(len(os.listdir('/proc/self/task')), libc.unshare(0x10000000), ctypes.get_errno())\n"
        "print(open('/proc/sys/user/max_user_namespaces').read())"
    )
    threads, result, error = map(int, said.splitlines()[0].split())
    assert (threads, result) == (1, -1)
    assert error == 28  # ENOSPC: 数の上限が 0。EINVAL（スレッドが複数）ではない


# 罠 5: /tmp の下の Python も見え、読めない Python は先に断ること
def test_a_python_under_tmp_is_not_hidden_by_the_scratch_space():
    with _open_folder() as folder:
        (folder / "mark.txt").write_text("見える")
        python = Python("/usr/bin/python3", (str(folder),))
        said, complained = _inside(f"print(open({str(folder / 'mark.txt')!r}, encoding='utf-8').read())", python=python)
    assert (said.strip(), complained) == ("見える", "")


def test_an_unreadable_python_is_refused_before_starting(monkeypatch):
    with _open_folder() as folder:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(CourseError, match="読めません"):
            cage.command(package(), SMALL, ("-c", "pass"), Python("/usr/bin/python3", (str(folder),)))


def test_as_root_a_private_folder_is_refused_with_a_remedy(monkeypatch):
    with _open_folder() as folder:
        folder.chmod(0o700)
        monkeypatch.setattr(unroot, "is_root", lambda: True)
        with pytest.raises(CourseError, match=r"chmod -R o\+rX"):
            cage.command(package(), SMALL, ("-c", "pass"), Python("/usr/bin/python3", (str(folder),)))


@pytest.mark.parametrize("folder", ["/", "/home", str(Path.home())])
def test_a_python_in_a_broad_folder_is_refused(folder):
    with pytest.raises(CourseError, match="仮想環境"):
        cage.command(package(), SMALL, ("-c", "pass"), Python("/usr/bin/python3", (folder,)))


# 罠 8: rlimit が、学習者のコードより前に掛かっていて、上げられないこと
def test_limits_are_hard_before_the_first_cell():
    outcome = run_cells(
        "import resource as r\n"
        "assert r.getrlimit(r.RLIMIT_CORE) == (0, 0)\n"
        "assert r.getrlimit(r.RLIMIT_FSIZE)[1] == 16 * 2**20\n"
        "assert r.getrlimit(r.RLIMIT_NOFILE)[1] <= 512\n"
        "assert r.getrlimit(r.RLIMIT_NPROC)[1] <= 256\n"
        "assert 0 < r.getrlimit(r.RLIMIT_CPU)[1] <= 125\n"
        "assert 0 < r.getrlimit(r.RLIMIT_AS)[1] < 8 * 2**30\n"
        "assert 0 < r.getrlimit(r.RLIMIT_STACK)[1] <= 64 * 2**20",
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (4096, 4096))",
        "bytearray(100 * 2**30)",
    )
    assert outcome.errors == {
        "c1": "ValueError: not allowed to raise maximum limit",
        "c2": "MemoryError",
    }


def test_another_tlkit_in_the_environment_is_hidden(monkeypatch):
    with _open_folder() as folder:
        (folder / "tlkit").mkdir()
        (folder / "tlkit" / "answers.py").write_text("SECRET = 1")
        (folder / "other.py").write_text("")
        monkeypatch.setattr(site, "getsitepackages", lambda: [str(folder)])
        python = Python("/usr/bin/python3", (str(folder),))
        said, _ = _inside(
            f"import os; print(os.listdir({str(folder)!r}), os.listdir({str(folder / 'tlkit')!r}))", python=python
        )
    assert "other.py" in said and "answers.py" not in said


def test_a_normal_user_gets_the_same_cage(monkeypatch):
    """root で動く CI でも、ふつうの利用者の道筋（前置きなし）を、root でない利用者で動かす。"""
    monkeypatch.setattr(unroot, "is_root", lambda: False)
    with _open_folder() as folder:
        shutil.copytree(package(), folder / "tlkit", ignore=shutil.ignore_patterns("__pycache__", "assets"))
        script = (
            "import os, socket\nprint(os.getuid(), [n for _, n in socket.if_nameindex()])\n"
            "for path in ('/x', '/usr/x', '/tree/x', '/dev/x'):\n"
            "    try: open(path, 'w'); print('wrote', path)\n"
            "    except OSError as error: print(error.strerror)"
        )
        command = cage.command(folder, SMALL, ("-c", script), Python("/usr/bin/python3", ()))
        if os.geteuid() == 0:
            ids = [f"--reuid={unroot.NOBODY}", f"--regid={unroot.NOBODY}", "--clear-groups"]
            command = ["/usr/bin/setpriv", *ids, *command]
        with CagedProcess(command) as process:
            said, complained = process.listen(60)
    assert said.decode().splitlines() == ["1000 ['lo']", *["Read-only file system"] * 4], complained


@contextlib.contextmanager
def _open_folder():
    """ほかの利用者も読めるフォルダ（pytest の tmp_path は本人しか読めない）。"""
    with tempfile.TemporaryDirectory(prefix="cage-test-", dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)
