"""ノートブックの段階: すべてを 1 回ずつ、ネットワークを切って nbval で動かす。

1 冊を 1 つのプロセスの木で動かすので、かかった時間と記憶の山を 1 冊ごとに測れる。2 冊ずつ同時に動かす。
取り置きのデータが不足を隠さないよう、データの置き場所も Jupyter の設定も空のフォルダに向ける。
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline import commands, junit
from pipeline.outcome import LeftOut, Outcome
from pipeline.suites import Context

SECONDS_LIMIT = 180.0
MEMORY_LIMIT = 3 * 1024**3
_TOGETHER = 2
_SAMPLE_SECONDS = 0.1
_FOLDERS = ("chapters", "solutions", "exercises")
_EMPTY_PLACES = (
    *("TLKIT_DATA", "TORCH_HOME", "HF_HOME", "SCIKIT_LEARN_DATA", "XDG_CACHE_HOME"),
    *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"),
)
_NOT_PASSED = {"TLKIT_TEST_DATA", "TLKIT_CHECK", "TLKIT_CHECK_LOG", "MPLBACKEND"}
_CUT_EXIT_CODES = {77: "[遮断] この機械ではネットワークを切れないので、つないだまま動かしました"}


@dataclass
class Measured:
    """1 冊の結果。"""

    name: str
    counts: junit.Counts | None
    code: int
    seconds: float
    peak: int
    output: str

    def faults(self) -> list[str]:
        """合格でない理由。"""
        found = []
        if self.code != 0 or self.counts is None:
            found.append(f"{self.name}: nbval の終了コード {self.code}")
        if self.seconds > SECONDS_LIMIT:
            found.append(f"{self.name}: {self.seconds:.0f} 秒（上限 {SECONDS_LIMIT:.0f} 秒）")
        if self.peak > MEMORY_LIMIT:
            found.append(f"{self.name}: {self.peak / 1024**3:.2f} GB（上限 {MEMORY_LIMIT / 1024**3:.0f} GB）")
        return found


def notebooks(context: Context) -> Outcome:
    """chapters・solutions・exercises のノートブックを動かす。"""
    paths = [path for folder in _FOLDERS for path in sorted((context.root / folder).glob("*.ipynb"))]
    if not paths:
        return Outcome("notebooks", ok=False, notes=["ノートブックが 1 冊もありません（`tlkit build` で作ります）"])
    started = time.monotonic()
    wrapper, left_out = _wrapper(context)
    if wrapper is None:
        return Outcome("notebooks", ok=False, notes=["ネットワークを切れたことを確かめられませんでした"])
    with tempfile.TemporaryDirectory(prefix="empty-") as made, ThreadPoolExecutor(_TOGETHER) as pool:
        measured = list(pool.map(lambda path: measure(path, context.root, wrapper, Path(made)), paths))
    outcome = summarise(measured)
    outcome.left_out += left_out
    outcome.seconds = time.monotonic() - started
    return outcome


def _wrapper(context: Context) -> tuple[list[str] | None, list[LeftOut]]:
    """コマンドの前に付ける、ネットワークを切る前置き。切れない機械では空にし、そのことを残す。"""
    script = [sys.executable, str(context.root / "tools" / "offline.py")]
    code = commands.run(script, cwd=context.root, limit=60).code
    if code in _CUT_EXIT_CODES:
        return [], [LeftOut("ネットワークの遮断", _CUT_EXIT_CODES[code])]
    return ([*script, "--"] if code == 0 else None), []


def measure(path: Path, root: Path, wrapper: list[str], caches: Path) -> Measured:
    """1 冊を動かし、時間と記憶の山（プロセスの木の RSS の和の最大）を測る。caches は空から始まる取り置きの場所。"""
    name = path.relative_to(root).as_posix()
    with tempfile.TemporaryDirectory(prefix="notebook-") as made:
        folder = Path(made)
        with (folder / "output.txt").open("wb") as sink:
            started = time.monotonic()
            child = subprocess.Popen(
                [*wrapper, *_nbval(path, folder / "junit.xml")],
                cwd=root,
                env=_environment(caches),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
            peak = _watch(child, started + SECONDS_LIMIT)
            seconds = time.monotonic() - started
        output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        counts = junit.read(folder / "junit.xml")
    result = Measured(name, counts, child.returncode, seconds, peak, output)
    print(f"{'✗' if result.faults() else '✓'} {name}  {seconds:.1f} 秒  {peak / 1024**2:.0f} MB", flush=True)
    return result


def _nbval(path: Path, report: Path) -> list[str]:
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={SECONDS_LIMIT:.0f}"]
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    return [sys.executable, "-m", "pytest", "-q", *plugins, *options, f"--junitxml={report}", str(path)]


def _environment(caches: Path) -> dict[str, str]:
    """学習者の機械に、まだ何の取り置きもないのと同じ環境。"""
    made = commands.environment({name: str(caches / name.lower()) for name in _EMPTY_PLACES})
    return {name: value for name, value in made.items() if name not in _NOT_PASSED}


def _watch(child: subprocess.Popen[bytes], deadline: float) -> int:
    """終わるまで記憶を見張り、その山を返す。期限を過ぎたら、木ごと止める。"""
    peak = 0
    try:
        while child.poll() is None:
            peak = max(peak, _tree_memory(child.pid))
            if time.monotonic() > deadline:
                commands.stop_tree(child.pid)
                child.wait()
            time.sleep(_SAMPLE_SECONDS)
    except BaseException:
        commands.stop_tree(child.pid)
        raise
    return peak


def _tree_memory(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.Error:
        return total
    return total


def summarise(measured: list[Measured]) -> Outcome:
    """1 冊ごとの結果を、段階の結果にまとめる。"""
    outcome = Outcome("notebooks", ok=True)
    for result in measured:
        faults = result.faults()
        counts = result.counts or junit.Counts(failed=1)
        outcome.ok = outcome.ok and not faults
        outcome.passed += counts.passed
        outcome.failed += counts.failed
        outcome.skipped += counts.skipped
        outcome.left_out += [LeftOut(f"{result.name} の{item.what}", item.why) for item in counts.left_out]
        outcome.notes += faults or [f"{result.name}: {result.seconds:.1f} 秒、{result.peak / 1024**2:.0f} MB"]
        if faults:
            print(f"---- {result.name} ----\n{result.output[-6000:]}", flush=True)
    return outcome
