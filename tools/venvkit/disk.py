"""受け取る前に、空き容量が足りるかを確かめる。置き場所が同じディスクなら、必要な量を足し合わせる。"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from venvkit import venv
from venvkit.messages import BootstrapError
from venvkit.plan import Plan

MARGIN_MB = 300


def nearest(path: Path) -> Path:
    """まだ無いフォルダなら、いちばん近い実在する親。"""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def cache_folder(folder: Path) -> Path | None:
    """pip が受け取ったものを取っておく場所。使わない設定なら None。"""
    done = subprocess.run(
        venv.command(folder, "-m", "pip", "cache", "dir"), capture_output=True, encoding="utf-8", check=False
    )
    told = done.stdout.strip()
    return Path(told) if done.returncode == 0 and told else None


def requirements(folder: Path, plan: Plan, cache: Path | None) -> list[tuple[str, Path, int]]:
    """（何のため, どこに, 何 MB）の一覧。"""
    wants = [
        ("仮想環境", folder, plan.unpacked_mb + MARGIN_MB),
        ("一時ファイル", Path(tempfile.gettempdir()), plan.largest_mb),
    ]
    return [*wants, ("pip のキャッシュ", cache, plan.download_mb)] if cache else wants


def check(folder: Path, plan: Plan, cache: Path | None) -> None:
    """空き容量を確かめる。

    Raises:
        BootstrapError: どこかのディスクで足りないとき。何も受け取らないうちに止める。
    """
    disks: dict[int, list[tuple[str, Path, int]]] = {}
    for purpose, path, amount in requirements(folder, plan, cache):
        place = nearest(path)
        disks.setdefault(os.stat(place).st_dev, []).append((purpose, place, amount))  # noqa: PTH116
    for uses in disks.values():
        need = sum(amount for _, _, amount in uses)
        free = shutil.disk_usage(uses[0][1]).free // 1_000_000
        if free < need:
            raise BootstrapError(_explain(uses, need, free))


def _explain(uses: list[tuple[str, Path, int]], need: int, free: int) -> str:
    lines = [f"  {purpose}: {amount / 1000:.1f} GB（{place}）" for purpose, place, amount in uses]
    return "\n".join(
        [
            f"ディスクの空きが足りません。必要な量は約 {need / 1000:.1f} GB、空きは {free / 1000:.1f} GB です。",
            *lines,
            "まだ何も受け取っていません。空きを増やしてから、同じコマンドをもう一度実行してください。",
            "一時ファイルの場所は環境変数 TMPDIR、pip のキャッシュの場所は PIP_CACHE_DIR で変えられます。",
            "キャッシュを使わないなら PIP_NO_CACHE_DIR=1、Linux で GPU を使わないなら CPU=1 を付けると少なく済みます。",
        ]
    )
