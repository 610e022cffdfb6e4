"""段階の中身（ノートブックの段階だけは `notebooks.py`）。

どの段階も、前の段階が失敗していても動く。道具そのものがないときは、何がないかを言って失敗する。
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import commands, junit
from pipeline.outcome import LeftOut, Outcome

_MINUTE = 60.0


@dataclass(frozen=True)
class Context:
    """段階に渡すもの。"""

    root: Path
    fast: bool


def lint(context: Context) -> Outcome:
    """書き方と型。"""
    steps = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    return _all_of("lint", context, [[sys.executable, "-m", *step] for step in steps], 10 * _MINUTE)


def lock(context: Context) -> Outcome:
    """requirements.lock が、支えるすべての環境で解けること。"""
    return _script("lock", context, "tools/lock.py", "--check")


def prose(context: Context) -> Outcome:
    """日本語の文章。"""
    return _script("prose", context, "tools/prose/lint.py")


def build_check(context: Context) -> Outcome:
    """生成物が元の文章と合っていること。"""
    command = shutil.which("tlkit", path=str(Path(sys.executable).parent))
    if command is None:
        return Outcome(
            "build-check", ok=False, notes=["仮想環境に tlkit コマンドがありません（`make test` が入れます）"]
        )
    return _all_of("build-check", context, [[command, "build", "--check"]], 10 * _MINUTE)


def tests(context: Context) -> Outcome:
    """ブラウザを使わない検査。"""
    marks = "not browser and not slow" if context.fast else "not browser"
    outcome = run_pytest("tests", context, ["tests", "-n", "2", "--dist", "loadfile", "-m", marks, "--durations=15"])
    if context.fast:
        outcome.left_out.append(LeftOut("slow の印の検査", "[fast] --fast では省きます"))
    return outcome


def browser(context: Context) -> Outcome:
    """ヘッドレスのブラウザで動かす検査。"""
    return run_pytest("browser", context, ["tests", "-m", "browser", "--durations=5"])


def run_pytest(stage: str, context: Context, arguments: list[str]) -> Outcome:
    """pytest を動かし、数と省いた理由を集める。"""
    with tempfile.TemporaryDirectory(prefix="stages-") as made:
        report = Path(made) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
        done = commands.run(command, cwd=context.root, limit=40 * _MINUTE)
        counts = junit.read(report)
    outcome = Outcome(stage, ok=done.code == 0, seconds=done.seconds)
    if counts is None:
        outcome.ok, outcome.failed = False, 1
        outcome.notes.append(f"pytest が結果を残さずに止まりました（終了コード {done.code}）")
        return outcome
    outcome.passed, outcome.failed, outcome.skipped = counts.passed, counts.failed, counts.skipped
    outcome.left_out = counts.left_out
    if done.code == 5:
        outcome.notes.append("当てはまる検査が 1 つもありません")
    return outcome


def _script(stage: str, context: Context, name: str, *arguments: str) -> Outcome:
    """教材の道具を 1 つ動かす。終了コード 77 は「道具がないので省いた」。"""
    if not (context.root / name).is_file():
        return Outcome(stage, ok=False, notes=[f"{name} がありません"])
    outcome = _all_of(stage, context, [[sys.executable, name, *arguments]], 15 * _MINUTE)
    if outcome.notes == [_exit_note(name, commands.EXIT_LEFT_OUT)]:
        outcome.ok, outcome.notes = True, []
        outcome.left_out.append(LeftOut(f"段階 {stage}", "[道具] 要る道具かネットワークがありません（理由は上の出力）"))
    return outcome


def _all_of(stage: str, context: Context, steps: list[list[str]], limit: float) -> Outcome:
    """いくつかのコマンドを、途中で失敗しても最後まで動かす。"""
    outcome = Outcome(stage, ok=True)
    for step in steps:
        done = commands.run(step, cwd=context.root, limit=limit)
        outcome.seconds += done.seconds
        if done.code != 0:
            outcome.ok = False
            outcome.notes.append(_exit_note(_label(step), done.code))
    return outcome


def _label(step: list[str]) -> str:
    """表に出す、コマンドの短い名前。"""
    words = step[1:] if step[0] == sys.executable else [Path(step[0]).name, *step[1:]]
    return " ".join(w for w in words if w != "-m") if words[0] == "-m" else words[0]


def _exit_note(name: str, code: int) -> str:
    return f"{name}: 終了コード {code}"


Stage = Callable[[Context], Outcome]
