"""設定の総当たり: 止めても続きから測れること、executor や終わった順によらないこと、別の結果を混ぜないこと。"""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
import sweep_tasks
from sweep_tasks import SEEDS, SETTINGS, Inline, logged, logged_settings, value

from tlkit.distill.sweep import Trial, sweep

HERE = Path(__file__).resolve().parent


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "sweep.jsonl"


def measure(store: Path, run: Any = value, settings: Any = SETTINGS, seeds: Any = SEEDS, **options: Any) -> list[Trial]:
    return sweep(run, settings, seeds=seeds, store=store, **{"fingerprint": "a", "executor": Inline(), **options})


def as_bytes(trials: list[Trial]) -> bytes:
    return json.dumps([asdict(trial) for trial in trials]).encode()


def refuse(*_: Any) -> None:
    pytest.fail("済んだ組を測り直しました")


def runs(log: Path) -> Counter[str]:
    return Counter(log.read_text(encoding="utf-8").splitlines()) if log.exists() else Counter()


class TestResults:
    def test_any_executor_gives_equal_bytes(self, tmp_path: Path) -> None:
        serial = measure(tmp_path / "serial")
        with ThreadPoolExecutor(4) as threads, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
            for name, pool in (("threads", threads), ("processes", processes)):
                assert as_bytes(measure(tmp_path / name, executor=pool)) == as_bytes(serial)
        assert [(t.setting, t.seed) for t in serial] == [(s, seed) for s in SETTINGS for seed in SEEDS]
        assert all(t.result == value(t.setting, t.seed) for t in serial)
        written = {name: (tmp_path / name).read_text(encoding="utf-8").splitlines() for name in ("serial", "threads")}
        assert sorted(written["serial"]) == sorted(written["threads"])
        assert written["serial"] != written["threads"], "終わった順が違わないので、検査になっていません"

    def test_a_clusters_executor(self, tmp_path: Path) -> None:
        dask = pytest.importorskip("distributed", reason="dask（任意の追加）がない")
        with dask.Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as client:
            trials = measure(tmp_path / "dask", executor=client.get_executor(pure=False))
        assert as_bytes(trials) == as_bytes(measure(tmp_path / "serial"))

    def test_the_default_is_one_thread_per_process(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        trials = measure(store, sweep_tasks.threads, [{}], (0, 1), executor=None)
        assert [trial.result for trial in trials] == [1, 1]

    def test_finished_tasks_are_not_run_again(self, store: Path) -> None:
        first = measure(store)
        before = store.read_bytes()
        assert as_bytes(measure(store, refuse)) == as_bytes(first)
        assert store.read_bytes() == before
        fewer = measure(store, refuse, SETTINGS[::-1][:2], (7,))
        assert [(t.setting, t.seed) for t in fewer] == [(SETTINGS[5], 7), (SETTINGS[4], 7)]

    def test_settings_and_seeds_may_be_added(self, store: Path, tmp_path: Path) -> None:
        log = tmp_path / "log"
        measure(store, logged, logged_settings(log)[:2], (0,))
        measure(store, logged, logged_settings(log)[:3], (0, 1))
        assert len(runs(log)) == 6 and set(runs(log).values()) == {1}

    def test_fresh_and_stored_results_are_the_same(self, store: Path) -> None:
        def odd(setting: dict, seed: int) -> Any:
            return {"組": (1, 0.1 + 0.2), "nan": math.nan, 3: "改行\r\n\u2028"}

        fresh, stored = measure(store, odd, [{}], (0,)), measure(store, refuse, [{}], (0,))
        assert as_bytes(fresh) == as_bytes(stored)
        assert fresh[0].result["組"] == [1, 0.1 + 0.2] and fresh[0].result["3"] == "改行\r\n\u2028"


class TestKilled:
    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL がない")
    def test_kill_in_the_middle_and_go_on(self, tmp_path: Path) -> None:
        log, store = tmp_path / "log", tmp_path / "store"
        running = subprocess.Popen([sys.executable, str(HERE / "sweep_tasks.py"), str(log), str(store)])
        wait_for(lambda: store.exists() and store.read_bytes().count(b"\n") >= 4)
        with pytest.raises(ValueError, match="ほかのプロセスが使っています"):
            measure(store, fingerprint="kill")
        workers = psutil.Process(running.pid).children(recursive=True)
        running.kill()
        running.wait()
        wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))
        done = store.read_bytes().count(b"\n") - 1
        assert 3 <= done < 30
        trials = measure(store, logged, logged_settings(log, 0.3), range(5), fingerprint="kill", executor=Inline())
        assert [t.result for t in trials] == [x + seed / 10 for x in range(6) for seed in range(5)]
        assert len(runs(log)) == 30
        assert sum(runs(log).values()) - 30 <= len(workers), "測り直すのは、止めたときに動いていた組だけ"

    @pytest.mark.parametrize("cut", [1, 2, 25])
    def test_a_torn_last_line_is_redone(self, store: Path, tmp_path: Path, cut: int) -> None:
        log = tmp_path / "log"
        whole = measure(store, logged, logged_settings(log), (0,))
        content = store.read_bytes()
        store.write_bytes(content[:-cut])
        assert measure(store, logged, logged_settings(log), (0,)) == whole
        assert store.read_bytes() == content
        assert sorted(runs(log).values()) == [1] * 5 + [2]

    def test_a_torn_header_is_redone(self, store: Path) -> None:
        measure(store)
        content = store.read_bytes()
        for kept in (b"", content[:10]):
            store.write_bytes(kept)
            assert len(measure(store)) == 18
            assert sorted(store.read_bytes().splitlines()) == sorted(content.splitlines())

    def test_an_interrupt_leaves_what_is_finished(self, store: Path) -> None:
        done, go_on = [], threading.Event()

        def interrupted(setting: dict, seed: int) -> int:
            if len(done) == 4:
                done.append("stopped")
                raise KeyboardInterrupt
            if len(done) > 4:
                go_on.wait(60)
            done.append(seed)
            return seed

        with ThreadPoolExecutor(1) as pool:
            with pytest.raises(KeyboardInterrupt):
                measure(store, interrupted, executor=pool)
            assert store.read_bytes().count(b"\n") == 1 + 4
            go_on.set()
            assert pool.submit(int, "3").result(timeout=60) == 3, "渡された executor は閉じない"
        assert len(done) == 6, "待っていた組は取り消す"
        again = []
        measure(store, lambda setting, seed: again.append(seed))
        assert len(again) == 18 - 4

    def test_each_result_is_kept_before_all_are_finished(self, store: Path) -> None:
        def second_waits(setting: dict, seed: int) -> None:
            if seed:
                wait_for(lambda: store.read_bytes().count(b"\n") == 1 + seed)

        with ThreadPoolExecutor(1) as pool:
            measure(store, second_waits, [{}], range(4), executor=pool)

    def test_a_dead_worker_is_told(self, store: Path) -> None:
        with (
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
            pytest.raises(RuntimeError, match="途中で落ちました"),
        ):
            measure(store, sweep_tasks.dies_at_two, [{}], range(5), executor=pool)
        assert store.read_bytes().count(b"\n") == 1 + 2


class TestFailures:
    def test_the_others_finish_and_the_broken_ones_are_retried(self, store: Path, tmp_path: Path) -> None:
        log = tmp_path / "log"
        broken = logged_settings(log)
        broken[1]["broken"] = broken[4]["broken"] = True
        with ThreadPoolExecutor(3) as pool, pytest.raises(ExceptionGroup, match="12 組のうち 4 組") as caught:
            measure(store, logged, broken, (5, 6), executor=pool)
        errors = caught.value.exceptions
        assert all(isinstance(error, ZeroDivisionError) for error in errors)
        told = [error.__notes__[0] for error in errors]
        assert [("'x': 1" in note, "種 5" in note) for note in told] == [(True, True), (True, False), (False, True), (False, False)]  # fmt: skip
        assert sum(runs(log).values()) == 12
        with pytest.raises(ExceptionGroup, match="4 組のうち 4 組"):
            measure(store, logged, broken, (5, 6))
        assert sum(runs(log).values()) == 16

    def test_a_result_that_is_not_json_is_a_failure_of_that_setting(self, store: Path) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            measure(store, lambda setting, seed: {1, 2} if seed == 0 else seed, [{"a": 1}], (0, 1))
        assert isinstance(caught.value.exceptions[0], TypeError) and "'a': 1" in caught.value.exceptions[0].__notes__[0]
        assert measure(store, lambda setting, seed: 9, [{"a": 1}], (0, 1))[1].result == 1

    @pytest.mark.parametrize(
        "settings", [[{"a": (1, 2)}], [{"a": 1}, {"a": 1}], [{"a": object()}], [{3: 1}], [{"a": math.nan}]]
    )
    def test_settings_that_json_cannot_keep_are_refused(self, store: Path, settings: Any) -> None:
        with pytest.raises(ValueError, match="使えません"):
            measure(store, refuse, settings)
        assert not store.exists()


class TestStore:
    def test_another_fingerprint_is_refused_and_nothing_is_lost(self, store: Path) -> None:
        measure(store)
        before = store.read_bytes()
        with pytest.raises(ValueError, match="別のコードや設定"):
            measure(store, refuse, fingerprint="b")
        assert store.read_bytes() == before

    @pytest.mark.parametrize("content", [b"\n", b"my notes", b"my notes\n", b'{"rows": []}\n', b"\x00\xff"])
    def test_another_file_is_refused_and_nothing_is_lost(self, store: Path, content: bytes) -> None:
        store.parent.mkdir()
        store.write_bytes(content)
        with pytest.raises(ValueError, match="結果のファイルではありません"):
            measure(store, refuse)
        assert store.read_bytes() == content

    @pytest.mark.parametrize("line", [b"{", b"\xff", b"[]", b'{"setting": {}, "seed": 1}', b"3"])
    def test_a_broken_line_in_the_middle_is_refused(self, store: Path, line: bytes) -> None:
        measure(store)
        lines = store.read_bytes().split(b"\n")
        lines[3] = line
        store.write_bytes(b"\n".join(lines))
        before = store.read_bytes()
        with pytest.raises(ValueError, match="4 行目"):
            measure(store, refuse)
        assert store.read_bytes() == before


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("待っても起きませんでした")
