"""学級の採点の速さ。本物の `tlkit grade` を、檻ごと、まっさらな状態から動かす。相手は nbclient と nbgrader。

python benchmarks/grading.py                  # 200 人。測って results/grading.json に書く
python benchmarks/grading.py --peers 20       # 相手は初めの 20 人だけ（残りは、人数の比で見積もると明記する）
python benchmarks/grading.py --tiny           # 動くことだけを確かめる
"""

import argparse
import importlib.metadata
import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from _timing import one_thread, save, surroundings

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "grading"))
from _grading_peers import by_nbclient, by_nbgrader
from class_kit import MIX, SLUG, Pupil, real_class
from durable_kit import Job

MODES = ("zygote", "process")
PACKAGES = ("nbclient", "nbgrader", "ipykernel", "ipython")
GOAL = 60.0


def main() -> None:
    """測り、表を出し、JSON に書く。"""
    chosen = _options()
    one_thread()
    around = surroundings()
    around["versions"] |= {name: importlib.metadata.version(name) for name in PACKAGES}
    with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as made:
        folder = Path(made)
        pupils = real_class(folder / "school", chosen.pupils)
        runs = _ours(folder, pupils, chosen)
        peers = _peers(folder, pupils, chosen)
    content = {
        "benchmark": "grading",
        **around,
        "class": {"pupils": len(pupils), "slug": SLUG, "mix": MIX, "questions": 7},
        "goal_seconds": GOAL,
        "runs": runs,
        "peers": [peer | _against(peer, runs, len(pupils)) for peer in peers],
    }
    _show(content)
    save("grading", content, chosen.out, tiny=chosen.tiny)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="学級の採点の速さを測ります。")
    parser.add_argument("--tiny", action="store_true", help="数人で、動くことだけを確かめる")
    parser.add_argument("--pupils", type=int, help="学級の人数（既定 200、--tiny では 4）")
    parser.add_argument("--jobs", default="1,2,3", help="同時に動かす数（既定 1,2,3）")
    parser.add_argument("--modes", default=",".join(MODES), help=f"檻の始め方（{'、'.join(MODES)}）")
    parser.add_argument("--peers", type=int, help="相手に渡す人数（既定は全員、--tiny では 1。0 なら測らない）")
    parser.add_argument("--whole", action="store_true", help="相手に、合格後のセルも動かさせる（とても長い）")
    parser.add_argument("--out", "--json", type=Path, help="結果の JSON の置き場（既定は benchmarks/results）")
    chosen = parser.parse_args()
    chosen.pupils = chosen.pupils or (4 if chosen.tiny else 200)
    chosen.peers = min(chosen.pupils, (1 if chosen.tiny else chosen.pupils) if chosen.peers is None else chosen.peers)
    chosen.jobs = [int(one) for one in chosen.jobs.split(",")]
    chosen.modes = chosen.modes.split(",")
    if unknown := set(chosen.modes) - set(MODES):
        parser.error(f"--modes に {'、'.join(sorted(unknown))} はありません（{'、'.join(MODES)}）。")
    return chosen


def _ours(folder: Path, pupils: list[Pupil], chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """どの始め方、どの数でも、報告が同じバイト列になることと、点数が作ったとおりであることを確かめながら測る。"""
    runs: list[dict[str, Any]] = []
    first: dict[str, bytes] = {}
    for mode in chosen.modes:
        for jobs in chosen.jobs:
            place = folder / f"{mode}-{jobs}"
            options = ("--jobs", str(jobs))
            job = Job(folder / "school", place / "grades.sqlite", folder / "temp", options, mode)
            seconds = job.finish()
            reports = job.reports(place / "report")
            first = first or reports
            assert reports == first, f"{mode}、{jobs} 本の報告が、初めの報告と違います。"
            right = _as_expected(job, pupils)
            assert right == len(pupils), f"{len(pupils) - right} 人の点数が、作ったときに決めた点数と違います。"
            runs.append({"mode": mode, "jobs": jobs, "seconds": seconds, "each": _median(job), "as_expected": right})
            print(f"{mode}、{jobs} 本: {seconds:.1f} 秒", flush=True)
    return runs


def _as_expected(job: Job, pupils: list[Pupil]) -> int:
    from tlkit.course.grading.store import Store

    with Store(job.store) as store:
        rows = {row.entry.student: row.result for row in store.rows(SLUG)}
    return sum(
        rows[pupil.student].state == "needs_human"
        if pupil.points is None
        else rows[pupil.student].points == pupil.points
        for pupil in pupils
    )


def _median(job: Job) -> float:
    """檻を使った提出の、檻の中にいた秒の中央値。"""
    with closing(sqlite3.connect(job.store)) as connection:
        return statistics.median(row[0] for row in connection.execute("SELECT seconds FROM endings WHERE seconds > 0"))


def _peers(folder: Path, pupils: list[Pupil], chosen: argparse.Namespace) -> list[dict[str, Any]]:
    some = pupils[: chosen.peers]
    if not some:
        return []
    found = []
    for whole in (False, True) if chosen.whole else (False,):
        found.append(by_nbclient(some, max(chosen.jobs), whole=whole))
        print(f"nbclient: {found[-1]['seconds']:.1f} 秒", flush=True)
        found.append(by_nbgrader(some, folder / f"nbgrader-{whole}", whole=whole))
        print(f"nbgrader: {found[-1]['seconds']:.1f} 秒", flush=True)
    return found


def _against(peer: dict[str, Any], runs: list[dict[str, Any]], everyone: int) -> dict[str, Any]:
    """全員にかかる秒（一部だけ測ったときは、人数の比で見積もった値）と、tlkit のいちばん速い設定との比。"""
    seconds = peer["seconds"] * everyone / peer["pupils"]
    best = min(run["seconds"] for run in runs)
    return {"extrapolated": peer["pupils"] < everyone, "class_seconds": seconds, "ratio": best / seconds}


def _show(content: dict[str, Any]) -> None:
    everyone = content["class"]["pupils"]
    print(f"\n学級: {everyone} 人（{MIX}）。負荷: {content['load']}\n")
    print(
        f"| 採点したもの | 同時に | {everyone} 人の秒 | 一人の中央値 [秒] | 点数が合った人 | 比 |\n|---|---|---|---|---|---|"
    )
    for run in content["runs"]:
        name = f"tlkit grade（{run['mode']}）"
        print(
            f"| {name} | {run['jobs']} | {run['seconds']:.1f} | {run['each']:.2f} | {run['as_expected']}/{everyone} | |"
        )
    for peer in content["peers"]:
        note = f"（{peer['pupils']} 人からの見積もり）" if peer["extrapolated"] else ""
        each = f"{peer['each']:.2f}" if "each" in peer else f"{peer['seconds'] / peer['pupils']:.2f}（平均）"
        print(
            f"| {peer['name']}（{peer['cells']}） | {peer['jobs']} | {peer['class_seconds']:.0f}{note} | {each} "
            f"| {peer['as_expected']}/{peer['pupils']} | {peer['ratio']:.4f} |"
        )


if __name__ == "__main__":
    main()
