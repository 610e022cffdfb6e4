import os
import signal

import pytest
from grading_kit import ASSIGNMENT, make_class, mixed_class, setting, slow

from tlkit.course.errors import CourseError
from tlkit.course.grading import executors
from tlkit.course.grading.executors import distributed, threads
from tlkit.course.grading.pipeline import grade
from tlkit.course.grading.rows import result_to_json
from tlkit.course.grading.store import Store

dask = pytest.importorskip("distributed", reason="dask（任意の追加）がない")


def results(folder, roster, path, pool, listener=None):
    with Store(path) as store:
        grade(folder, roster, setting(slow), store, pool, listener=listener)
        return [(row.entry.student, result_to_json(row.result)) for row in store.rows(ASSIGNMENT.slug)]


@pytest.fixture(scope="module")
def cluster():
    with dask.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as made:
        yield made


def test_dask_with_a_killed_worker_gives_the_same_bytes_as_one_thread(cluster, tmp_path):
    roster = make_class(tmp_path / "in", mixed_class(30))
    with threads(1) as pool:
        serial = results(tmp_path / "in", roster, tmp_path / "serial.sqlite", pool)
    killed = []

    def kill_a_worker(progress):
        if progress.done >= 8 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    with distributed(cluster.scheduler_address) as pool:
        assert pool.size == 2
        spread = results(tmp_path / "in", roster, tmp_path / "dask.sqlite", pool, kill_a_worker)
    assert spread == serial
    assert killed and killed[0] not in [worker.pid for worker in cluster.workers.values()]


def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 1)
    with pytest.raises(CourseError, match="つながりません"), distributed("tcp://127.0.0.1:9"):
        pass


@pytest.mark.parametrize("address", ["", "nonsense://x", "127.0.0.1:notaport"])
def test_an_address_that_is_no_address_is_told(address):
    with pytest.raises(CourseError, match="つながりません"), distributed(address):
        pass


def test_an_encrypted_scheduler_without_a_certificate_is_told():
    with pytest.raises(CourseError, match="つながりません"), distributed("tls://127.0.0.1:9"):
        pass
