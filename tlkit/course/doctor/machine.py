"""メモリ、ディスク、ネットワークを調べる。"""

import shutil
import socket
from pathlib import Path

import psutil

from tlkit.course.doctor.finding import Finding, fault, note, ok
from tlkit.course.doctor.folders import cache_folder, nearest
from tlkit.course.errors import CourseError
from tlkit.course.paths import work_root

GB = 1024**3
# 1 章は 3 GB に収まるように作ってある。1.5 GB を切ると、PyTorch と重みを読むだけで止まることがある。
MEMORY_NOTE, MEMORY_FAULT, DISK_FAULT = 3 * GB, int(1.5 * GB), 2 * GB
# 文書用に予約された、誰も使っていない住所（RFC 5737）。UDP の connect は道筋を調べるだけで、何も送らない。
NOWHERE = ("192.0.2.1", 9)
# コンテナのメモリの上限が書かれている場所（Linux だけ）。
CGROUP = Path("/sys/fs/cgroup")


def memory() -> Finding:
    """空きメモリ。"""
    name, free = "空きメモリ", available_memory()
    seen = f"{free / GB:.1f} GB"
    fix = "ほかのソフトやノートブックのカーネルを閉じてください（メニューの「カーネル」→「すべてのカーネルをシャットダウン」）。"
    if free < MEMORY_FAULT:
        return fault(name, f"{seen}しかない（1.5 GB以上が必要）", fix)
    return note(name, f"{seen}（3 GB以上が目安）", fix) if free < MEMORY_NOTE else ok(name, seen)


def available_memory() -> int:
    """使えるメモリ [バイト]。コンテナの上限があれば、そちらも見る。"""
    free = int(psutil.virtual_memory().available)
    limit, used = (CGROUP / file for file in ("memory.max", "memory.current"))
    try:
        return min(free, int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")))
    except (OSError, ValueError):  # コンテナではないか、上限なし（"max"）
        return free


def disk() -> Finding:
    """キャッシュと作業フォルダのあるディスクの空き。"""
    name = "空きディスク"
    places = {"キャッシュ": cache_folder(), "作業フォルダ": _work_or_here()}
    free = {label: shutil.disk_usage(nearest(folder)).free for label, folder in places.items()}
    tight = [label for label, size in free.items() if size < DISK_FAULT]
    seen = "、".join(f"{label} {size / GB:.1f} GB" for label, size in free.items())
    if not tight:
        return ok(name, seen)
    where = "、".join(str(nearest(places[label])) for label in tight)
    return fault(
        name, f"{seen}（2 GB以上が必要）", f"{where} のあるディスクの不要なファイルを消して、2 GB以上空けてください。"
    )


def network() -> Finding:
    """外への道があるか。なくても全章が動くので、note にとどめる。"""
    name = "ネットワーク"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(1.0)
            probe.connect(NOWHERE)
    except OSError:
        return note(name, "つながっていない", "ネットワークなしでも全章が動きます。")
    return ok(name, "外への経路あり（なくても全章が動く）")


def _work_or_here() -> Path:
    try:
        return work_root()
    except CourseError:
        return Path.cwd()
