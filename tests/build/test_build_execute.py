"""カーネルでの実行。環境が決まっていること、失敗が場所つきの日本語になること。"""

import json
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from build_course import code, draft, prose, stdout

from tlkit.course.build import execute
from tlkit.course.build.execute import Runner, StoppedError
from tlkit.course.errors import CourseError

ENVIRONMENT = '''
import os, sys, time, json
from pathlib import Path

names = """OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS PYTHONHASHSEED TZ LANG LC_ALL
MPLBACKEND CUDA_VISIBLE_DEVICES TLKIT_CHECK TLKIT_CHECK_LOG FORCE_STRAY PYTHONWARNINGS""".split()
print(json.dumps({name: os.environ.get(name) for name in names}))
# %%
print(Path(os.environ["TLKIT_WORK"]).exists(), sys.flags.hash_randomization, time.tzname[0], len(os.listdir()))
# %%
print("before")
display("figure")
print("after")
'''


def test_kernel_environment_is_fixed_and_private(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """利用者の登録したカーネル、起動時のスクリプト、環境変数が、どれも効かないこと。"""
    stray = tmp_path / "jupyter" / "kernels" / "python3"
    startup = tmp_path / "home" / ".ipython" / "profile_default" / "startup"
    for folder in (stray, startup):
        folder.mkdir(parents=True)
    spec = {"argv": ["false", "{connection_file}"], "display_name": "bad", "language": "python"}
    (stray / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    (startup / "0.py").write_text("import os\nos.environ['FORCE_STRAY'] = 'startup'", encoding="utf-8")
    for name, value in {
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "7",
        "TZ": "UTC",
        "TLKIT_CHECK": "strict",
        "TLKIT_CHECK_LOG": str(tmp_path / "log"),
        "FORCE_STRAY": "1",
        "PYTHONWARNINGS": "error",
        "TLKIT_WORK": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    notebook = Runner().run(draft(tmp_path, code(ENVIRONMENT), "chapter"))
    first, second, third = stdout(notebook).values()
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    fixed = {"PYTHONHASHSEED": "0", "TZ": "Asia/Tokyo", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "MPLBACKEND": "Agg"}
    unset = dict.fromkeys(("TLKIT_CHECK", "TLKIT_CHECK_LOG", "FORCE_STRAY", "PYTHONWARNINGS"))
    assert json.loads(first) == threads | fixed | {"CUDA_VISIBLE_DEVICES": ""} | unset
    assert second == "False 0 JST 0\n"
    assert third == "before\nafter\n"
    kinds = [output.output_type for output in notebook.cells[2].outputs]
    assert kinds == ["stream", "display_data", "stream"]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert all(cell.metadata == {} for cell in notebook.cells)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "raise ValueError('悪い値です')",
            r"(?s)chapters/01_basics\.py:6（.*例外で止まりました.*ValueError: 悪い値です",
        ),
        ("import sys\nprint('注意', file=sys.stderr)", "標準エラー.*注意"),
        ("import warnings\nwarnings.warn('古い')", "標準エラー"),
        ("import os, time\nos.system('echo 子の声 >&2')\ntime.sleep(1)  # 子の出力が届くのを待つ", "標準エラー"),
        ("print(object())", "番地"),
        ("import os\nprint(os.getcwd())", "フォルダの名前"),
        ("import os\nos._exit(3)", "カーネルが途中で終わりました"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("input()", "StdinNotImplementedError"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="シェルの書き方が違う")
def test_bad_cells_are_explained(course: Path, tmp_path: Path, source: str, message: str) -> None:
    made = draft(tmp_path, prose("# 題") + code("x = 1") + code(source), "chapter")
    with pytest.raises(CourseError, match=message) as caught:
        Runner().run(made)
    assert "\x1b" not in str(caught.value)
    assert made.notebook.cells[-1].id in str(caught.value)
    assert not made.target.output.exists()


def test_slow_cell_times_out(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "CELL_TIMEOUT", 1)
    with pytest.raises(CourseError, match=r"01_basics\.py:2.*1 秒で終わりません"):
        Runner().run(draft(tmp_path, code("import time\ntime.sleep(60)"), "chapter"))
    assert _kernels() == []


def test_stop_kills_the_kernel_and_refuses_new_runs(course: Path, tmp_path: Path) -> None:
    runner = Runner()
    made = draft(tmp_path, code("import time\ntime.sleep(60)"), "chapter")
    caught: list[BaseException] = []

    def run() -> None:
        try:
            runner.run(made)
        except StoppedError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 30
    while not _kernels() and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.stop()
    thread.join(timeout=30)
    assert len(caught) == 1
    assert _kernels() == []
    with pytest.raises(StoppedError):
        runner.run(made)


def _kernels() -> list[psutil.Process]:
    """このプロセスの子のうち、生きているカーネル。"""
    return [child for child in psutil.Process().children(recursive=True) if _is_kernel(child)]


def _is_kernel(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "ipykernel" in str(process.cmdline())
    except psutil.Error:  # 調べている間に終わった
        return False
