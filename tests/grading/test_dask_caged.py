"""本物の檻を dask のワーカーで動かす。途中でワーカーが殺されても、一台で順に進めたときと同じ報告になる。"""

import os
import random
import signal
import time

import pytest
from class_kit import real_class
from durable_kit import FINISHED, Job, adopting, decided, wait_until_gone

dask = pytest.importorskip("distributed", reason="dask（任意の追加）がない")

pytestmark = pytest.mark.linux
PUPILS = 6
KINDS = ("right", "wrong", "partial", "right", "wrong", "broken")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """二つのワーカー。一つのワーカーの中でも、二つのスレッドが檻を見張る。"""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "workers").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "workers"))
    with dask.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as made:
        yield made


def _kill_a_worker(cluster, job, child):
    """結果が一つ以上決まり、まだ残りがあるうちに、片方のワーカーを殺す。殺したものの番号を返す。"""
    while child.poll() is None:
        if 2 <= decided(job) < PUPILS:
            victim = random.choice(list(cluster.workers.values())).pid
            os.kill(victim, signal.SIGKILL)
            return victim
        time.sleep(0.05)
    raise AssertionError(f"殺す前に終わった: {job.screen}")


def test_dask_with_a_killed_worker_gives_the_bytes_of_one_by_one(tmp_path, cluster):
    folder = tmp_path / "school"
    real_class(folder, PUPILS, kinds=KINDS)
    serial = Job(folder, tmp_path / "serial" / "grades.sqlite", tmp_path / "temp", ("--jobs", "1"))
    spread = Job(
        folder, tmp_path / "dask" / "grades.sqlite", tmp_path / "temp", ("--scheduler", cluster.scheduler_address)
    )
    serial.finish()
    with adopting() as orphans:
        child = spread.start()
        victim = _kill_a_worker(cluster, spread, child)
        assert child.wait() in FINISHED, spread.screen
        assert victim not in [worker.pid for worker in cluster.workers.values()]
        assert spread.reports(tmp_path / "r2") == serial.reports(tmp_path / "r1")
        counted = spread.tables()
        assert counted.broken == 0
        assert counted.attempts == counted.endings == serial.tables().endings  # 一度ずつしか判定しない
        cluster.close()
        wait_until_gone(orphans)
    assert list((tmp_path / "temp").iterdir()) == []
    assert len(list((tmp_path / "workers").iterdir())) <= 1  # 殺されたワーカーの写しだけは、片づける人がいない
