"""build の全体。作る、飛ばす、ずれを見つける、止める。"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from build_course import USE, code, exercise, load, make_course, prose, stdout

from tlkit.course.build import build
from tlkit.course.build import run as run_module
from tlkit.course.build.notebook import to_text
from tlkit.course.build.targets import select_targets
from tlkit.course.errors import CourseError

FIGURE = """
if ready("01-1"):
    import io
    import matplotlib.pyplot as plt
    from IPython.display import Image, display

    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64)
    x = torch.randn(256, 64)
    print(layer(x).tanh().sum().item(), hash("種"), sorted({"あ", "い", "う"}))
    fig, ax = plt.subplots()
    ax.plot(layer(x).detach()[:, 0])
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    display(Image(buffer.getvalue()))
"""
CHAPTER = prose("# はじめに") + code("x = 1 + 1\nprint(x)") + code("print(x * 2)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """一度だけ作った、torch と図を使う教材（写して使う）。"""
    root = make_course(tmp_path_factory.mktemp("built") / "course", exercise(code(USE), code(FIGURE)), CHAPTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_COURSE", str(root))
        patch.delenv("TLKIT_CHECK", raising=False)
        report = build([root / "solutions"], jobs=2)
        report.built += build([root / "chapters"]).built
    assert len(report.built) == 3
    return root


@pytest.fixture
def finished(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """作り終えた教材の写し。"""
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(built, root)
    monkeypatch.setenv("TLKIT_COURSE", str(root))
    monkeypatch.delenv("TLKIT_WORK", raising=False)
    return root.resolve()


def snapshot(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_outputs_of_both_kinds(built: Path) -> None:
    solution, stub = (stdout(load(built / folder / "01_basics.ipynb")) for folder in ("solutions", "exercises"))
    assert solution["ex-01-1-check"] == "✅ 01-1 合格\n"
    assert stub["ex-01-1-check"] == "⏳ 01-1 未着手\n"
    assert [text for key, text in stub.items() if key.startswith("c-")][1:] == ["⏭ 01-1 が未完成です\n"] * 2


def test_two_builds_are_byte_identical(finished: Path) -> None:
    before = snapshot(finished)
    report = build([], force=True, jobs=2)
    assert len(report.built) == 3
    assert snapshot(finished) == before
    assert any("image/png" in str(cell.outputs) for cell in load(finished / "solutions/01_basics.ipynb").cells[5:])


def test_unchanged_notebooks_are_skipped_and_check_is_clean(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_module, "Runner", _no_runner)
    report = build(None)
    assert (len(report.built), len(report.skipped)) == (0, 3)
    assert capsys.readouterr().out.count("変更なし") == 3
    checked = build(None, check=True)
    assert checked.problems == []
    assert checked.exit_code == 0


def test_only_the_changed_notebook_is_rebuilt(finished: Path) -> None:
    before = snapshot(finished)
    source = finished / "chapters" / "00_start.py"
    source.write_text(CHAPTER + code("print('増えた')"), encoding="utf-8")
    report = build(None)
    assert [path.name for path in report.built] == ["00_start.ipynb"]
    after = snapshot(finished)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"chapters/00_start.py", "chapters/00_start.ipynb"}


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """exercises のノートブックを、build の書式のまま書き換える操作。"""

    def apply(root: Path) -> None:
        path = root / "exercises" / "01_basics.ipynb"
        notebook = load(path)
        change(notebook)
        path.write_text(to_text(notebook), encoding="utf-8")

    return apply


def cell_of(notebook: Any, cell_id: str) -> Any:
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def source_edit(old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / "solutions" / "01_basics.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return apply


def set_output(notebook: Any) -> None:
    cell_of(notebook, "ex-01-1-check").outputs[0].text = "✅ 01-1 合格\n"


def rename_path(old: str, new: str | None) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        if new is None:
            (root / old).unlink()
        else:
            (root / new).write_bytes((root / old).read_bytes())

    return apply


DRIFTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "source cell": (source_edit("import torch\n", "import torch  # 変更\n"), "中身|並び"),
    "source prose": (source_edit("# # 演習", "# # 練習"), "並び"),
    "source only in the region": (source_edit("- 2 * gram(x, y)", "- 2.0 * gram(x, y)"), "solutions/01_basics.ipynb"),
    "cell edited by hand": (edit(lambda n: n.cells[0].update(source="import os")), "中身"),
    "cell removed": (edit(lambda n: n.cells.pop(0)), "並び"),
    "cell order": (edit(lambda n: n.cells.insert(0, n.cells.pop(1))), "並び"),
    "tag added": (edit(lambda n: n.cells[0].metadata.update(tags=["x"])), "タグ"),
    "metadata": (edit(lambda n: n.metadata.update(author="x")), "メタデータ"),
    "fingerprint": (edit(lambda n: n.metadata.tlkit.fingerprint.update(modules="0")), "出力が古く.*モジュール"),
    "lock": (lambda root: (root / "requirements.lock").write_text("a==1"), r"requirements\.lock"),
    "no fingerprint": (edit(lambda n: n.metadata.tlkit.pop("fingerprint")), "出力が古く"),
    "output edited": (edit(set_output), "手で書き換えた"),
    "unexecuted": (edit(lambda n: n.cells[0].update(execution_count=None)), "実行していない"),
    "counts": (edit(lambda n: n.cells[0].update(execution_count=9)), "順に並んで"),
    "skip comment": (edit(lambda n: n.cells[0].update(source="# NBVAL_SKIP\nx = 1")), "検査を飛ばす印 `NBVAL_SKIP`"),
    "skip tag": (edit(lambda n: n.cells[0].metadata.update(tags=["nbval-skip"])), "検査を飛ばす印 `nbval-skip`"),
    "raises tag": (edit(lambda n: n.cells[0].metadata.update(tags=["raises-exception"])), "`raises-exception`"),
    "check output lost": (edit(lambda n: cell_of(n, "ex-01-1-check").update(outputs=[])), "⏳ 01-1"),
    "missing": (rename_path("exercises/01_basics.ipynb", None), "ノートブックがありません"),
    "orphan": (
        rename_path("exercises/01_basics.ipynb", "exercises/02_gone.ipynb"),
        r"元ファイル solutions/02_gone\.py がありません",
    ),
    "truncated": (lambda root: (root / "exercises/01_basics.ipynb").write_text('{"cells": ['), "読めません"),
    "empty": (lambda root: (root / "exercises/01_basics.ipynb").write_text(""), "読めません"),
    "format": (
        lambda root: (root / "exercises/01_basics.ipynb").write_text(
            json.dumps(json.loads((root / "exercises/01_basics.ipynb").read_text("utf-8"))), encoding="utf-8"
        ),
        "書式",
    ),
    "source error": (source_edit("### END SOLUTION", "# 消した"), r"閉じていません"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_check_finds_every_drift(finished: Path, name: str) -> None:
    change, message = DRIFTS[name]
    change(finished)
    before = snapshot(finished)
    report = build(None, check=True)
    assert report.exit_code == 1
    text = "\n".join(report.problems)
    import re

    assert re.search(message, text), text
    assert name == "source error" or "直し方" in text
    assert snapshot(finished) == before


def test_stale_notebook_is_rebuilt_to_the_same_bytes(finished: Path) -> None:
    before = snapshot(finished)
    DRIFTS["fingerprint"][0](finished)
    assert [path.parent.name for path in build(None).built] == ["exercises"]
    assert snapshot(finished) == before


def test_paths_choose_their_notebooks(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(*paths: str) -> list[str]:
        return [target.output_name for target in select_targets([Path(path) for path in paths])]

    both = ["solutions/01_basics.ipynb", "exercises/01_basics.ipynb"]
    assert chosen() == ["chapters/00_start.ipynb", *both]
    assert chosen("solutions/01_basics.py") == both
    assert chosen("exercises/01_basics.ipynb") == both[1:]
    assert chosen("exercises") == both[1:]
    assert chosen(str(finished / "chapters")) == ["chapters/00_start.ipynb"]
    monkeypatch.chdir(finished / "solutions")
    assert chosen("01_basics.py") == both
    with pytest.raises(CourseError, match="作れるノートブックがありません"):
        chosen("README.md")
    work = finished / "work" / "chapters"
    work.mkdir(parents=True)
    (work / "00_start.ipynb").write_text("学習者のもの", encoding="utf-8")
    with pytest.raises(CourseError, match="学習者のファイルに触れません"):
        chosen(str(work / "00_start.ipynb"))


def test_build_never_touches_work(finished: Path) -> None:
    note = finished / "work" / "exercises" / "01_basics.ipynb"
    note.parent.mkdir(parents=True)
    note.write_text("学習者のもの", encoding="utf-8")
    (finished / "chapters" / "00_start.py").write_text(code("print(3)"), encoding="utf-8")
    before = {name: data for name, data in snapshot(finished).items() if name.startswith("work/")}
    assert build(None).built
    assert {name: data for name, data in snapshot(finished).items() if name.startswith("work/")} == before


def test_failed_cell_keeps_the_old_notebook_and_the_others_are_built(finished: Path) -> None:
    old = (finished / "chapters/00_start.ipynb").read_bytes()
    (finished / "chapters/00_start.py").write_text(code("1 / 0"), encoding="utf-8")
    (finished / "chapters/01_other.py").write_text(code("print('別')"), encoding="utf-8")
    with pytest.raises(CourseError, match=r"chapters/00_start\.py:2.*(.|\n)*ZeroDivisionError"):
        build([Path("chapters")], jobs=1)
    assert (finished / "chapters/00_start.ipynb").read_bytes() == old
    assert stdout(load(finished / "chapters/01_other.ipynb")).popitem()[1] == "別\n"


def test_wrong_solution_is_never_written(course: Path) -> None:
    make_course(course, exercise().replace("- 2 * gram(x, y)", "+ 2 * gram(x, y)"))
    with pytest.raises(CourseError, match="ex-01-1-check"):
        build([Path("solutions/01_basics.ipynb")])
    assert not (course / "solutions/01_basics.ipynb").exists()


def test_leak_stops_the_build_before_execution(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "Runner", _no_runner)
    make_course(course, exercise(prose("`return within(x) + within(y) - 2 * gram(x, y).mean()`")))
    with pytest.raises(CourseError, match="解答の文"):
        build([Path("solutions")])


def test_quiz_cells_are_placed_and_unknown_ones_refused(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tlkit.course.quiz import render

    def cells(slug: str, ids: Any = None) -> list[Any]:
        from tlkit.course.build.notebook import new_cell

        if ids == ["q00-09"]:
            raise CourseError("問題 q00-09 がありません")
        return [
            new_cell("markdown", f"{slug} {ids}", "q00-01", {}),
            new_cell("code", "print('採点')", "q00-01-mark", {}),
        ]

    monkeypatch.setattr(render, "quiz_cells", cells)
    source = course / "chapters" / "00_start.py"
    source.write_text(prose("# 前\n\n<!-- quiz -->\n\n後") + code("print(1)"), encoding="utf-8")
    build(None)
    notebook = load(course / "chapters/00_start.ipynb")
    assert [c.id for c in notebook.cells][1:3] == ["q00-01", "q00-01-mark"]
    assert [c.source for c in notebook.cells if c.cell_type == "markdown"] == ["# 前", "00_start None", "後"]
    source.write_text(prose("# 前\n\n<!-- quiz: q00-09 -->"), encoding="utf-8")
    with pytest.raises(CourseError, match=r"chapters/00_start\.py:4: (.|\n)*q00-09"):
        build(None)


def test_check_and_nbgrader_together_are_refused(course: Path, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="同時に"):
        build(None, check=True, nbgrader=tmp_path / "ng")


INTERRUPTED = """
import sys
from tlkit.course.build import build
try:
    build(None, jobs=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGINT を子に送る方法が違う")
def test_interrupt_leaves_whole_notebooks_and_no_kernels(finished: Path) -> None:
    started = finished / "started"
    slow = f"from pathlib import Path\nimport time\nPath({str(started)!r}).touch()\ntime.sleep(120)"
    (finished / "chapters/00_start.py").write_text(code(slow), encoding="utf-8")
    before = {name: data for name, data in snapshot(finished).items() if name.endswith(".ipynb")}
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert started.exists()
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "中断しています" in out
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert {name: data for name, data in snapshot(finished).items() if name.endswith((".ipynb", ".tmp"))} == before


def _no_runner() -> None:
    raise AssertionError("実行してはいけない")
