"""`benchmarks/compression.py` が動くこと、記録してある結果が、章の言うとおりであること。ここでは時間を測り直さない。"""

import sys
from pathlib import Path

import pytest
from test_benchmarks import FOLDER, check_schema, part, recorded, run_tiny

DIGITS, WIDE, COLOUR = "数字（", "幅 1200", "カラー"


def size_of(result: dict, group: str, name: str) -> dict:
    (found,) = [item for item in result["sizes"] if item["group"].startswith(group) and item["name"] == name]
    return found


def ratio(result: dict, group: str, name: str, against: str, batch: int) -> dict:
    (found,) = [
        r for r in result["rows"]
        if r["name"].startswith(group) and r["name"].endswith(f": {name}") and r["size"] == {"batch": batch}
    ]  # fmt: skip
    return found["peers"][against]["ratio"]


def check_sizes(result: dict) -> None:
    """int8 は float32 の 4 分の 1 ほど。非構造化の枝刈りは、保存の大きさも計算量も変えない。"""
    for group in (DIGITS, COLOUR):
        teacher, sparse = (size_of(result, group, name) for name in ("教師モデル", "枝刈り（非構造化 80 %）"))
        assert sparse["stored_bytes"] == teacher["stored_bytes"] and sparse["flops"] == teacher["flops"]
        assert sparse["nonzero"] < 0.25 * teacher["nonzero"]
        assert sparse["deflated_bytes"] < 0.4 * teacher["deflated_bytes"]  # 0 を詰めて保存すれば、小さくなる
    narrow, teacher = size_of(result, DIGITS, "枝刈り（構造化、幅 1/4）"), size_of(result, DIGITS, "教師モデル")
    assert narrow["parameters"] < 0.3 * teacher["parameters"] and narrow["flops"] < 0.15 * teacher["flops"]
    assert narrow["stored_bytes"] < 0.35 * teacher["stored_bytes"]
    for item in result["sizes"]:
        assert (item["arithmetic"] == "int8") == ("int8" in item["name"])
        assert item["output_difference"] is None or item["output_difference"] < 0.1


def check_quartiles(result: dict) -> None:
    for measured in result["rows"]:
        for peer in measured["peers"].values():
            for values in (measured["ms"], peer["ms"], peer["ratio"]):
                assert values["min"] <= values["lower"] <= values["median"] <= values["upper"] <= values["max"]


def test_script_runs_on_tiny_models_without_torchao(tmp_path: Path) -> None:
    shown, result = run_tiny("compression", tmp_path)
    assert "| 測ったもの | 相手 |" in shown and "| 組 | モデル | パラメータ |" in shown
    assert set(result["left_out"]) <= {"int8（torch.ao）", "int8（torchao）", "int8（torchao、compile）"}
    assert "int8（torchao、compile）" in result["left_out"]
    check_sizes(result)
    check_quartiles(result)


def test_what_the_machine_lacks_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    compressed = part("_compressed")
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setattr(compressed.importlib.util, "find_spec", lambda name: None)
    assert compressed.left_out(tiny=False) == {
        compressed.AO: "torchao が入っていない",
        compressed.COMPILED: "torchao が入っていない",
    }
    monkeypatch.setattr(compressed.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(compressed.shutil, "which", lambda name: None)
    assert compressed.left_out(tiny=False) == {compressed.COMPILED: "C++ のコンパイラがない"}


@pytest.fixture(scope="module")
def result() -> dict:
    return recorded("compression")


def test_recorded_result_says_where_it_comes_from(result: dict) -> None:
    check_schema(result, "compression")
    assert "--tiny" not in result["command"] and result["left_out"] == {} and result["versions"]["torchao"]
    assert all(r["rounds"] >= 7 and r["peers"] for r in result["rows"])
    check_sizes(result)
    check_quartiles(result)
    stored = {name: size_of(result, WIDE, f"幅の広いMLP{name}")["stored_bytes"] for name in ("", " int8（torch.ao）")}
    assert stored[" int8（torch.ao）"] < 0.26 * stored[""]


@pytest.mark.parametrize(("batch", "most"), [(1, 0.4), (64, 0.1)])
def test_recorded_student_is_faster_than_the_teacher(result: dict, batch: int, most: float) -> None:
    for group in (DIGITS, COLOUR):
        assert ratio(result, group, "生徒モデル", "教師モデル", batch)["upper"] <= most


@pytest.mark.parametrize("batch", [1, 64])
def test_recorded_unstructured_pruning_brings_no_speed(result: dict, batch: int) -> None:
    for group in (DIGITS, COLOUR):
        assert 0.9 <= ratio(result, group, "枝刈り（非構造化 80 %）", "教師モデル", batch)["median"] <= 1.1


def test_recorded_structured_pruning_is_faster(result: dict) -> None:
    assert ratio(result, DIGITS, "枝刈り（構造化、幅 1/4）", "教師モデル", 64)["upper"] <= 0.5


def test_recorded_int8_pays_on_the_wide_network_and_not_on_the_small_student(result: dict) -> None:
    for kind in ("int8（torch.ao）", "int8（torchao、compile）"):
        assert ratio(result, WIDE, f"幅の広いMLP {kind}", "幅の広いMLP", 64)["upper"] <= 0.5
        assert ratio(result, DIGITS, f"生徒モデル {kind}", "生徒モデル", 1)["median"] >= 1
