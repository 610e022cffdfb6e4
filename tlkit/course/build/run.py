"""build の入口。作り先を選び、変わったものだけを並べて実行し、書き込む。

隣: 選ぶのは `targets.py`、組み立ては `assemble.py`、実行は `execute.py`、ずれの検査は `drift.py`。
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from tlkit.course.build.assemble import Draft, assemble
from tlkit.course.build.drift import find_drift, orphan_problem
from tlkit.course.build.execute import Runner, StoppedError
from tlkit.course.build.leaks import allowed_of, find_leaks
from tlkit.course.build.nbgrader_export import export
from tlkit.course.build.progress import BuildProgress
from tlkit.course.build.report import BuildReport
from tlkit.course.build.targets import Target, orphans, select_targets
from tlkit.course.build.writer import write_notebook
from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root


def build(
    paths: Sequence[Path] | None = None,
    *,
    check: bool = False,
    nbgrader: Path | None = None,
    jobs: int | None = None,
    force: bool = False,
) -> BuildReport:
    """元ファイルからノートブックを作る。

    Args:
        paths: .py、.ipynb、フォルダ。空か None なら全部。
        check: True なら実行も書き込みもせず、ずれを report.problems に並べる。
        nbgrader: 与えると、ふつうのノートブックの代わりに nbgrader の元ノートブックをこのフォルダに書く。
        jobs: 同時に動かす数。None なら使える CPU の数。
        force: True なら、変わっていないものも作り直す。

    Raises:
        CourseError: 元ファイルの誤り、セルの失敗、書き込みの失敗。
        KeyboardInterrupt: 利用者が止めたとき（カーネルを終わらせ、書きかけを残さずに）。
    """
    start = time.perf_counter()
    if check and nbgrader is not None:
        raise CourseError("check と nbgrader は同時に使えません。どちらか 1 つを指定してください。")
    targets = select_targets(paths or ())
    report = BuildReport()
    if check:
        _check(targets, report, everything=not paths)
    elif nbgrader is not None:
        report.built += export(targets, nbgrader)
    else:
        _build(targets, report, jobs or _cpus(), force)
    report.seconds = time.perf_counter() - start
    return report


def _check(targets: list[Target], report: BuildReport, *, everything: bool) -> None:
    for target in targets:
        try:
            draft = assemble(target)
        except CourseError as error:
            report.problems.append(str(error))
            continue
        _note_allowed(report, draft)
        found = find_drift(draft)
        report.problems += found
        if not found:
            report.skipped.append(target.output)
    if everything:
        root = course_root()
        report.problems += [orphan_problem(path, root) for path in orphans(root)]
    report.problems[:] = dict.fromkeys(report.problems)


def _build(targets: list[Target], report: BuildReport, jobs: int, force: bool) -> None:
    drafts = [_draft(target) for target in targets]
    for draft in drafts:
        _note_allowed(report, draft)
    stale = [draft for draft in drafts if force or find_drift(draft)]
    report.skipped += [draft.target.output for draft in drafts if draft not in stale]
    with BuildProgress(len(stale)) as progress:
        for path in report.skipped:
            progress.say(f"変更なし {path.relative_to(course_root()).as_posix()}")
        if stale:
            _warm_fonts()
            _execute_all(stale, report, jobs, progress)


def _draft(target: Target) -> Draft:
    """組み立てて、実行しなくても分かる漏れを先に調べる。"""
    draft = assemble(target)
    leaks = find_leaks(draft.notebook, draft.secrets)
    if leaks:
        raise CourseError("\n".join(leaks))
    return draft


def _execute_all(drafts: list[Draft], report: BuildReport, jobs: int, progress: BuildProgress) -> None:
    runner = Runner()
    failures: list[str] = []
    pool = ThreadPoolExecutor(max_workers=max(1, min(jobs, len(drafts))), thread_name_prefix="tlkit-build")
    try:
        futures = {pool.submit(_one, runner, draft): draft for draft in drafts}
        for future in as_completed(futures):
            _collect(future, futures[future], report, failures, progress)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            progress.say(
                "中断しています。カーネルを終わらせます。書き終えたノートブックと、元のノートブックはそのまま残ります。"
            )
        runner.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failures:
        raise CourseError("\n\n".join(failures))


def _one(runner: Runner, draft: Draft) -> float:
    start = time.perf_counter()
    notebook = runner.run(draft)
    if runner.stopped.is_set():
        raise StoppedError
    write_notebook(draft.target.output, notebook)
    return time.perf_counter() - start


def _collect(
    future: Future[float], draft: Draft, report: BuildReport, failures: list[str], progress: BuildProgress
) -> None:
    name = draft.target.output_name
    try:
        seconds = future.result()
    except CourseError as error:
        failures.append(str(error))
        progress.done(f"失敗 {name}")
        return
    report.built.append(draft.target.output)
    progress.done(f"実行した {name}（{seconds:.1f} 秒）")


def _note_allowed(report: BuildReport, draft: Draft) -> None:
    if draft.target.kind == "exercise":
        report.allowed += allowed_of(draft.pieces)


def _warm_fonts() -> None:
    """フォントの一覧を先に作る。初めての機械では、セルの中で作ると警告が標準エラーに出るため。"""
    import matplotlib.font_manager  # noqa: F401


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
