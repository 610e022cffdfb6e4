"""結果の記録: 書いたものがそのまま読め、途中で止めても済んだ種を失わない。"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import _record
import pytest

from tlkit import results

ROOT = Path(__file__).resolve().parents[2]
TOY = """
import time
from pathlib import Path
from _record import Experiment, chosen, main

LOG = Path(__file__).with_name("log.txt")

def run(seed, settings):
    with LOG.open("a") as log:
        log.write(f"{seed}\\n")
    time.sleep(settings["wait"])
    return [{"method": m, "n": n, "value": seed + n + 1 / 3} for m in ("a", "b") for n in (1, 2)]

def summarise(rows):
    return [{"total": sum(row["value"] for row in rows)}]

if __name__ == "__main__":
    here = Path(__file__).resolve()
    main(
        Experiment("01_toy", "模型", "模型の実験", run, lambda: {"wait": WAIT}, here, (0, 1), summarise=summarise),
        Experiment("01_toy_dev", "模型の開発", "開発", run, lambda: {"wait": 0}, here, (100, 101), "--dev"),
    )
"""


class Toy:
    """記録係の写しと、小さなスクリプトを置いたフォルダ。"""

    def __init__(self, root: Path, wait: float = 0.0) -> None:
        self.root, self.folder = root, root / "experiments"
        (self.folder / "results").mkdir(parents=True)
        shutil.copy(ROOT / "experiments" / "_record.py", self.folder)
        self.script = self.folder / "01_toy.py"
        self.write(wait)

    def write(self, wait: float) -> None:
        self.script.write_text(TOY.replace("WAIT", str(wait)), encoding="utf-8")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, str(self.script), *arguments]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == code, output
        return output

    @property
    def log(self) -> list[str]:
        return (self.folder / "log.txt").read_text(encoding="utf-8").split()

    def record(self, name: str = "01_toy") -> dict:
        return json.loads((self.folder / "results" / f"{name}.json").read_text(encoding="utf-8"))

    def load(self, monkeypatch: pytest.MonkeyPatch, name: str = "01_toy") -> results.Results:
        monkeypatch.setenv("TLKIT_COURSE", str(self.root))
        return results.load(name)


def test_what_is_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path)
    toy.run("--seeds", "3-5")
    found = toy.load(monkeypatch)
    assert found.seeds == (3, 4, 5)
    assert len(found.rows) == 12
    assert found.by_seed("value", method="a", n=2) == {3: 5.333333, 4: 6.333333, 5: 7.333333}
    assert found.meta["command"] == "python experiments/01_toy.py --seeds 3-5"
    assert found.meta["script_sha256"] == _record.text_sha256(toy.script)
    assert found.summary[0]["total"] == pytest.approx(12 * (4 + 1.5 + 1 / 3))


@pytest.mark.slow
def test_two_runs_write_the_same_but_for_the_seconds(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    first = toy.record()
    shutil.rmtree(tmp_path / ".cache")
    toy.run("--jobs", "2")
    assert {**toy.record(), "seconds": None} == {**first, "seconds": None}
    text = (toy.folder / "results" / "01_toy.json").read_text(encoding="utf-8")
    assert text == json.dumps(toy.record(), ensure_ascii=False, sort_keys=True, indent=1) + "\n"
    assert not list((toy.folder / "results").glob("*.part"))


def test_the_option_picks_the_development_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run("--dev")
    assert toy.record("01_toy_dev")["seeds"] == [100, 101]
    assert toy.record("01_toy_dev")["command"].endswith("--dev --seeds 100-101")
    assert not (toy.folder / "results" / "01_toy.json").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    toy = Toy(tmp_path, wait=0.4)
    process = toy.start("--seeds", "0-4")
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".cache/experiments/01_toy/*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    done = {path.stem for path in tmp_path.glob(".cache/experiments/01_toy/*/*.json")}
    assert 2 <= len(done) < 5
    assert not (toy.folder / "results" / "01_toy.json").exists()
    toy.run("--seeds", "0-4")
    assert all(toy.log.count(seed) == 1 for seed in done)
    assert [row["seed"] for row in toy.record()["rows"]] == [seed for seed in range(5) for _ in range(4)]


@pytest.mark.slow
def test_more_seeds_only_measure_the_new_ones(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run("--seeds", "0-1")
    toy.run("--seeds", "0-2")
    assert toy.log == ["0", "1", "2"]
    assert toy.record()["seeds"] == [0, 1, 2]


@pytest.mark.slow
def test_a_changed_script_measures_every_seed_again(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    toy.script.write_text(toy.script.read_text(encoding="utf-8") + "# 変更\n", encoding="utf-8")
    toy.run()
    assert toy.log == ["0", "1", "0", "1"]


@pytest.mark.slow
def test_a_script_changed_while_running_writes_nothing(tmp_path: Path) -> None:
    toy = Toy(tmp_path, wait=1.0)
    process = toy.start()
    while not (toy.folder / "log.txt").exists() and process.poll() is None:
        time.sleep(0.02)
    toy.write(0.0)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "コードが変わりました" in output
    assert not (toy.folder / "results" / "01_toy.json").exists()


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        _record.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_the_choice_is_the_best_mean_on_the_development_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"method": method, "lr": lr, "score": score}
        for method, lr, scores in [("a", 0.1, (0.9, 0.1)), ("a", 0.3, (0.6, 0.6)), ("b", 0.1, (0.99, 0.99))]
        for score in scores
    ]
    monkeypatch.setattr(_record, "RESULTS", tmp_path)
    _record.write_json(tmp_path / "dev.json", {"rows": rows})
    assert _record.chosen("dev", ["lr"], method="a") == {"lr": 0.3}
