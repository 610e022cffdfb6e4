"""`tlkit grade` の各命令の中身。引数の形と説明は `grade_cli.py`、画面の文は `screen.py` にある。

採点の記録と秘密は、提出のフォルダの外に置く。ここは順に呼ぶだけで、採点の決まりは持たない。
"""

import hashlib
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlkit.course.errors import CourseError
from tlkit.course.grading import assignment, available, calibration, escapes, tasks
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.executors import Pool, distributed, threads
from tlkit.course.grading.gather import Policy, gather
from tlkit.course.grading.grade_cli import STORE
from tlkit.course.grading.model import Submission
from tlkit.course.grading.pipeline import Setting, grade
from tlkit.course.grading.report.alike import identical_answers
from tlkit.course.grading.report.table import build
from tlkit.course.grading.report.writing import Form, private_folder, write
from tlkit.course.grading.roster import Student, read_roster
from tlkit.course.grading.rows import Row
from tlkit.course.grading.sample import make_sample_class, next_commands
from tlkit.course.grading.screen import ProgressLine, exit_code, summary
from tlkit.course.grading.seeds import load_secret
from tlkit.course.grading.store import Store


@dataclass(frozen=True)
class Order:
    """採点の注文。

    Attributes:
        folder: 提出のフォルダ。
        slug: 演習の名前。
        roster: 名簿。
        store: 採点の記録。
        secret: 秘密のファイル。None なら記録の隣。
        jobs: 同時に動かす数。None なら CPU の数。
        scheduler: dask のスケジューラの宛先。
        policy: 提出がいくつもあるときの選び方。
        again: もう採点した提出も動かし直すか。
        students: 動かす学生の学籍番号。空なら全員。
        use_solution: 解答例の時間から、時間の上限を決めるか。
        fresh: 提出ごとに、新しい Python を始めるか。
    """

    folder: Path
    slug: str
    roster: Path
    store: Path
    secret: Path | None = None
    jobs: int | None = None
    scheduler: str | None = None
    policy: Policy = "last"
    again: bool = False
    students: tuple[str, ...] = ()
    use_solution: bool = True
    fresh: bool = False


def run(order: Order) -> int:
    """採点し、まとめを印字し、終了コードを返す。"""
    target = assignment.load(order.slug)
    roster = read_roster(order.roster)
    secret_path = order.secret or order.store.parent / "secret"
    _keep_apart(order.folder, order.store, secret_path)
    if order.scheduler is None:
        available.require()  # dask では、檻は別の機械にある
    private_folder(order.store.parent)
    secret = load_secret(secret_path)
    solution = calibration.find(order.slug) if order.use_solution else b""
    runner = tasks.fresh if order.fresh else tasks.caged
    setting = Setting(target, secret, run=runner, policy=order.policy, solution=solution)
    report = build(_graded(order, roster, setting), target)
    print("\n".join(summary(report)))
    if all(line.state == "missing" for line in report.lines):
        print(f"提出が一つも見つかりません。フォルダ {order.folder} と名簿の学籍番号が合っているか確かめてください。")
    print(f"\n次は: {_next(order)}")
    return exit_code(report)


def _graded(order: Order, roster: Sequence[Student], setting: Setting) -> list[Row]:
    again = order.students or order.again
    with Store(order.store) as store:
        try:
            with _pool(order) as pool:
                return grade(order.folder, roster, setting, store, pool, listener=ProgressLine(), again=again)
        except KeyboardInterrupt:
            left = store.status(order.slug).pending
            print(
                f"\n採点を止めました。終わった分は記録に残っています（残り {left} 人）。"
                "同じ命令をもう一度実行すると、続きから採点します。",
                file=sys.stderr,
                flush=True,
            )
            raise


def _next(order: Order) -> str:
    words = ["tlkit", "grade", "report", str(order.folder), "--roster", str(order.roster), "--exercise", order.slug]
    return shlex.join(words if order.store == STORE else [*words, "--store", str(order.store)])


def status(store_path: Path, slug: str | None) -> int:
    """進み具合を印字する。"""
    with _opened(store_path, slug) as (store, target):
        interrupted = store.status(target.slug).interrupted
        report = build(store.rows(target.slug), target)
    print("\n".join(summary(report)))
    if interrupted:
        print(
            f"途中で止まった採点が {interrupted} 回あります。結果は失われません。もう一度採点すると、続きから進みます。"
        )
    return exit_code(report)


def report(
    store_path: Path, slug: str | None, out: Path | None, forms: Collection[Form], source: tuple[Path, Path] | None
) -> int:
    """報告を書く。source は、提出のフォルダと名簿。あれば、答えのコードが同じ提出も調べる。"""
    with _opened(store_path, slug) as (store, target):
        rows = store.rows(target.slug)
    alike = {}
    if source is not None:
        alike = identical_answers(
            _counted(gather(source[0], read_roster(source[1]), target, policy="best"), rows), target
        )
    made = build(rows, target, alike)
    for path in write(made, out or store_path.parent / "report", forms):
        print(f"書きました: {path}")
    return exit_code(made)


def _counted(submissions: Iterable[Submission], rows: Iterable[Row]) -> list[Submission]:
    """提出がいくつもある人は、採点で数えた一つだけを残す。"""
    counted = {(row.entry.student, row.entry.sha256) for row in rows}
    return [
        one
        for submission in submissions
        for one in (submission.rivals or (submission,))
        if not submission.rivals or (one.student, hashlib.sha256(one.data).hexdigest()) in counted
    ]


def override(store_path: Path, slug: str | None, student: str, question: str, points: int | None, why: str) -> int:
    """点数を手で直し、直した後の行を印字する。"""
    with _opened(store_path, slug) as (store, target):
        store.override(target, student, question, points, why)
        made = build((row for row in store.rows(target.slug) if row.entry.student == student), target)
    for line in made.lines:
        total = (
            "合計なし（点数のない問題が残っています）" if line.total is None else f"合計 {line.total} / {made.full} 点"
        )
        print(f"{line.student} {line.name} [{line.label}] {total}")
        for name, answer in line.answers.items():
            points_text = "なし" if answer.points is None else f"{answer.points} 点"
            print(f"  {name}: {points_text}" + (f"（手で直した。理由: {answer.why}）" if answer.why else ""))
    return 0


def selftest() -> int:
    """檻から出ようとする試みを動かし、止まったかを印字する。"""
    driver = available.require()
    print(f"檻の作り方: {driver.name}（{driver.detail}）")
    leaked = total = 0
    for trial in escapes.selftest(driver):
        total += 1
        leaked += not trial.blocked
        print(f"{'✅ 止めた' if trial.blocked else '❌ 止められない'} {trial.name}: {trial.detail}", flush=True)
    print(f"{total} 個の試みのうち {total - leaked} 個を止めました。")
    if leaked:
        print("この機械では、ほかの人のノートブックを採点しないでください。")
    return 1 if leaked else 0


def sample(folder: Path) -> int:
    """試すための学級を作り、次に打つ命令を印字する。"""
    submissions, roster = make_sample_class(folder)
    print(f"作りました: {submissions}（12 人分の提出）、{roster}（名簿）、{folder / 'README.md'}（だれが何を出したか）")
    print("\n次は、順に:")
    print("\n".join(f"  {command}" for command in next_commands(folder)))
    return 0


@contextmanager
def _opened(path: Path, slug: str | None) -> Iterator[tuple[Store, Assignment]]:
    """すでにある記録と、その演習。"""
    if not path.is_file():
        raise CourseError(
            f"採点の記録 {path} がありません。先に tlkit grade で採点するか、`--store` で場所を指定してください。"
        )
    with Store(path) as store:
        known = store.slugs()
        if slug is None and len(known) != 1:
            listed = "、".join(known) or "なし"
            raise CourseError(f"`--exercise` で演習を指定してください（記録にある演習: {listed}）。")
        if slug is not None and slug not in known:
            raise CourseError(f"演習 {slug} は、この記録にありません（ある演習: {'、'.join(known) or 'なし'}）。")
        yield store, assignment.load(slug or known[0])


def _pool(order: Order) -> AbstractContextManager[Pool]:
    return threads(order.jobs) if order.scheduler is None else distributed(order.scheduler)


def _keep_apart(folder: Path, *files: Path) -> None:
    for file in files:
        if file.resolve().is_relative_to(folder.resolve()):
            raise CourseError(
                f"{file} は、提出のフォルダ {folder} の中です。学生のファイルと混ざらないよう、外の場所を指定してください。"
            )
