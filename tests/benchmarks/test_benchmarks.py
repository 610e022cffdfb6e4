"""ベンチマークのスクリプトが動くこと、記録してある結果が目標を満たすこと。ここでは時間を測り直さない。"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"


def part(name: str) -> ModuleType:
    """benchmarks/ のファイルを、名前の衝突を避けて読み込む。"""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(name: str) -> dict:
    return json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))


def row(result: dict, name: str, **size: int) -> dict:
    (found,) = [r for r in result["rows"] if r["name"].startswith(name) and size.items() <= r["size"].items()]
    return found


def check_schema(result: dict, name: str) -> None:
    assert result["benchmark"] == name
    assert f"benchmarks/{name}.py" in result["command"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    assert {"python", "torch", "numpy", "scipy"} <= result["versions"].keys()
    assert result["hardware"]["cpu"] and result["hardware"]["cores"] >= 1 and result["hardware"]["memory_gib"] > 0
    assert result["threads"] == 1 and len(result["load"]) == 3
    assert result["rows"]
    for measured in result["rows"]:
        assert 0 < measured["ms"]["min"] <= measured["ms"]["median"] <= measured["ms"]["max"]
        for peer in measured["peers"].values():
            assert peer["kind"] in ("installed", "reimplementation")
            assert 0 < peer["ratio"]["min"] <= peer["ratio"]["median"] <= peer["ratio"]["max"]


@pytest.mark.parametrize("name", ["mmd", "transferability"])
def test_scripts_run_on_tiny_sizes_without_the_peers(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--tiny", "--rounds", "2", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| 測ったもの | 相手 |" in done.stdout and "再実装" in done.stdout
    result = json.loads(out.read_text(encoding="utf-8"))
    check_schema(result, name)
    assert all(r["rounds"] == 2 for r in result["rows"])


def test_too_few_rounds_are_refused() -> None:
    command = [sys.executable, str(FOLDER / "transferability.py"), "--rounds", "3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 2 and "7 以上" in done.stderr


def test_interleaving_takes_turns_and_drops_the_first_round() -> None:
    order: list[str] = []
    seconds = part("_timing").interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_ratios_are_taken_within_a_round() -> None:
    """途中で機械が 10 倍遅くなっても、比は変わらない。中央値どうしの比なら 5 になる。"""
    result = part("_timing").compare("us", {"us": [1.0, 1.0, 10.0], "them": [2.0, 20.0, 20.0]})
    assert result["peers"]["them"]["ratio"] == {"median": 0.5, "min": 0.05, "max": 0.5}
    assert result["ms"] == {"median": 1000.0, "min": 1000.0, "max": 10000.0}


@pytest.mark.parametrize("name", ["mmd", "transferability"])
def test_recorded_results_say_where_they_come_from(name: str) -> None:
    result = recorded(name)
    check_schema(result, name)
    assert "--tiny" not in result["command"]
    assert all(r["rounds"] >= 7 and r["peers"] for r in result["rows"])


def test_peers_share_the_versions_of_the_course() -> None:
    pattern = re.compile(r"^([\w.-]+)==([^\s;#]+)", re.M)
    locked: dict[str, set[str]] = {}
    for name, version in pattern.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")):
        locked.setdefault(name, set()).add(version)
    wanted = dict(pattern.findall((FOLDER / "requirements.txt").read_text(encoding="utf-8")))
    for name in ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "psutil"):
        assert wanted[name] in locked[name], f"{name}: benchmarks/requirements.txt を requirements.lock に合わせる"
    assert recorded("mmd")["versions"]["pytorch-adapt"] == wanted["pytorch-adapt"]


@pytest.mark.parametrize(("n", "d", "goal"), [(256, 256, 0.6), (1024, 2048, 0.8)])
def test_recorded_mmd_is_faster_than_pytorch_adapt_and_agrees_with_it(n: int, d: int, goal: float) -> None:
    peer = row(recorded("mmd"), "mmd2", n=n, d=d, kernels=5)["peers"]["pytorch-adapt"]
    assert peer["kind"] == "installed" and peer["ratio"]["median"] <= goal
    assert peer["value_difference"] < 1e-4 and peer["gradient_difference"] < 1e-4


def test_recorded_mmd_needs_little_memory() -> None:
    mib = {(m["name"], m["size"]["n"], m["size"]["d"]): m["mib"] for m in recorded("mmd")["memory"]}
    assert mib["tlkit", 1024, 2048] <= mib["pytorch-adapt", 1024, 2048] / 2
    assert mib["tlkit", 4096, 2048] * 2**20 < 1e9


def test_recorded_mmd_keeps_its_digits_far_from_the_origin() -> None:
    accuracy = recorded("mmd")["accuracy"]
    assert {(a["size"]["n"], a["size"]["d"]) for a in accuracy} >= {(256, 256), (1024, 2048)}
    for item in accuracy:
        assert item["offset"] == 100 and item["relative_error"]["tlkit"] <= 1e-5


def test_recorded_logme_is_exact_and_faster_than_the_correct_released_procedure() -> None:
    result = recorded("transferability")
    peers = row(result, "logme", n=1000, d=2048, classes=10)["peers"]
    (tllib,) = [peer for name, peer in peers.items() if "tllib" in name]
    assert tllib["ratio"]["median"] <= 0.2
    for item in result["logme"]:
        assert abs(item["difference"]["tlkit"]) <= 1e-6
    (wide,) = [item for item in result["logme"] if item["size"]["d"] > item["size"]["n"]]
    (published,) = [gap for name, gap in wide["difference"].items() if "誤り）" in name]
    assert abs(published) > 1  # 公開の不動点反復は、D > N では最大値ではない


def test_published_procedures_written_for_the_comparison_agree_with_tlkit() -> None:
    """比べる相手が間違っていれば、速さの比に意味がない。"""
    import numpy as np

    from tlkit.transferability import h_score, leep, logme, nce

    scores, rng = part("_scores"), np.random.default_rng(0)
    y = np.arange(60) % 3
    f = rng.normal(size=(60, 8)) + rng.normal(size=(3, 8))[y]
    p = rng.dirichlet(np.ones(5), size=60)
    z = p.argmax(1)
    assert scores.logme_icml(f, y) == pytest.approx(logme(f, y), abs=1e-3)
    assert scores.logme_exact(f, y) == pytest.approx(logme(f, y), abs=1e-6)
    wide = rng.normal(size=(30, 50))
    assert scores.logme_exact(wide, y[:30]) == pytest.approx(logme(wide, y[:30]), abs=1e-6)
    assert scores.h_score_covariances(f, y) == pytest.approx(h_score(f, y), rel=1e-9)
    assert scores.leep_loop(p, y) == pytest.approx(leep(p, y), rel=1e-10)
    assert scores.nce_loop(z, y) == pytest.approx(nce(z, y), rel=1e-10)
