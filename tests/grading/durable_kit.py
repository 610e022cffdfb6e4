"""本物の `tlkit grade` を別のプロセスで動かし、途中で殺し、残ったものを調べる道具。

殺されたものの子孫は、ふつうは init に引き取られて見えなくなる。`adopting` の中では、ここに引き取られるので、一つも見落とさない。
"""

import ctypes
import math
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from class_kit import ROOT, SLUG

from tlkit.course.grading import assignment
from tlkit.course.grading.report.table import build
from tlkit.course.grading.report.writing import write
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.store import Store

FINISHED = (0, 3)  # 3 = 人が確かめるものがある（壊れたファイル）
_CLI = "import sys; from tlkit.course.cli import main; sys.exit(main())"
_MODES = {  # 提出ごとに新しい Python を始める道は、温めた Python を使えない機械でだけ選ばれる。ここでは、使えないことにする
    "zygote": "",
    "process": "from tlkit.course.grading import tasks; tasks._MOST_FAILURES = 0; ",
}
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER
_GONE_SECONDS = 60.0
SECRET = b"5" * 32


@dataclass(frozen=True)
class Job:
    """一つの採点。

    Attributes:
        folder: `real_class` で作った学級のフォルダ。
        store: 採点の記録。
        temp: 一時ファイルの置き場所（残ったものを調べられるよう、専用にする）。
        options: `tlkit grade` に足す引数。
        mode: 檻の始め方。zygote（温めた Python、既定）か process（新しい Python）。
    """

    folder: Path
    store: Path
    temp: Path
    options: tuple[str, ...] = ("--jobs", "2")
    mode: str = "zygote"

    def start(self, command: str = "run") -> subprocess.Popen[bytes]:
        """自分のプロセスグループで始める。"""
        self.temp.mkdir(parents=True, exist_ok=True)
        secret = self.folder / "secret"
        if not secret.exists():
            secret.write_bytes(SECRET)
            secret.chmod(0o600)
        words = ["grade", command, self.folder / "submissions", "--exercise", SLUG, "--roster"]
        words += [self.folder / "roster.csv", "--store", self.store, "--secret", secret, *self.options]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temp), "PYTHONPATH": str(ROOT)}
        with (self.folder / "screen.txt").open("ab") as screen:
            return subprocess.Popen(
                [sys.executable, "-c", _MODES[self.mode] + _CLI, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )

    def finish(self, command: str = "run") -> float:
        """終わりまで動かし、かかった秒を返す。"""
        began = time.perf_counter()
        code = self.start(command).wait()
        seconds = time.perf_counter() - began
        assert code in FINISHED, (code, self.screen)
        assert self.mode == "process" or "新しい Python を始めます" not in self.screen, self.screen
        return seconds

    @property
    def screen(self) -> str:
        """画面に出たもの。"""
        return (self.folder / "screen.txt").read_text(encoding="utf-8")[-3000:]

    def reports(self, out: Path) -> dict[str, bytes]:
        """報告のファイルの名前 → 中身。"""
        target = assignment.load(SLUG)
        with Store(self.store) as store:
            write(build(store.rows(SLUG), target), out)
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.*"))}

    def results(self) -> dict[str, str]:
        """学籍番号 → 決まった結果。記録が壊れていないことも確かめる。"""
        if not self.store.exists():
            return {}
        with Store(self.store) as store:
            assert store.problems() == []
            return {
                row.entry.student: result_to_json(row.result)
                for row in store.rows(SLUG)
                if not row.pending and row.entry.key
            }

    def tables(self) -> "Tables":
        """記録の表を、じかに数える。"""
        with closing(sqlite3.connect(self.store)) as connection:
            count = lambda query: connection.execute(query).fetchone()[0]  # noqa: E731
            assert count("PRAGMA integrity_check") == "ok"
            graded = "SELECT a.student, count(*) n FROM grades g JOIN attempts a ON a.id = g.attempt GROUP BY 1"
            return Tables(
                count("SELECT count(*) FROM attempts"),
                count("SELECT count(*) FROM endings"),
                count("SELECT count(*) FROM grades"),
                count(f"SELECT count(*) FROM ({graded})"),
                count("SELECT count(*) FROM endings WHERE state = 'infra_error'"),
            )


@dataclass(frozen=True)
class Tables:
    """記録の行の数。

    Attributes:
        attempts: 始めた採点。
        endings: 終わった採点。
        grades: 決まった結果。
        students: 結果の決まった学生。
        broken: 採点側の故障で終わった採点。
    """

    attempts: int
    endings: int
    grades: int
    students: int
    broken: int


@dataclass
class Deaths:
    """殺した記録。

    Attributes:
        seconds: 始めてから殺すまでの秒。
        lost: 殺したときに途中だった採点の数。
        waits: 残ったものが消えるまでの秒。
        peak: いちばん多く残ったプロセスの数。
    """

    seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    peak: int = 0


def begun(job: Job) -> int:
    """始めた採点の数。記録がまだできていなければ 0。"""
    return _rows(job, "attempts")


def decided(job: Job) -> int:
    """終わった採点の数。記録がまだできていなければ 0。"""
    return _rows(job, "endings")


def _rows(job: Job, table: str) -> int:
    if job.store.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(job.store)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    return 0


def kill_until_finished(job: Job, window: float, rng: random.Random, deaths: Deaths, enough: float = math.inf) -> None:
    """でたらめな時刻（0 から window 秒まで一様）に採点者を SIGKILL し、終わるまで始め直す。enough 回殺したら、もう殺さない。

    殺すたびに、決まった結果が減りも変わりもしないこと、記録が壊れないこと、檻が一つも残らないことを確かめる。
    """
    known: dict[str, str] = {}
    with adopting() as orphans:
        while len(deaths.seconds) < enough and not _die_sometime(job, rng.uniform(0.0, window), orphans, deaths):
            now = job.results()
            assert known.items() <= now.items()
            window = window if len(now) > len(known) else window * 1.1  # 遅い機械でも、いつかは進む
            known = now
        job.finish()
        assert orphans() == []
    assert known.items() <= job.results().items()


def _die_sometime(job: Job, seconds: float, orphans: Callable[[], list[psutil.Process]], deaths: Deaths) -> bool:
    """終わったら True、殺したら False。"""
    child = job.start()
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    else:
        assert code in FINISHED, (code, job.screen)
        return True
    deaths.seconds.append(seconds)
    deaths.peak = max(deaths.peak, len(orphans()))
    deaths.waits.append(wait_until_gone(orphans))
    return False


def wait_until_gone(orphans: Callable[[], list[psutil.Process]], seconds: float = _GONE_SECONDS) -> float:
    """残ったプロセスがすべて消えるまで待ち、かかった秒を返す。"""
    began = time.monotonic()
    while left := orphans():
        assert time.monotonic() - began < seconds, [_told(one) for one in left]
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def adopting() -> Iterator[Callable[[], list[psutil.Process]]]:
    """殺されたものの子孫を、このプロセスが引き取る。渡すのは、まだ生きているものを返す関数。"""
    before = set(psutil.Process().children(recursive=True))
    control = ctypes.CDLL(None, use_errno=True).prctl
    assert control(_ADOPT, 1, 0, 0, 0) == 0
    try:
        yield lambda: [one for one in psutil.Process().children(recursive=True) if one not in before and _alive(one)]
    finally:
        control(_ADOPT, 0, 0, 0, 0)


def _alive(one: psutil.Process) -> bool:
    """生きているか。終わった孤児は、ここで葬る。"""
    with suppress(psutil.NoSuchProcess):
        if one.status() != psutil.STATUS_ZOMBIE:
            return True
        if one.ppid() == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(one.pid, os.WNOHANG)
    return False


def _told(one: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{one.pid} {one.status()} {' '.join(one.cmdline())[:200]}"
    return str(one.pid)
