"""tools/offline.py: 切れたことを確かめてから動かす、という約束の検査。"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import offline
import pytest

SCRIPT = Path(offline.__file__)


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """offline.py を別のプロセスで動かす。code があれば、offline を読み込んだ Python としてその文を動かす。"""
    command = [sys.executable, str(SCRIPT), *arguments]
    if code is not None:
        command = [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import offline\n{code}",
        ]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)


needs_namespace = [
    pytest.mark.linux,
    pytest.mark.skipif(run().returncode == offline.EXIT_UNAVAILABLE, reason="[linux] 名前空間を作れない機械です"),
]


class TestCut:
    pytestmark = needs_namespace

    def test_only_loopback_remains(self) -> None:
        done = run("--", "cat", "/proc/net/dev")
        names = [line.split(":")[0].strip() for line in done.stdout.splitlines()[2:]]
        assert done.returncode == 0
        assert "lo" in names
        assert "eth0" not in names

    def test_command_cannot_reach_outside_but_can_reach_itself(self) -> None:
        code = (
            "import socket, errno\n"
            "server = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(server.getsockname(), 5).close()\n"
            "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
            "except OSError as e: print(errno.errorcode[e.errno])"
        )
        assert run("--", sys.executable, "-c", code).stdout.strip() == "ENETUNREACH"

    @pytest.mark.parametrize("code", [0, 1, 7, 77, 130])
    def test_exit_code_passes_through(self, code: int) -> None:
        assert run("--", sys.executable, "-c", f"raise SystemExit({code})").returncode == code

    def test_arguments_pass_through_unchanged(self) -> None:
        done = run("--", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--", "a b", "*", "--help")
        assert done.stdout.strip() == "['--', 'a b', '*', '--help']"

    def test_user_and_files_stay_the_same(self, tmp_path: Path) -> None:
        made = tmp_path / "made"
        code = f"import os; open({str(made)!r}, 'w'); print(os.getuid(), os.getgid())"
        done = run("--", sys.executable, "-c", code)
        assert done.stdout.split() == [str(os.getuid()), str(os.getgid())]
        assert made.stat().st_uid == os.getuid()

    def test_missing_command_is_reported(self) -> None:
        done = run("--", "no-such-command-anywhere")
        assert done.returncode == offline.EXIT_NO_COMMAND
        assert "起動できません" in done.stderr

    def test_ctrl_c_reaches_the_command(self) -> None:
        code = (
            "import time\n"
            "try:\n print('ready', flush=True); time.sleep(30)\n"
            "except KeyboardInterrupt:\n print('interrupted', flush=True); raise SystemExit(42)"
        )
        command = [sys.executable, str(SCRIPT), "--", sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            started = time.monotonic()
            child.send_signal(signal.SIGINT)
            rest, _ = child.communicate(timeout=20)
        assert (rest.strip(), child.returncode) == ("interrupted", 42)
        assert time.monotonic() - started < 10


class TestProof:
    """切れていないときに、必ず気づくこと。"""

    pytestmark = needs_namespace

    def test_skipped_cut_is_noticed_and_command_is_not_run(self) -> None:
        inject = (
            "offline.enter_namespace = lambda: None; offline.raise_loopback = lambda: None\n"
            "offline._interfaces = lambda: ['lo', 'lo2']; offline._flags = lambda name: 1\n"
            "raise SystemExit(offline.main(['--', 'echo', 'ran']))"
        )
        done = run(code=inject)
        assert done.returncode == offline.EXIT_NOT_CUT
        assert "ran" not in done.stdout
        assert "lo2" in done.stderr

    def test_route_to_outside_is_noticed(self) -> None:
        # 名前空間の中で lo に文書用の番地を持たせると、外の宛先への経路ができる。口の一覧だけでは見抜けない。
        inject = (
            "import fcntl, socket, struct\n"
            "offline.enter_namespace(); offline.raise_loopback(); offline.prove(); print('first proof holds')\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "address = struct.pack('HH4s8s', socket.AF_INET, 0, socket.inet_aton('192.0.2.7'), b'')\n"
            "fcntl.ioctl(s.fileno(), 0x8916, struct.pack('16s16s', b'lo:1', address))\n"
            "offline.prove()"
        )
        done = run(code=inject)
        assert "first proof holds" in done.stdout
        assert "外の宛先 192.0.2.1 への経路があります" in done.stderr

    def test_dead_loopback_is_noticed(self) -> None:
        done = run(code="offline.raise_loopback = lambda: None\nraise SystemExit(offline.main([]))")
        assert done.returncode == offline.EXIT_NOT_CUT
        assert "ループバック" in done.stderr


class TestUnavailable:
    @pytest.mark.parametrize("platform", ["darwin", "win32"])
    def test_other_systems_say_so_in_japanese(
        self, platform: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        assert offline.main(["--", "never-run"]) == offline.EXIT_UNAVAILABLE
        assert f"{platform} にはネットワーク名前空間がありません" in capsys.readouterr().err

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="[linux] Linux の拒まれ方の検査です")
    def test_refused_namespace_names_the_fix(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Refusing:
            def unshare(self, _flags: int) -> int:
                return -1

        monkeypatch.setattr(offline.ctypes, "CDLL", lambda *_a, **_k: Refusing())
        assert offline.main(["--", "never-run"]) == offline.EXIT_UNAVAILABLE
        assert "AppArmor" in capsys.readouterr().err
