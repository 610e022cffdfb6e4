"""`tlkit lab` の検査。画面の無い機械で本物の JupyterLab を起動し、REST と WebSocket で確かめる。"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from lab_session import LabSession, environment, make_course, running_lab, taken_port

from tlkit.course import lab
from tlkit.course.errors import CourseError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="プロセスグループのシグナルを使う検査")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSession]:
    folder = tmp_path_factory.mktemp("lab")
    course = make_course(folder)
    with taken_port() as port, running_lab(course, folder / "home", port) as started:
        started.lines.append(f"asked {port}")
        yield started


def test_serves_lab_with_token_only(session: LabSession) -> None:
    assert "JupyterLab" in session.get("lab")
    with pytest.raises(urllib.error.HTTPError) as refused:
        session.get("api/contents", token="wrong")
    assert refused.value.code == 403


def test_moves_off_a_taken_port_and_says_so(session: LabSession) -> None:
    asked = next(int(line.split()[1]) for line in session.lines if line.startswith("asked"))
    assert session.port != asked
    assert any(f"ポート {asked} は使われている" in line for line in session.lines)


def test_reader_sees_only_japanese_lines(session: LabSession) -> None:
    until = next(number for number, line in enumerate(session.lines) if line.startswith("  http"))
    shown = session.lines[:until]  # この後には、わざと断られる問い合わせの警告が続く
    assert shown
    assert all(any(ord(letter) > 0x3000 for letter in line) for line in shown), shown


def test_japanese_is_the_effective_default(session: LabSession) -> None:
    setting = session.json("lab/api/settings/@jupyterlab/translation-extension:plugin")
    locale = setting["schema"]["properties"]["locale"]["default"]
    assert setting["settings"] == {}
    pack = session.json(f"lab/api/translations/{locale}")  # 名前の書き方（ja_JP）が違うと、空が返り英語になる
    assert pack["message"] == ""
    assert pack["data"]["jupyterlab"]["CSV File"] == ["CSVファイル"]


def test_no_news_no_update_check_no_extension_shop(session: LabSession) -> None:
    setting = session.json("lab/api/settings/@jupyterlab/apputils-extension:notification")
    defaults = {name: value["default"] for name, value in setting["schema"]["properties"].items()}
    assert defaults["fetchNews"] == "false"
    assert defaults["checkForUpdates"] is False
    page = session.get("lab")
    assert '"news": {"disabled": true}' in page
    shop = session.json("lab/api/settings/@jupyterlab/extensionmanager-extension:plugin")
    assert shop["schema"]["properties"]["enabled"]["default"] is False


def test_jupytext_never_serves_the_reader(session: LabSession) -> None:
    (session.work / "plain.py").write_text("# %%\n1 + 1\n", encoding="utf-8")
    with pytest.raises(urllib.error.HTTPError) as refused:  # jupytext が働いていれば、.py がノートブックとして開ける
        session.get("api/contents/plain.py?type=notebook")
    assert refused.value.code == 400
    assert "jupyterlab-jupytext" in session.get("lab").split("disabledExtensions")[1][:200]


def test_python3_kernel_is_this_interpreter(session: LabSession) -> None:
    specs = session.json("api/kernelspecs")
    assert specs["default"] == "python3"
    before = len(session.lines)
    assert run_in_kernel(session, "import sys; print(sys.executable, end='')") == sys.executable
    assert session.lines[before:] == []  # カーネルを始めても、英語の警告が端末を埋めない


def run_in_kernel(session: LabSession, code: str) -> str:
    address = session.base + "api/kernels"
    request = urllib.request.Request(address, b'{"name": "python3"}', {"Authorization": f"token {session.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        kernel = json.loads(answer.read())["id"]
    address = f"ws://127.0.0.1:{session.port}/api/kernels/{kernel}/channels?token={session.token}"
    socket = websocket.create_connection(address, timeout=60)
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": "s",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    message = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
    socket.send(json.dumps(message))
    while True:
        received = json.loads(socket.recv())
        if received["msg_type"] == "stream":
            socket.close()
            return str(received["content"]["text"])


def test_ctrl_c_ends_cleanly_with_a_goodbye(tmp_path: Path) -> None:
    with running_lab(make_course(tmp_path), tmp_path / "home") as started:
        assert started.interrupt() == 0
        deadline = time.monotonic() + 5
        while not any("おつかれさま" in line for line in started.lines) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert any("おつかれさま" in line for line in started.lines)
        assert not any("Traceback" in line or "Shut down" in line for line in started.lines)
        with pytest.raises(urllib.error.URLError):
            started.get("lab")


def test_missing_jupyterlab_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None if name == "jupyterlab" else object())
    with pytest.raises(CourseError, match=r"jupyterlab が、.*入っていません(?s:.*)make lab"):
        lab.launch(None, browser=False)


def test_unwritable_work_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("これはファイル", encoding="utf-8")
    with pytest.raises(CourseError, match=r"書き込めません(?s:.*)TLKIT_WORK"):
        lab._require_writable(tmp_path / "work")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full は Linux だけにある")
def test_full_disk_is_found_before_lab_opens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lab.tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(CourseError, match="No space left"):
        lab._require_writable(tmp_path)


@pytest.mark.parametrize(("uid", "expected"), [(0, True), (1000, False)])
def test_allow_root_only_for_root(monkeypatch: pytest.MonkeyPatch, uid: int, expected: bool) -> None:
    monkeypatch.setattr(lab.os, "geteuid", lambda: uid)
    assert ("--allow-root" in lab._command(Path("work"), None, False)) is expected


def test_opens_the_first_notebook_when_it_exists(tmp_path: Path) -> None:
    assert "--LabApp.default_url=/lab" in lab._command(tmp_path, 9999, False)
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "00_start.ipynb").touch()
    command = lab._command(tmp_path, 9999, True)
    assert "--LabApp.default_url=/lab/tree/chapters/00_start.ipynb" in command
    assert "--ServerApp.port=9999" in command
    assert "--ServerApp.open_browser=True" in command


def test_reader_settings_come_after_the_course(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLKIT_COURSE", str(make_course(tmp_path)))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    made = lab._environment("secret")
    assert made["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [str(tmp_path / "course" / ".jupyter"), "/mine"]
    assert made["JUPYTER_TOKEN"] == "secret"


@pytest.mark.skipif(sys.platform != "linux", reason="画面の有無を環境変数で知るのは Linux だけ")
def test_no_display_means_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lab.webbrowser, "get", lambda: object())
    assert not lab._has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert lab._has_browser()


def test_server_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    course = make_course(tmp_path)
    for name, value in environment(course, tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lab, "_command", lambda *_: [sys.executable, "-c", "raise SystemExit(7)"])
    monkeypatch.setattr(lab.signal, "signal", lambda *_: None)
    with pytest.raises(CourseError, match="終了コード 7"):
        lab.launch(None, browser=False)
