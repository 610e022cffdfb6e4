"""コンテナを始めるコマンドと、その部品。コンテナの道具がなくても動く検査。本物は test_container_runs.py。"""

import io
import json
import os
import pwd
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.grading import cage, container, container_image, container_process, container_seccomp, unroot
from tlkit.course.grading.available import package
from tlkit.course.grading.container import Engine
from tlkit.course.grading.container_process import ContainerProcess
from tlkit.course.grading.interpreter import Python, this_python
from tlkit.course.grading.model import Limits, Pace

pytestmark = pytest.mark.linux
ENGINES = {"podman": Engine("podman", ("/opt/podman",)), "docker": Engine("docker", ("/opt/docker",))}
LIMITS = Limits(memory_mb=900, disk_mb=16, processes=64, total_seconds=120)
FIRST = Path(container.__file__).with_name("container_first.py")


@pytest.fixture(params=list(ENGINES))
def engine(request):
    return ENGINES[request.param]


def _command(engine, limits=LIMITS):
    return container.command(engine, "tlkit-cage-test", "the-image", package(), limits, ("-c", "pass"))


def _options(engine, limits=LIMITS):
    command = _command(engine, limits)
    return command[: command.index("the-image")]


def _after(options, name):
    """`--name 値` と `--name=値` の値。"""
    spaced = [value for place, value in enumerate(options[1:], 1) if options[place - 1] == name]
    return spaced + [part.split("=", 1)[1] for part in options if part.startswith(f"{name}=")]


class TestCommand:
    @pytest.mark.parametrize(
        "option",
        [
            "--network=none",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--ipc=private",
            "--pull=never",
            "--log-driver=none",
            "--rm",
            "--pids-limit=256",
            "--ulimit=nproc=256:256",
            "--ulimit=core=0",
        ],
    )
    def test_the_container_is_closed(self, engine, option):
        assert option in _options(engine)

    def test_nothing_opens_it(self, engine):
        options = _options(engine)
        text = " ".join(options)
        for word in ("--privileged", "--cap-add", "--device", "=host", "unconfined", "--volume", "--publish"):
            assert word not in text

    def test_everything_shown_is_read_only_and_is_the_same_as_in_a_bubblewrap_cage(self, engine, monkeypatch):
        monkeypatch.setattr(unroot, "is_root", lambda: False)
        mounts = _after(_options(engine), "--mount")
        assert all(mount.startswith("type=bind,source=") and mount.endswith(",readonly") for mount in mounts)
        shown = {mount.split("destination=")[1].removesuffix(",readonly") for mount in mounts}
        command = cage.command(package(), LIMITS, ("-c", "pass"))
        bound = [command[i + 2] for i, part in enumerate(command) if part in ("--ro-bind", "--ro-bind-try")]
        assert shown == {name for name in bound if Path(name).exists() or name == cage.PACKAGE}

    def test_every_writable_place_has_a_size(self, engine):
        places = dict(value.split(":", 1) for value in _after(_options(engine), "--tmpfs"))
        for place in ("/tmp", "/dev/shm"):
            assert "size=16m" in places.pop(place).split(",")
        assert places and all({"ro", "size=4k"} <= set(rest.split(",")) for rest in places.values())

    def test_the_engine_limits_are_looser_than_the_watch_so_that_the_watch_names_the_reason(self, engine):
        options = _options(engine)
        (memory,) = _after(options, "--memory")
        assert memory == _after(options, "--memory-swap")[0] == f"{2 * (900 + 16)}m"

    def test_the_environment_is_the_same_as_in_a_bubblewrap_cage(self, engine, monkeypatch):
        monkeypatch.setenv("TLKIT_SECRET_KEY", "hush-hush-4711")
        monkeypatch.setenv("HTTPS_PROXY", "http://name:hush-hush-4711@proxy")
        given = dict(value.split("=", 1) for value in _after(_options(engine), "--env"))
        assert given == cage.environment(this_python())
        assert "hush-hush-4711" not in " ".join(_command(engine))

    def test_the_first_process_lives_a_little_longer_than_the_allowed_time(self, engine):
        slow = Limits(total_seconds=120, pace=Pace(probes=(("01-1", 100.0),)))
        for limits, seconds in ((LIMITS, 120.0), (slow, 500.0)):
            command = _command(engine, limits)
            after = command[command.index(FIRST.read_text(encoding="utf-8")) + 1 :]
            assert seconds + 200 <= float(after[0]) <= seconds + 600
            assert after[1].split(",") == list(cage.environment(this_python()))
            assert after[2:] == [cage.WORK, sys.executable, "-s", "-P", "-c", "pass"]

    def test_a_comma_in_a_folder_name_is_refused(self, engine, tmp_path, monkeypatch):
        odd = tmp_path / "a,readonly=false"
        odd.mkdir()
        monkeypatch.setattr(container, "this_python", lambda: Python("/usr/bin/python3", (str(odd),)))
        with pytest.raises(CourseError, match="場所の名前"):
            _command(engine)

    def test_a_folder_that_others_cannot_read_is_refused_with_a_remedy(self, engine, tmp_path, monkeypatch):
        tmp_path.chmod(0o700)
        monkeypatch.setattr(container, "this_python", lambda: Python("/usr/bin/python3", (str(tmp_path),)))
        with pytest.raises(CourseError, match=r"chmod -R o\+rX"):
            _command(engine)

    def test_another_tlkit_in_the_environment_is_hidden(self, engine, tmp_path, monkeypatch):
        (tmp_path / "tlkit").mkdir()
        monkeypatch.setattr(container.site, "getsitepackages", lambda: [str(tmp_path)])
        assert any(value.startswith(f"{tmp_path / 'tlkit'}:ro,") for value in _after(_options(engine), "--tmpfs"))


class TestUser:
    def test_podman_as_root_maps_the_user_to_nobody_s_number(self, monkeypatch):
        monkeypatch.setattr(unroot, "is_root", lambda: True)
        options = _options(ENGINES["podman"])
        (inside, outside, count) = map(int, _after(options, "--uidmap")[0].split(":"))
        assert _after(options, "--gidmap") == _after(options, "--uidmap")
        assert _after(options, "--user") == ["1000:1000"]
        assert inside == 0 and count == 1001
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        assert not taken & set(range(outside, outside + count))

    def test_podman_without_root_already_maps(self, monkeypatch):
        monkeypatch.setattr(unroot, "is_root", lambda: False)
        options = _options(ENGINES["podman"])
        assert _after(options, "--uidmap") == [] and _after(options, "--user") == ["1000:1000"]

    def test_docker_gets_a_number_that_nobody_has(self, monkeypatch):
        everyone = [pwd.struct_passwd(("x", "x", uid, uid, "", "/", "")) for uid in range(30_000, 59_998)]
        monkeypatch.setattr(pwd, "getpwall", lambda: everyone)
        seen = {_after(_options(ENGINES["docker"]), "--user")[0] for _ in range(30)}
        assert seen == {"59998:59998", "59999:59999"}


class TestEngines:
    def test_the_real_path_is_used(self, monkeypatch):
        where = {"podman": "/opt/podman", "runc": "/opt/runc", "docker": "/opt/docker"}
        monkeypatch.setattr(container.shutil, "which", where.get)
        assert [engine.program for engine in container.engines()] == [
            ("/opt/podman",),
            ("/opt/podman", "--runtime", "/opt/runc"),
            ("/opt/docker",),
        ]


class TestImage:
    def test_it_has_only_empty_folders_and_links(self, tmp_path):
        (tmp_path / "lib").symlink_to("usr/lib")
        (tmp_path / "bin").mkdir()
        with tarfile.open(fileobj=io.BytesIO(container_image.archive(tmp_path))) as bundle:
            found = {entry.name: entry for entry in bundle}
        assert {name for name, entry in found.items() if entry.isdir()} == set(container_image.FOLDERS)
        assert {name: entry.linkname for name, entry in found.items() if not entry.isdir()} == {"lib": "usr/lib"}
        assert found["tmp"].mode == 0o1777  # runc は、tmpfs の許可をここに合わせる
        assert all(entry.uid == 0 and entry.mtime == 0 for entry in found.values())

    def test_it_is_made_once_without_any_download(self, tmp_path):
        program = _fake(
            tmp_path,
            'case "$1" in image) test -f "$KEPT";; import) cat > "$KEPT";; *) exit 9;; esac',
        )
        names = {container_image.prepare(program) for _ in range(3)}
        calls = (tmp_path / "calls").read_text().splitlines()
        (name,) = names
        assert name.startswith("localhost/tlkit-cage:")
        assert [call.split()[0] for call in calls] == ["image", "import", "image", "image"]
        assert (tmp_path / "kept").read_bytes() == container_image.archive()

    def test_a_failure_carries_the_words_of_the_engine(self, tmp_path):
        with pytest.raises(CourseError, match="no space left"):
            container_image.prepare(_fake(tmp_path, "echo no space left >&2; exit 1"))

    def test_a_missing_engine_is_a_japanese_error(self):
        with pytest.raises(CourseError, match="動かせません"):
            container_image.prepare(("/nowhere/podman",))


class TestSeccomp:
    PROFILE = {  # noqa: RUF012
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read", "clone", "clone3", "unshare", "mount"], "action": "SCMP_ACT_ALLOW", "args": []},
            {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }

    def test_namespaces_and_mounts_are_taken_out_and_the_rest_stays(self):
        made = container_seccomp.strict(self.PROFILE)
        assert made["defaultAction"] == "SCMP_ACT_ERRNO"
        first, clone = made["syscalls"]
        assert first == {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []}
        assert clone["names"] == ["clone"]
        (rule,) = clone["args"]
        assert rule["op"] == "SCMP_CMP_MASKED_EQ" and rule["valueTwo"] == 0
        for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
            assert rule["value"] & flag  # CLONE_NEWNS など
        threads = 0x003D0F00  # C ライブラリがスレッドを作るときの印
        assert rule["value"] & threads == 0

    def test_the_profile_of_the_engine_is_rewritten_into_a_file(self, tmp_path):
        (tmp_path / "default.json").write_text(json.dumps(self.PROFILE))
        (option,) = container_seccomp.option(_fake(tmp_path, f"echo {tmp_path / 'default.json'}"))
        written = Path(option.removeprefix("--security-opt=seccomp="))
        assert json.loads(written.read_text()) == container_seccomp.strict(self.PROFILE)

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"syscalls": []}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}']
    )
    def test_without_a_usable_profile_nothing_is_added(self, text, tmp_path):
        (tmp_path / "default.json").write_text(text)
        assert container_seccomp.option(_fake(tmp_path, f"echo {tmp_path / 'default.json'}")) == []


class TestFirst:
    """1 番のプロセスの手順を、ふつうのプロセスとして動かす。"""

    def _run(self, tmp_path, *command, seconds="30", names="HOME,KEPT"):
        home, work = tmp_path / "home", tmp_path / "work"
        environment = {"HOME": str(home), "KEPT": "1", "ADDED": "hush"}
        first = [sys.executable, "-I", "-S", "-c", FIRST.read_text(encoding="utf-8"), seconds, names, str(work)]
        done = subprocess.run(
            [*first, *command], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout

    def test_the_exit_code_is_the_runner_s(self, tmp_path):
        assert self._run(tmp_path, "/bin/sh", "-c", "echo said; exit 7") == (7, "said\n")

    def test_a_signal_is_told_as_bubblewrap_tells_it(self, tmp_path):
        assert self._run(tmp_path, "/bin/sh", "-c", "kill -SEGV $$")[0] == 128 + 11

    def test_only_the_named_variables_are_given_and_the_folders_are_made(self, tmp_path):
        code, said = self._run(tmp_path, "/usr/bin/env")
        assert code == 0
        assert {line.split("=")[0] for line in said.splitlines()} == {"HOME", "KEPT"}
        assert self._run(tmp_path, "/bin/sh", "-c", "pwd; ls -d $HOME")[1].split() == [
            str(tmp_path / "work"),
            str(tmp_path / "home"),
        ]

    def test_it_ends_by_itself_when_nobody_watches(self, tmp_path):
        started = time.monotonic()
        assert self._run(tmp_path, "/bin/sh", "-c", "exec sleep 40 >/dev/null 2>&1", seconds="1")[0] == 137
        assert time.monotonic() - started < 30

    def test_the_runner_gets_its_signals_back(self, tmp_path):
        script = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
        assert self._run(tmp_path, sys.executable, "-c", script)[1] == "set()\n"


class TestProcess:
    """道具が始めたと言うものを、そのまま信じない。"""

    def test_a_process_of_this_very_world_is_not_taken_for_a_container(self, tmp_path):
        program = _fake(tmp_path, f'case "$1" in run) exec sleep 60;; container) echo {os.getpid()};; esac')
        with pytest.raises(CourseError, match="Docker Desktop"):
            ContainerProcess(program, "name", [*program, "run"])
        assert "rm --force name" in (tmp_path / "calls").read_text()

    def test_a_number_from_another_machine_is_refused(self, tmp_path):
        program = _fake(tmp_path, 'case "$1" in run) exec sleep 60;; container) echo 4194999;; esac')
        with pytest.raises(CourseError, match="量れず、止められない"):
            ContainerProcess(program, "name", [*program, "run"])

    def test_a_container_that_this_user_cannot_stop_is_refused(self, tmp_path, monkeypatch):
        def forbidden(pid):
            raise PermissionError

        monkeypatch.setattr(container_process, "_check_stoppable", forbidden)
        program = _fake(tmp_path, f'case "$1" in run) exec sleep 60;; container) echo {os.getpid()};; esac')
        with pytest.raises(CourseError, match="root でない podman"):
            ContainerProcess(program, "name", [*program, "run"])

    def test_a_container_that_never_starts_tells_why_on_its_error_stream(self, tmp_path):
        program = _fake(tmp_path, 'case "$1" in run) echo broken engine >&2; exit 125;; *) exit 1;; esac')
        with ContainerProcess(program, "name", [*program, "run"]) as process:
            assert process.world is None and process.family() == []
            assert process.listen(10) == (b"", b"broken engine\n")
            assert process.status() == 125

    def test_a_missing_engine_is_a_japanese_error(self):
        with pytest.raises(CourseError, match="起動できません"):
            ContainerProcess(("/nowhere/podman",), "name", ["/nowhere/podman", "run"])


def _fake(folder, script):
    """呼ばれた引数を書き残す、にせの道具。"""
    program = folder / "engine"
    program.write_text(f'#!/bin/sh\nKEPT="{folder}/kept"\necho "$@" >> "{folder}/calls"\n{script}\n')
    program.chmod(0o755)
    return (str(program),)
