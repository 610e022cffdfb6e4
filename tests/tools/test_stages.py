"""tools/stages.py と tools/pipeline: 省いたものを隠さず、失敗を必ず失敗として伝えること。"""

import io
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import stages
from nbformat.v4 import new_code_cell, new_notebook, new_output
from pipeline import commands, junit, notebooks, report, suites
from pipeline.outcome import LeftOut, Outcome, Run
from rich.console import Console

ROOT = Path(stages.__file__).resolve().parents[1]
WRAPPER = [sys.executable, str(ROOT / "tools" / "offline.py"), "--"]


def faults(*outcomes: Outcome, ci: bool, preparation: float = 0.0) -> list[str]:
    return Run(list(outcomes), ci=ci, preparation=preparation).faults()


class TestVerdict:
    def test_failed_stage_fails_the_run(self) -> None:
        assert faults(Outcome("a", ok=True), Outcome("b", ok=False), ci=False) == ["段階 b が失敗しました"]

    def test_left_out_is_allowed_locally_but_not_in_ci(self) -> None:
        outcome = Outcome("browser", ok=True, left_out=[LeftOut("検査 2 件", "[browser] Chromium がありません")])
        assert faults(outcome, ci=False) == []
        assert "Chromium" in faults(outcome, ci=True)[0]

    def test_only_cuda_may_be_left_out_in_ci(self) -> None:
        assert faults(Outcome("t", ok=True, left_out=[LeftOut("検査 1 件", "cuda: 無い")]), ci=True) == []
        assert faults(Outcome("t", ok=True, left_out=[LeftOut("検査 1 件", "cuda っぽい理由")]), ci=True)

    def test_more_than_45_minutes_fails_in_ci_and_counts_preparation(self) -> None:
        outcome = Outcome("t", ok=True, seconds=44 * 60)
        assert faults(outcome, ci=True) == []
        assert "上限は 45 分" in faults(outcome, ci=True, preparation=61)[0]
        assert faults(outcome, ci=False, preparation=61) == []

    def test_the_reason_given_by_conftest_is_the_one_that_is_allowed(self, tmp_path: Path) -> None:
        # conftest.py の書き出しが変わったら、ここで気づく。
        (tmp_path / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
        code = "import pytest\n@pytest.mark.cuda\ndef test_a(): pass\n@pytest.mark.realdata\ndef test_b(): pass\n"
        (tmp_path / "test_a.py").write_text(f"import sys\nsys.modules['torch'] = __import__('fake_torch')\n{code}")
        fake = "class cuda:\n    @staticmethod\n    def is_available(): return False\n"
        (tmp_path / "fake_torch.py").write_text(fake, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "--junitxml=r.xml", "-p", "no:cacheprovider", "test_a.py"]
        quiet = {k: v for k, v in commands.environment().items() if k != "TLKIT_TEST_DATA"}
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, env=quiet)
        counts = junit.read(tmp_path / "r.xml")
        assert counts is not None
        assert sorted(item.allowed_in_ci for item in counts.left_out) == [False, True]


class TestReport:
    def shown(self, run: Run) -> str:
        console = Console(file=io.StringIO(), width=120)
        report.show(run, console)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def test_last_line_is_the_sum_alone(self) -> None:
        run = Run([Outcome("a", ok=True, passed=3, skipped=1), Outcome("b", ok=False, passed=4, failed=2)], ci=False)
        assert self.shown(run).splitlines()[-1] == "7 passed, 2 failed, 1 skipped"

    def test_last_line_without_skips(self) -> None:
        assert self.shown(Run([Outcome("a", ok=True, passed=3)], ci=True)).splitlines()[-1] == "3 passed, 0 failed"

    def test_reasons_are_shown_in_the_table(self) -> None:
        left = LeftOut("検査 2 件", "[bold] Chromium がありません")
        assert "[bold] Chromium がありません" in self.shown(Run([Outcome("b", ok=True, left_out=[left])], ci=False))

    def test_notes_and_faults_are_shown_literally(self) -> None:
        shown = self.shown(Run([Outcome("b", ok=False, notes=["[bold]x[/bold]: 1"])], ci=True))
        assert "[bold]x[/bold]: 1" in shown
        assert "❌ 段階 b が失敗しました" in shown


class TestJunit:
    def test_counts_and_reasons(self, tmp_path: Path) -> None:
        (tmp_path / "test_a.py").write_text(
            "import pytest\n"
            "def test_ok(): pass\n"
            "def test_bad(): assert False\n"
            "@pytest.mark.skip(reason='cuda: no')\ndef test_c(): pass\n"
            "@pytest.mark.xfail(reason='later')\ndef test_x(): assert False\n"
            "@pytest.fixture\ndef broken(): raise RuntimeError\n"
            "def test_e(broken): pass\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "pytest", "-q", "--junitxml=r.xml", "-p", "no:cacheprovider", "test_a.py"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        counts = junit.read(tmp_path / "r.xml")
        assert counts is not None
        assert (counts.passed, counts.failed, counts.skipped) == (1, 2, 2)
        assert [x.why for x in counts.left_out] == ["cuda: no", "期待した失敗: later"]
        assert [x.allowed_in_ci for x in counts.left_out] == [True, False]

    @pytest.mark.parametrize("text", [None, "", "<testsuites>"])
    def test_missing_or_broken_file_is_noticed(self, tmp_path: Path, text: str | None) -> None:
        if text is not None:
            (tmp_path / "r.xml").write_text(text, encoding="utf-8")
        assert junit.read(tmp_path / "r.xml") is None


class TestCommands:
    def run(self, code: str, limit: float = 30) -> commands.Done:
        return commands.run([sys.executable, "-c", code], cwd=ROOT, limit=limit)

    def test_exit_code(self) -> None:
        assert self.run("raise SystemExit(3)").code == 3

    def test_missing_command(self) -> None:
        assert commands.run(["no-such-command-anywhere"], cwd=ROOT, limit=5).code == 127

    def test_timeout_stops_grandchildren(self, tmp_path: Path) -> None:
        beat = tmp_path / "beat"
        child = f"import time, pathlib\nwhile True: pathlib.Path({str(beat)!r}).write_text(str(time.time())); time.sleep(.05)"
        code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
        assert self.run(code, limit=2).code == commands.EXIT_TIMEOUT
        before = beat.read_text(encoding="utf-8")
        time.sleep(0.5)
        assert beat.read_text(encoding="utf-8") == before

    def test_one_thread(self) -> None:
        assert self.run("import os; raise SystemExit(int(os.environ['OMP_NUM_THREADS']))").code == 1


class TestSuites:
    def context(self, root: Path) -> suites.Context:
        return suites.Context(root, fast=False)

    def test_crashed_pytest_counts_as_failure(self, tmp_path: Path) -> None:
        (tmp_path / "test_a.py").write_text("import os\ndef test_a(): os._exit(0)\n", encoding="utf-8")
        outcome = suites.run_pytest("tests", self.context(tmp_path), ["test_a.py"])
        assert (outcome.ok, outcome.failed) == (False, 1)
        assert "結果を残さずに" in outcome.notes[0]

    def test_no_tests_is_a_failure(self, tmp_path: Path) -> None:
        outcome = suites.run_pytest("browser", self.context(tmp_path), ["."])
        assert not outcome.ok
        assert "1 つもありません" in outcome.notes[0]

    def test_missing_tool_of_the_project_is_named(self, tmp_path: Path) -> None:
        assert suites.lock(self.context(tmp_path)).notes == ["tools/lock.py がありません"]
        assert not suites.lock(self.context(tmp_path)).ok

    @pytest.mark.parametrize(("code", "ok", "left_out"), [(0, True, 0), (1, False, 0), (77, True, 1)])
    def test_exit_77_means_left_out(self, tmp_path: Path, code: int, ok: bool, left_out: int) -> None:
        (tmp_path / "tools").mkdir()
        (tmp_path / "tools" / "lock.py").write_text(f"raise SystemExit({code})", encoding="utf-8")
        outcome = suites.lock(self.context(tmp_path))
        assert (outcome.ok, len(outcome.left_out)) == (ok, left_out)

    def test_every_step_runs_after_a_failure(self, tmp_path: Path) -> None:
        outcome = suites.lint(self.context(tmp_path))  # pyproject がないので mypy が失敗する
        assert not outcome.ok
        assert any("mypy" in note for note in outcome.notes)
        assert not any("ruff" in note for note in outcome.notes)


def notebook(path: Path, *cells: tuple[str, str | None]) -> Path:
    """（コード, 保存された出力）のセルを持つノートブック。出力があれば、比べる印を付ける。"""
    made = new_notebook(metadata={"kernelspec": {"name": "nowhere", "display_name": "無い", "language": "python"}})
    for code, text in cells:
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        tags = {"tags": ["nbval-check-output"]} if text else {}
        made.cells.append(new_code_cell(code, outputs=outputs, metadata=tags, execution_count=1))
    nbformat.write(made, path)
    return path


def measure(path: Path, caches: Path, wrapper: list[str] | None = None) -> notebooks.Measured:
    return notebooks.measure(path, path.parent, WRAPPER if wrapper is None else wrapper, caches)


@pytest.fixture(scope="module")
def namespace_or_skip() -> None:
    if subprocess.run(WRAPPER[:2], capture_output=True, check=False).returncode == 77:
        pytest.skip("[遮断] 名前空間を作れない機械です")


class TestNotebooks:
    pytestmark = [pytest.mark.linux, pytest.mark.usefixtures("namespace_or_skip")]  # noqa: RUF012

    def test_runs_in_the_kernel_of_this_environment(self, tmp_path: Path) -> None:
        cell = "import sys; print(sys.executable, end='')"
        result = measure(notebook(tmp_path / "a.ipynb", (cell, sys.executable)), tmp_path / "caches")
        assert result.faults() == []
        assert result.counts is not None
        assert result.counts.passed == 1

    def test_outside_is_cut_loopback_is_not_and_caches_are_empty(self, tmp_path: Path) -> None:
        code = (
            "import errno, os, socket\n"
            "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
            "except OSError as e: assert e.errno == errno.ENETUNREACH\n"
            "else: raise AssertionError('reached')\n"
            "assert not os.path.exists(os.environ['TLKIT_DATA'])"
        )
        assert measure(notebook(tmp_path / "a.ipynb", (code, None)), tmp_path / "caches").faults() == []

    def test_changed_output_of_a_tagged_cell_fails(self, tmp_path: Path) -> None:
        result = measure(notebook(tmp_path / "a.ipynb", ("print('✅')", "⏳")), tmp_path / "caches")
        outcome = notebooks.summarise([result])
        assert (outcome.ok, outcome.failed) == (False, 1)
        assert "Cell outputs differ" in result.output

    def test_peak_memory_includes_the_kernel(self, tmp_path: Path) -> None:
        code = "import time; block = bytearray(400 * 1024**2); time.sleep(1)"
        result = measure(notebook(tmp_path / "a.ipynb", (code, None)), tmp_path / "caches")
        assert 400 * 1024**2 < result.peak < 1200 * 1024**2

    def test_limits_are_enforced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notebooks, "SECONDS_LIMIT", 4.0)
        monkeypatch.setattr(notebooks, "MEMORY_LIMIT", 1024**2)
        started = time.monotonic()
        result = measure(notebook(tmp_path / "a.ipynb", ("import time; time.sleep(60)", None)), tmp_path / "caches")
        assert time.monotonic() - started < 20
        assert len(result.faults()) == 3  # 終了コード・時間・記憶
        assert notebooks.summarise([result]).failed == 1

    def test_whole_notebook_has_a_limit_not_only_each_cell(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notebooks, "SECONDS_LIMIT", 5.0)
        cells = [("import time; time.sleep(3)", None)] * 12
        started = time.monotonic()
        result = measure(notebook(tmp_path / "a.ipynb", *cells), tmp_path / "caches")
        assert time.monotonic() - started < 20
        assert "上限 5 秒" in " ".join(result.faults())

    def test_no_notebook_is_a_failure(self, tmp_path: Path) -> None:
        assert not notebooks.notebooks(suites.Context(tmp_path, fast=False)).ok


class TestCommandLine:
    @pytest.fixture
    def fake(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Outcome]:
        """中身のない段階に差し替える。"""
        outcomes = {name: Outcome(name, ok=True, seconds=1, passed=1) for name in stages._STAGES}
        monkeypatch.setattr(stages, "_STAGES", {name: (lambda _c, n=name: outcomes[n]) for name in outcomes})
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.delenv("TLKIT_STARTED_AT", raising=False)
        return outcomes

    def test_all_stages_run_in_order_even_after_a_failure(
        self, fake: dict[str, Outcome], capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake["lint"].ok = False
        assert stages.main([]) == 1
        shown = capsys.readouterr().out
        order = ["lint", "lock", "tests", "browser", "build-check", "notebooks", "prose"]
        assert re.findall(r"^==== ([\w-]+)", shown, re.M) == order
        assert shown.splitlines()[-1] == "7 passed, 0 failed"

    @pytest.mark.usefixtures("fake")
    def test_green_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert stages.main([]) == 0
        monkeypatch.setenv("CI", "true")
        assert stages.main([]) == 0

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("arguments", [["--fast"], ["--only", "lint", "prose"]])
    def test_unchosen_stages_are_listed_and_refused_in_ci(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert stages.main(arguments) == 0
        assert "段階 notebooks" in capsys.readouterr().out
        monkeypatch.setenv("CI", "true")
        assert stages.main(arguments) == 1

    def test_ctrl_c_still_shows_the_table(
        self, fake: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(_context: suites.Context) -> Outcome:
            raise KeyboardInterrupt

        monkeypatch.setitem(stages._STAGES, "tests", interrupted)
        assert len(fake) == 7
        assert stages.main([]) == 130
        shown = capsys.readouterr().out
        assert "Ctrl-C で止めました" in shown
        assert shown.splitlines()[-1] == "2 passed, 0 failed"

    @pytest.mark.usefixtures("fake")
    def test_preparation_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")
        monkeypatch.setenv("TLKIT_STARTED_AT", str(time.time() - 46 * 60))
        assert stages.main([]) == 1

    @pytest.mark.usefixtures("fake")
    def test_unusable_environment_is_said_at_once(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(stages, "_NEEDED", ("pytest", "no_such_module_anywhere"))
        assert stages.main([]) == 2
        assert "no_such_module_anywhere" in capsys.readouterr().err
