"""測り方。A、B、A、B、… と交互に動かし、同じ回の組で比を取る。記憶は、新しいプロセスで測る。

何を測るかは `mmd.py`、`transferability.py`、`finetune.py` にある。
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pytorch-adapt",
    "pytorch-metric-learning",
    "torchdistill",
)
Call = Callable[[], object]


def one_thread() -> None:
    """計算に使うスレッドを 1 本にする。ほかの仕事の影響と、スレッドの取り合いを避けるため。"""
    torch.set_num_threads(1)
    threadpool_limits(1)


def interleave(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """それぞれを順に 1 回ずつ動かすことを rounds 回くり返し、かかった秒を返す。初めの 1 回は数えない。"""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for step in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if step:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    """中央値、最小、最大。"""
    scaled = [value * scale for value in values]
    return {"median": statistics.median(scaled), "min": min(scaled), "max": max(scaled)}


def compare(ours: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """tlkit の時間と、相手ごとの時間と比（同じ回どうしの比の中央値と幅）。"""
    peers = {
        name: {
            "ms": spread(times, 1e3),
            "ratio": spread([a / b for a, b in zip(seconds[ours], times, strict=True)]),
        }
        for name, times in seconds.items()
        if name != ours
    }
    return {"rounds": len(seconds[ours]), "ms": spread(seconds[ours], 1e3), "peers": peers}


def extra_memory(prepare: Callable[..., Call], *arguments: object) -> float | None:
    """prepare(*arguments) が返す関数を 1 回動かすあいだに増えた、常駐メモリの最大 [MiB]。Linux でだけ測れる。"""
    if sys.platform != "linux":
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_growth, prepare, *arguments).result()


def _growth(prepare: Callable[..., Call], *arguments: object) -> float:
    one_thread()
    call = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 最大値の記録を、今の値に戻す
    before = psutil.Process().memory_info().rss
    call()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return (peak - before) / 2**20


def options(description: str, rounds: int) -> argparse.Namespace:
    """共通の引数。"""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tiny", action="store_true", help="小さな大きさで、動くことだけを確かめる")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"交互にくり返す回数（既定 {rounds}、7 以上）")
    parser.add_argument("--out", type=Path, help="結果の JSON の置き場（既定は benchmarks/results）")
    chosen = parser.parse_args()
    if chosen.rounds < 7 and not chosen.tiny:
        parser.error(f"--rounds に {chosen.rounds} が渡されました。中央値を取るので、7 以上にしてください。")
    return chosen


def surroundings() -> dict[str, Any]:
    """版、機械、そのときの混み具合。"""
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES if name in installed},
        "hardware": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "os": f"{platform.system()} {platform.machine()}",
        },
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in psutil.getloadavg()],
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def save(name: str, content: dict[str, Any], out: Path | None, *, tiny: bool) -> None:
    """結果を書く。--tiny の結果で、記録してある結果を上書きしない。"""
    path = out or (None if tiny else RESULTS / f"{name}.json")
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(f"\n結果を {path.name} に書きました。")


def label(size: dict[str, int]) -> str:
    """大きさの短い書き方（例: n=256, d=64）。"""
    return ", ".join(f"{name}={value}" for name, value in size.items())


def show(rows: list[dict[str, Any]]) -> None:
    """結果の表（Markdown）。"""
    print("| 測ったもの | 相手 | tlkit [ms] | 相手 [ms] | 比の中央値（最小–最大） |\n|---|---|---|---|---|")
    for row in rows:
        for peer, result in row["peers"].items() or [("（なし）", None)]:
            ours, title = f"{row['ms']['median']:.3g}", f"{row['name']}（{label(row['size'])}）"
            if result is None:
                print(f"| {title} | {peer} | {ours} | | |")
                continue
            ratio = result["ratio"]
            bounds = f"{ratio['median']:.3f}（{ratio['min']:.3f}–{ratio['max']:.3f}）"
            print(f"| {title} | {peer} | {ours} | {result['ms']['median']:.3g} | {bounds} |")
