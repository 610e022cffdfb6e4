"""学習者が呼ぶ check・ready・hint。印字、例外、環境変数、進み具合の記録。"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from tlkit.course.checks import progress, session
from tlkit.course.checks.failure import CheckFailed
from tlkit.course.errors import CourseError

RIGHT = """
import torch
def mmd2(x, y, sigma, estimator="biased"):
    print("途中の値")
    def k(a, b):
        return torch.exp(-(a[:, None] - b[None]).square().sum(-1) / (2 * sigma**2))
    n, m = len(x), len(y)
    if estimator == "biased":
        return k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()
    return (k(x, x).sum() - n) / (n * (n - 1)) + (k(y, y).sum() - m) / (m * (m - 1)) - 2 * k(x, y).mean()
"""
STUB = """
def mmd2(x, y, sigma, estimator="biased"):
    raise NotImplementedError("ここを実装してください")
"""
BROKEN = """
import torch
def mmd2(x, y, sigma, estimator="biased"):
    print("途中の値")
    return torch.ones(2) @ torch.ones(3)
"""
WRONG = """
def mmd2(x, y, sigma, estimator="biased"):
    print("途中の値")
    return (x.mean(0) - y.mean(0)).square().sum()
"""


def function(source: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["mmd2"]


@pytest.fixture(autouse=True)
def clean_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("TLKIT_CHECK", raising=False)
    monkeypatch.delenv("TLKIT_CHECK_LOG", raising=False)
    monkeypatch.setenv("TLKIT_WORK", str(tmp_path / "work"))
    session._passed.clear()
    session._hints.clear()
    yield
    session._passed.clear()
    session._hints.clear()


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_untouched_and_passed_print_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    session.check("01-1", function(STUB))
    assert shown(capsys) == "⏳ 01-1 未着手\n"
    session.check("01-1", function(RIGHT))
    assert shown(capsys) == "✅ 01-1 合格\n"


def test_wrong_answers_raise_and_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckFailed, match="頭打ち") as caught:
        session.check("01-1", function(WRONG))
    assert shown(capsys) == ""
    assert caught.value.__cause__ is None
    assert "途中の値" in str(caught.value)


def test_the_learners_exception_is_the_cause() -> None:
    with pytest.raises(CheckFailed, match="RuntimeError") as caught:
        session.check("01-1", function(BROKEN))
    assert isinstance(caught.value.__cause__, RuntimeError)
    lines = caught.value._render_traceback_()
    assert "あなたのコードの5行目（mmd2 の中）" in lines[0]
    assert lines[-1].startswith("CheckFailed: 01-1 ")
    assert "harness" not in "".join(lines)


def test_strict_raises_for_untouched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TLKIT_CHECK", "strict")
    with pytest.raises(CheckFailed, match="未着手"):
        session.check("01-1", function(STUB))
    session.check("01-1", function(RIGHT))
    assert shown(capsys) == "✅ 01-1 合格\n"


def test_soft_prints_one_line_and_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TLKIT_CHECK", "soft")
    session.check("01-1", function(WRONG))
    out = shown(capsys)
    assert out.startswith("❌ 01-1 十分に離れた")
    assert out.count("\n") == 1
    session.check("01-1", function(STUB))
    assert shown(capsys) == "⏳ 01-1 未着手\n"


def test_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLKIT_CHECK", "sof")
    with pytest.raises(CourseError, match="TLKIT_CHECK"):
        session.check("01-1", function(STUB))


def test_ready_follows_the_last_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert session.ready("01-1") is False
    assert shown(capsys) == "⏭ 01-1 が未完成です\n"
    session.check("01-1", function(RIGHT))
    shown(capsys)
    assert session.ready("01-1") is True
    assert shown(capsys) == ""
    with pytest.raises(CheckFailed):
        session.check("01-1", function(WRONG))
    assert session.ready("01-1") is False


@pytest.mark.parametrize("answers", [(), (function(STUB), 3)])
def test_number_of_answers(answers: tuple[Any, ...]) -> None:
    with pytest.raises(CourseError, match=r'check\("01-1", mmd2\)'):
        session.check("01-1", *answers)


@pytest.mark.parametrize("call", [session.check, session.ready, session.hint])
def test_unknown_exercise(call: Any) -> None:
    with pytest.raises(CourseError, match='"01-1"'):
        call("01-11")
    with pytest.raises(CourseError, match="見つかりません"):
        call(11)


def test_hints_go_up_and_say_how_many_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    heads = []
    for _ in range(4):
        session.hint("01-1")
        heads.append(shown(capsys).splitlines())
    assert [lines[0] for lines in heads] == [
        "💡 01-1 ヒント 1/3（方針）",
        "💡 01-1 ヒント 2/3（式）",
        "💡 01-1 ヒント 3/3（ほぼコード）",
        "💡 01-1 ヒント 3/3（ほぼコード）",
    ]
    assert "残り 2 段" in heads[0][-1]
    assert "残り 1 段" in heads[1][-1]
    assert "最後" in heads[2][-1]


def test_a_hint_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    session.hint("01-1", 2)
    assert "（式）" in shown(capsys)
    session.hint("01-1")
    assert "（ほぼコード）" in shown(capsys)
    for level in (0, 4, "2", True):
        with pytest.raises(CourseError, match="1（方針）"):
            session.hint("01-1", level)  # type: ignore[arg-type]


def test_log_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "ログ.jsonl"
    monkeypatch.setenv("TLKIT_CHECK_LOG", str(path))
    session.check("01-1", function(STUB))
    session.check("01-1", function(RIGHT))
    with pytest.raises(CheckFailed):
        session.check("01-1", function(BROKEN))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["question"], line["state"], line["code"]) for line in lines] == [
        ("01-1", "untouched", "untouched"),
        ("01-1", "passed", "passed"),
        ("01-1", "failed", "raised"),
    ]
    assert "RuntimeError" in lines[2]["message"]


def test_a_log_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLKIT_CHECK_LOG", str(tmp_path / "no" / "such" / "file"))
    with pytest.raises(CourseError, match="TLKIT_CHECK_LOG"):
        session.check("01-1", function(STUB))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    (folder / "exercises").mkdir(parents=True)
    monkeypatch.chdir(folder / "exercises")
    return folder


def test_progress_is_recorded_inside_work(work: Path) -> None:
    session.check("01-1", function(STUB))
    with pytest.raises(CheckFailed):
        session.check("01-1", function(WRONG))
    session.check("01-1", function(RIGHT))
    with pytest.raises(CheckFailed):
        session.check("01-1", function(WRONG))
    session.hint("01-1", 2)
    progress.record_quiz("q01-01", "b", correct=False)
    entry = progress.load(work)["questions"]["01-1"]
    assert (entry["state"], entry["code"], entry["passed"], entry["attempts"], entry["hints"]) == (
        "failed", "unbounded", True, 3, 2,
    )  # fmt: skip
    assert progress.load(work)["quiz"]["q01-01"]["choice"] == "b"
    assert sorted(path.name for path in work.iterdir()) == ["exercises", "progress.json"]


def test_no_progress_outside_work(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session.check("01-1", function(STUB))
    assert not (work / "progress.json").exists()


def test_work_that_does_not_exist_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session.check("01-1", function(STUB))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"questions": 3}', '{"questions": {"01-1": 3}}', "\x00", "[" * 100_000]
)
def test_corrupted_progress_is_set_aside(work: Path, text: str) -> None:
    (work / "progress.json").write_text(text, encoding="utf-8")
    (work / "progress.broken-1.json").write_text("前のもの", encoding="utf-8")
    assert progress.load(work)["questions"] == {}
    session.check("01-1", function(STUB))
    assert (work / "progress.broken-1.json").read_text(encoding="utf-8") == "前のもの"
    assert (work / "progress.broken-2.json").read_text(encoding="utf-8") == text
    found = progress.load(work)
    assert found["questions"]["01-1"]["state"] == "untouched"
    assert "progress.broken-2.json" in found["notes"][0]


def test_undecodable_progress_is_set_aside(work: Path) -> None:
    (work / "progress.json").write_bytes("進捗".encode("shift_jis"))
    session.check("01-1", function(STUB))
    assert (work / "progress.broken-1.json").read_bytes() == "進捗".encode("shift_jis")


def test_unknown_parts_of_progress_are_kept(work: Path) -> None:
    (work / "progress.json").write_text(
        '{"later": [1], "questions": {"01-1": {"memo": "x", "attempts": "?"}}}', encoding="utf-8"
    )
    session.check("01-1", function(RIGHT))
    found = progress.load(work)
    assert found["later"] == [1]
    assert (found["questions"]["01-1"]["memo"], found["questions"]["01-1"]["attempts"]) == ("x", 1)


def test_a_failed_write_loses_nothing_and_breaks_nothing(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session.check("01-1", function(STUB))
    before = (work / "progress.json").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress.json, "dump", full)
    session.check("01-1", function(RIGHT))
    assert shown(capsys).endswith("✅ 01-1 合格\n")
    assert (work / "progress.json").read_bytes() == before
    assert sorted(path.name for path in work.iterdir()) == ["exercises", "progress.json"]


@pytest.mark.parametrize(
    ("source", "mode", "out", "rc"),
    [
        (STUB, "", "⏳ 01-1 未着手\n", 0),
        (RIGHT, "", "✅ 01-1 合格\n", 0),
        (WRONG, "soft", None, 0),
        (WRONG, "", "", 1),
        (STUB, "strict", "", 1),
    ],
    ids=["untouched", "passed", "soft", "wrong", "strict"],
)
def test_in_a_process_of_its_own(
    source: str, mode: str, out: str | None, rc: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLKIT_CHECK", mode)
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(Path(session.__file__).parents[3]))
    script = tmp_path / "answer.py"
    script.write_text(f'from tlkit.course import check\n{source}\ncheck("01-1", mmd2)\n', encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, encoding="utf-8", cwd=tmp_path, check=False)
    assert done.returncode == rc, done.stderr
    assert done.stdout == out if out is not None else done.stdout.count("\n") == 1
    assert (done.stderr == "") == (rc == 0)
    assert rc == 0 or "CheckFailed: 01-1 " in done.stderr


def test_in_a_real_kernel(tmp_path: Path) -> None:
    """カーネルの中でも、印字は 1 行、値の表示なし、失敗の表示は診断と学習者の行だけ。"""
    cells = [
        "from tlkit.course import check, ready, hint",
        STUB.strip() + '\ncheck("01-1", mmd2)',
        'if ready("01-1"):\n    1 / 0',
        BROKEN.strip() + '\ncheck("01-1", mmd2)',
        WRONG.strip() + '\ncheck("01-1", mmd2)',
        "def mmd2(x, y, sigma, estimator):\n    exit()\ncheck('01-1', mmd2)",
        RIGHT.strip() + '\ncheck("01-1", mmd2)',
        'assert ready("01-1")\nhint("01-1")',
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert [[out.output_type for out in outs] for outs in outputs] == [
        [], ["stream"], ["stream"], ["error"], ["error"], ["error"], ["stream"], ["stream"],
    ]  # fmt: skip
    assert outputs[1][0].text == "⏳ 01-1 未着手\n"
    assert outputs[2][0].text == "⏭ 01-1 が未完成です\n"
    shown = "\n".join(outputs[3][0].traceback)
    assert "あなたのコードの4行目（mmd2 の中）: return torch.ones(2) @ torch.ones(3)" in shown
    assert "harness.py" not in shown
    assert len(shown.splitlines()) < 12
    assert outputs[4][0].ename == "CheckFailed"
    assert "途中の値" in outputs[4][0].evalue
    assert "exit" in outputs[5][0].evalue
    assert outputs[6][0].text == "✅ 01-1 合格\n"
    assert outputs[7][0].text.startswith("💡 01-1 ヒント 1/3")


def test_check_returns_nothing() -> None:
    assert session.check("01-1", function(RIGHT)) is None  # type: ignore[func-returns-value]


def test_checks_do_not_disturb_the_learners_random_numbers() -> None:
    torch.manual_seed(3)
    want = torch.rand(2).tolist()
    torch.manual_seed(3)
    session.check("01-1", function(RIGHT))
    assert torch.rand(2).tolist() == want
