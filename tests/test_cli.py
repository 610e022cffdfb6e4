"""`tlkit` コマンド: 日本語の説明、日本語の誤り、決まった終了コード。"""

import os
import re
import signal
import subprocess
import sys
import time
import types

import pytest
from course_samples import code, exercise, make_course, notebook, write

from tlkit.course import cli
from tlkit.course.build.report import BuildReport
from tlkit.course.cli_errors import run_safely
from tlkit.course.errors import CourseError

COMMANDS = ("lab", "check", "update", "reset", "doctor", "build", "release", "grade")
RUN = [sys.executable, "-c", "from tlkit.course.cli import main; main()"]
ENGLISH = re.compile(r"(?i)no such|missing|invalid|should be|unexpected|try '|error")


@pytest.fixture
def course(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    monkeypatch.setenv("TLKIT_COURSE", str(root))
    monkeypatch.setenv("TLKIT_WORK", str(tmp_path / "work"))
    return root


@pytest.fixture
def tlkit(course, monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tlkit", *map(str, words)])
        code = run_safely(cli.app)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def process(*words, **options):
    env = os.environ | {"PYTHONUTF8": "1", "COLUMNS": "200"} | options.pop("env", {})
    return subprocess.run([*RUN, *map(str, words)], capture_output=True, env=env, timeout=120, check=False, **options)


def test_help_lists_every_command_in_japanese(tlkit):
    code, out, _ = tlkit("--help")
    assert code == 0
    assert "転移学習の教材" in out
    assert all(re.search(rf"│ {name} +[^a-z ]", out) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_teaches_by_example(tlkit, command):
    code, out, _ = tlkit(command, "--help")
    assert code == 0
    assert f"tlkit {command}" in out.split("例:")[1]


def test_bare_command_shows_the_help(tlkit):
    code, out, err = tlkit()
    assert (code, err) == (2, "")
    assert "check" in out


def test_help_is_fast_and_imports_nothing_heavy():
    probe = (
        "import sys; from tlkit.course import cli\n"
        "from tlkit.course.cli_errors import run_safely\n"
        "run_safely(cli.app)\n"
        "heavy = {'torch', 'numpy', 'nbformat', 'nbclient', 'jupyter_client', 'IPython'} & set(sys.modules)\n"
        "sys.exit(f'重い部品: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    # ほかの検査と並んで動いても揺れないよう、待ち時間ではなく使った CPU の時間で測る（Windows では 0 になる）
    seconds = []
    for _ in range(5):
        before = os.times()
        process("--help")
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        seconds.append(spent)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chek",), "「chek」というコマンドはありません"),
        (("check", "--foo", "a"), "「--foo」というオプションはありません"),
        (("check",), "引数 file が必要です"),
        (("reset",), "引数 ID が必要です"),
        (("reset", "a", "b"), "余分な引数があります"),
        (("check", "a", "--timeout"), "--timeout には値が必要"),
        (("check", "a", "--timeout", "x"), "--timeout には整数を"),
        (("check", "a", "--timeout", "0"), "--timeout には 1 以上の整数を"),
        (("lab", "--port", "x"), "--port には整数を"),
    ],
)
def test_usage_errors_are_japanese(tlkit, words, told):
    code, out, err = tlkit(*words)
    assert (code, out) == (2, "")
    assert told in err
    assert "--help" in err
    assert not ENGLISH.search(err)


def test_course_error_is_one_text_without_traceback(tlkit, tmp_path):
    code, out, err = tlkit("check", tmp_path / "none.ipynb")
    assert (code, out) == (2, "")
    assert "ファイルがありません" in err
    assert "Traceback" not in err


def test_course_not_found_is_told(tlkit, monkeypatch, tmp_path):
    monkeypatch.setenv("TLKIT_COURSE", str(tmp_path / "nowhere"))
    code, _, err = tlkit("update")
    assert code == 2
    assert "教材のフォルダが見つかりません" in err


def test_unexpected_error_keeps_the_traceback_and_says_what_to_report(tlkit, monkeypatch):
    def explode():
        raise RuntimeError("ここに原因")

    monkeypatch.setattr("tlkit.course.work.update", explode)
    code, _, err = tlkit("update")
    assert code == 1
    assert "Traceback" in err
    assert "RuntimeError: ここに原因" in err
    assert "打ったコマンド" in err


def test_update_and_reset_end_to_end(tlkit, course, tmp_path):
    assert tlkit("update")[0] == 0
    mine = tmp_path / "work/exercises/01_basics.ipynb"
    write(course / "exercises/01_basics.ipynb", exercise(note="二版"))
    code, out, _ = tlkit("update")
    assert code == 0
    assert "新しい版に置き換えました: exercises/01_basics.ipynb" in out
    mine.write_bytes(mine.read_bytes()[:100])
    assert tlkit("reset", "01-1")[0] == 2
    write(course / "exercises/01_basics.ipynb", exercise(note="三版"))
    code, _, err = tlkit("update")
    assert code == 2
    assert "途中で切れています" in err
    code, out, _ = tlkit("reset", "01_basics")
    assert code == 0
    assert "控え" in out
    assert tlkit("reset", "77-7")[0] == 2


def test_check_exit_code_and_timeout_reach_the_function(tlkit, monkeypatch, tmp_path):
    from tlkit.course.checks import notebook as judged

    seen = {}

    def fake(path, *, timeout):
        seen.update(path=path, timeout=timeout)
        return judged.NotebookResult(path, (judged.Row("01-1", "題", "failed", "符号が逆です"),))

    monkeypatch.setattr(judged, "check_notebook", fake)
    code, out, _ = tlkit("check", tmp_path / "a.ipynb", "--timeout", "7")
    assert code == 1
    assert "符号が逆です" in out
    assert seen == {"path": tmp_path / "a.ipynb", "timeout": 7}


def test_build_reports_drift_with_exit_one(tlkit, monkeypatch, tmp_path):
    seen = []

    def fake(paths, **options):
        seen.append((paths, options))
        return BuildReport(problems=["solutions/01_basics.ipynb が古くなっています"] if options["check"] else [])

    monkeypatch.setattr("tlkit.course.build.build", fake, raising=False)
    assert tlkit("build")[0] == 0
    code, _, err = tlkit("build", tmp_path / "a.py", "--check", "--jobs", "3", "--force", "--nbgrader", tmp_path)
    assert code == 1
    assert "古くなっています" in err
    assert seen[0] == (None, {"check": False, "nbgrader": None, "jobs": None, "force": False})
    assert seen[1] == ([tmp_path / "a.py"], {"check": True, "nbgrader": tmp_path, "jobs": 3, "force": True})


def test_doctor_and_lab_pass_their_options(tlkit, monkeypatch):
    launched = []
    lab = types.ModuleType("tlkit.course.lab")
    lab.launch = lambda port, browser: launched.append((port, browser)) or 0
    monkeypatch.setitem(sys.modules, "tlkit.course.lab", lab)
    monkeypatch.setattr("tlkit.course.doctor.run", lambda *, as_json: 1 if as_json else 0)
    assert tlkit("doctor")[0] == 0
    assert tlkit("doctor", "--json")[0] == 1
    assert tlkit("lab")[0] == 0
    assert tlkit("lab", "--port", "8890", "--no-browser")[0] == 0
    assert launched == [(None, True), (8890, False)]


def test_error_inside_a_command_keeps_its_own_message(tlkit, monkeypatch):
    def refuse():
        raise CourseError("一行目\n二行目")

    monkeypatch.setattr("tlkit.course.work.update", refuse)
    assert tlkit("update") == (2, "", "一行目\n二行目\n")


def test_interrupt_that_typer_does_not_catch_is_130_too(capsys):
    def interrupted(**_):
        raise KeyboardInterrupt

    assert run_safely(interrupted) == 130
    assert "中断しました" in capsys.readouterr().err


def test_reader_that_leaves_early_is_no_error(course):
    for words in ((), ("--help",), ("update",)):
        child = subprocess.Popen([*RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.close()
        err = child.stderr.read().decode()
        child.wait(timeout=60)
        assert "Traceback" not in err
        assert "BrokenPipe" not in err


@pytest.mark.parametrize("encoding", ["cp932", "ascii"])
def test_narrow_console_does_not_crash(encoding):
    script = (
        "from pathlib import Path\nfrom tlkit.course import cli\nfrom tlkit.course.checks import notebook as n\n"
        "n.check_notebook = lambda path, *, timeout: n.NotebookResult(path, (n.Row('01-1', '題', 'passed', '合格 ②𠮷'),))\n"
        "cli.main()"
    )
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", script, "check", "a.ipynb"]
    done = subprocess.run(command, capture_output=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(encoding, "replace")
    assert b"01-1" in done.stdout
    assert encoding == "ascii" or "合格" in done.stdout.decode(encoding)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT を子プロセスに送る方法が違う")
def test_ctrl_c_stops_with_130_and_leaves_no_kernel(course, tmp_path):
    psutil = pytest.importorskip("psutil")
    started = tmp_path / "started"
    cell = code(f"open({str(started)!r}, 'w').close()\nimport time; time.sleep(300)", "a")
    path = write(tmp_path / "01_basics.ipynb", notebook(cell, questions=("01-1",)))
    child = subprocess.Popen(
        [*RUN, "check", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUTF8": "1"}
    )
    deadline = time.monotonic() + 90
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    kernels = psutil.Process(child.pid).children(recursive=True)
    assert kernels
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err.decode()
    assert "中断しました" in err.decode()
    assert "Traceback" not in err.decode()
    _, alive = psutil.wait_procs(kernels, timeout=10)
    assert alive == []
