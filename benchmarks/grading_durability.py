"""採点の記録の丈夫さ。本物の `tlkit grade` と本物の檻で、でたらめな時刻の SIGKILL、やり直し、dask を試す。

python benchmarks/grading_durability.py                     # 200 人、50 回以上の SIGKILL、10 回のやり直し、dask
python benchmarks/grading_durability.py --only kill --window 12
python benchmarks/grading_durability.py --tiny              # 動くことだけを確かめる

どの場面でも、報告（JSON、CSV、HTML、返却）が、何事もなく終わった採点と 1 バイトも違わないことを確かめる。違えば止まる。
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _timing import one_thread, save, surroundings

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "grading"))
from class_kit import MIX, SLUG, real_class
from durable_kit import FINISHED, Deaths, Job, adopting, decided, kill_until_finished, wait_until_gone

PARTS = ("kill", "regrade", "dask")


@dataclass(frozen=True)
class Scene:
    """試す場。

    Attributes:
        folder: 全部を置くフォルダ。
        calm: 何事もなく終わった採点。
        expected: その報告。ファイルの名前 → 中身。
        seconds: それにかかった秒。
    """

    folder: Path
    calm: Job
    expected: dict[str, bytes]
    seconds: float

    def job(self, name: str, *options: str) -> Job:
        """同じ学級の、新しい記録での採点。"""
        store = self.folder / name / "grades.sqlite"
        return Job(self.folder / "school", store, self.folder / "temp", options or ("--jobs", "2"))

    def check(self, job: Job, name: str) -> None:
        """報告が、何事もなく終わった採点と 1 バイトも違わないこと。"""
        assert job.reports(self.folder / f"{name}-report") == self.expected, f"{name} の報告が違います。"


def main() -> None:
    """試し、表を出し、JSON に書く。"""
    chosen = _options()
    one_thread()
    content: dict[str, Any] = {"benchmark": "grading_durability", **surroundings()}
    content["class"] = {"pupils": chosen.pupils, "slug": SLUG, "mix": MIX}
    with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as made:
        folder = Path(made)
        real_class(folder / "school", chosen.pupils)
        calm = Job(folder / "school", folder / "calm" / "grades.sqlite", folder / "temp")
        seconds = content["calm_seconds"] = calm.finish()
        print(f"何事もなく終わった採点: {seconds:.1f} 秒、{calm.tables()}", flush=True)
        scene = Scene(folder, calm, calm.reports(folder / "calm-report"), seconds)
        for part in chosen.only:
            content[part] = _RUN[part](scene, chosen)
            print(f"{part}: {content[part]}", flush=True)
    save("grading_durability", content, chosen.out, tiny=chosen.tiny)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="採点の記録の丈夫さを試します。")
    parser.add_argument("--tiny", action="store_true", help="数人で、動くことだけを確かめる")
    parser.add_argument("--pupils", type=int, help="学級の人数（既定 200、--tiny では 4）")
    parser.add_argument("--kills", type=int, help="SIGKILL の回数（既定 50、--tiny では 1）")
    parser.add_argument("--window", type=float, help="始めてから殺すまでの秒の上限（既定は、終わるまでの秒から決める）")
    parser.add_argument("--regrades", type=int, help="やり直す回数（既定 10、--tiny では 1）")
    parser.add_argument("--only", default=",".join(PARTS), help=f"試すこと（{'、'.join(PARTS)}）")
    parser.add_argument("--seed", type=int, default=0, help="殺す時刻の乱数の種（既定 0）")
    parser.add_argument("--out", "--json", type=Path, help="結果の JSON の置き場（既定は benchmarks/results）")
    chosen = parser.parse_args()
    small = chosen.tiny
    chosen.pupils = chosen.pupils or (4 if small else 200)
    chosen.kills = chosen.kills or (1 if small else 50)
    chosen.regrades = chosen.regrades or (1 if small else 10)
    chosen.only = chosen.only.split(",")
    if unknown := set(chosen.only) - set(PARTS):
        parser.error(f"--only に {'、'.join(sorted(unknown))} はありません（{'、'.join(PARTS)}）。")
    return chosen


def _kill(scene: Scene, chosen: argparse.Namespace) -> dict[str, Any]:
    """一つの記録を、終わるまで殺し続ける。回数が足りなければ、新しい記録でくり返す。"""
    rng, deaths, rounds, interrupted = random.Random(chosen.seed), Deaths(), 0, 0
    window = chosen.window or max(2.0, scene.seconds / 5)
    began = time.perf_counter()
    while len(deaths.seconds) < chosen.kills:
        rounds += 1
        job = scene.job(f"killed-{rounds}")
        kill_until_finished(job, window, rng, deaths)
        scene.check(job, f"killed-{rounds}")
        found, wanted = job.tables(), scene.calm.tables()
        assert (found.grades, found.students, found.endings) == (wanted.grades, wanted.students, wanted.endings), found
        assert found.broken == 0
        interrupted += found.attempts - found.endings
        print(f"  {rounds} 回目の学級: SIGKILL はここまで {len(deaths.seconds)} 回、{found}", flush=True)
    return {
        "kills": len(deaths.seconds),
        "rounds": rounds,
        "window_seconds": window,
        "kill_after_seconds": _spread(deaths.seconds),
        "interrupted_attempts": interrupted,
        "most_orphans": deaths.peak,
        "orphans_gone_after_seconds": _spread(deaths.waits),
        "left_in_temp": sum(1 for _ in (scene.folder / "temp").iterdir()),
        "seconds": time.perf_counter() - began,
    }


def _regrade(scene: Scene, chosen: argparse.Namespace) -> dict[str, Any]:
    """同じ記録で、同時に動かす数を変えながら、全員を動かし直す。"""
    seconds = []
    for number in range(1, chosen.regrades + 1):
        job = scene.job("calm", "--jobs", str(1 + number % 3))
        seconds.append(job.finish("regrade"))
        scene.check(job, f"regrade-{number}")
    assert scene.calm.tables().broken == 0
    return {"regrades": len(seconds), "seconds": _spread(seconds), "jobs": [1, 2, 3]}


def _dask(scene: Scene, chosen: argparse.Namespace) -> dict[str, Any]:
    """二つのワーカーで動かし、半分ほど終わったところで、片方を殺す。"""
    from distributed import LocalCluster

    temp = scene.folder / "workers"
    temp.mkdir()
    os.environ |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(temp)}
    began = time.perf_counter()
    with LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1") as cluster:
        job = scene.job("dask", "--scheduler", cluster.scheduler_address)
        with adopting() as orphans:
            child = job.start()
            while (done := decided(job)) < chosen.pupils // 2:
                assert child.poll() is None, job.screen
                time.sleep(0.05)
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
            assert child.wait() in FINISHED, job.screen
            seconds = time.perf_counter() - began
            cluster.close()
            waited = wait_until_gone(orphans)
    scene.check(job, "dask")
    assert job.tables().broken == 0
    left = sum(1 for _ in temp.iterdir())
    return {"killed_after": done, "seconds": seconds, "orphans_gone_after_seconds": waited, "left_in_temp": left}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


_RUN = {"kill": _kill, "regrade": _regrade, "dask": _dask}

if __name__ == "__main__":
    main()
