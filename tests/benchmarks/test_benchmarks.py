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
            assert peer["kind"] in ("installed", "reimplementation", "baseline")
            assert 0 < peer["ratio"]["min"] <= peer["ratio"]["median"] <= peer["ratio"]["max"]


def run_tiny(name: str, tmp_path: Path) -> tuple[str, dict]:
    """`--tiny` で動かし、表示と結果を返す。"""
    out = tmp_path / "out.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--tiny", "--rounds", "2", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    check_schema(result, name)
    assert all(r["rounds"] == 2 for r in result["rows"])
    return done.stdout, result


@pytest.mark.parametrize("name", ["kd", "mmd", "transferability"])
def test_scripts_run_on_tiny_sizes_without_the_peers(name: str, tmp_path: Path) -> None:
    shown, _ = run_tiny(name, tmp_path)
    assert "| 測ったもの | 相手 |" in shown and "再実装" in shown


def test_fine_tuning_script_runs_and_both_sides_learn_the_same_weights(tmp_path: Path) -> None:
    shown, result = run_tiny("finetune", tmp_path)
    assert "| 測ったもの | 相手 |" in shown and "| 追加の記憶 |" in shown
    compared = [r for r in result["rows"] if "weights_difference" in r]
    assert len(compared) == 4
    for item in compared:
        assert 0 <= item["weights_difference"] <= 1e-4 * item["weights_changed"] != 0, item["name"]
    check_bf16(result)


def check_bf16(result: dict) -> None:
    """bf16 を測ったのは、それを速くする命令のある CPU のときだけである。"""
    assert result["bf16"]["applicable"] == bool(result["bf16"]["instructions"])
    assert any("bf16" in r["name"] for r in result["rows"]) == result["bf16"]["applicable"]


def test_bf16_is_left_out_where_the_cpu_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    finetune = part("finetune")
    assert finetune.BF16 in finetune.measurable(["amx_bf16"])
    left = finetune.measurable([])
    assert {finetune.FULL, finetune.FROZEN, finetune.LEFT_OUT} <= set(left) and not any("bf16" in name for name in left)


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


@pytest.mark.parametrize("name", ["kd", "mmd", "transferability", "finetune"])
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
    for name, peer in (("mmd", "pytorch-adapt"), ("kd", "torchdistill")):
        assert recorded(name)["versions"][peer] == wanted[peer]


@pytest.mark.parametrize(("n", "d", "goal"), [(256, 256, 0.6), (1024, 2048, 0.8)])
def test_recorded_mmd_is_faster_than_pytorch_adapt_and_agrees_with_it(n: int, d: int, goal: float) -> None:
    peer = row(recorded("mmd"), "mmd2", n=n, d=d, kernels=5)["peers"]["pytorch-adapt"]
    assert peer["kind"] == "installed" and peer["ratio"]["median"] <= goal
    assert peer["value_difference"] < 1e-4 and peer["gradient_difference"] < 1e-4


def test_recorded_distillation_loss_is_faster_than_torchdistill_and_agrees_with_it() -> None:
    result = recorded("kd")
    peer = row(result, "DistillationLoss", n=256, classes=1000)["peers"]["torchdistill"]
    assert peer["kind"] == "installed" and peer["ratio"]["median"] <= 0.75
    for measured in result["rows"]:
        for other in measured["peers"].values():
            assert other["value_difference"] < 1e-5 and other["gradient_difference"] < 1e-5


def test_recorded_distillation_loss_keeps_its_digits_at_every_temperature() -> None:
    accuracy = recorded("kd")["accuracy"]
    assert {item["temperature"] for item in accuracy} == {1.0, 4.0, 20.0}
    assert all(item["relative_error"]["tlkit"] <= 1e-5 for item in accuracy)


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


def test_recorded_frozen_step_is_cheap_in_time_and_memory() -> None:
    result = recorded("finetune")
    frozen, left_out = (
        row(result, f"更新 1 回: {name}", batch=8, px=224)["peers"]["全体を学習（float32）"]["ratio"]["median"]
        for name in ("凍結（set_freeze）", "最適化手法から外すだけ")
    )
    assert frozen <= 0.5
    assert left_out >= 0.8  # 最適化手法から外しても、逆伝播は減らない
    mib = {item["name"]: item["mib"] for item in result["memory"]}
    assert mib["凍結（set_freeze）"] <= mib["全体を学習（float32）"] / 2


def test_recorded_bf16_step_halves_the_time_where_the_cpu_has_it() -> None:
    result = recorded("finetune")
    check_bf16(result)
    if result["bf16"]["applicable"]:
        found = row(result, "更新 1 回: bf16 と channels_last で全体を学習", batch=8, px=224)
        assert found["peers"]["全体を学習（float32）"]["ratio"]["median"] <= 0.5


def test_recorded_linear_probe_gains_almost_the_number_of_epochs() -> None:
    found = row(recorded("finetune"), "線形プローブ", px=224)
    assert found["times_faster"]["median"] >= 0.9 * found["size"]["epochs"] >= 4
    assert found["weights_changed"] > 0 and found["weights_difference"] == 0


@pytest.mark.parametrize("model", ["ResNet-18", "GlyphCNN"])
def test_recorded_fit_is_as_fast_as_a_bare_loop(model: str) -> None:
    found = row(recorded("finetune"), f"fit で 1 エポック: {model}")
    assert found["throughput"]["median"] >= 0.97
    assert found["weights_changed"] > 0 and found["weights_difference"] == 0


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
