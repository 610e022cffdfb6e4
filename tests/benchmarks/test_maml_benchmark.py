"""`benchmarks/maml.py` が動くこと、記録してある結果が目標を満たすこと。ここでは時間を測り直さない。"""

from pathlib import Path

import pytest
from test_benchmarks import check_schema, recorded, row, run_tiny

CONV4, SINE = "MAML の更新 1 回: Conv4", "MAML の更新 1 回: 正弦波の MLP"


def check_agreement(result: dict) -> None:
    """どの書き方も、同じ値と勾配を返す（float32 の丸めを除く）。"""
    for measured in result["rows"]:
        for peer in measured["peers"].values():
            assert peer["value_difference"] < 1e-4 and peer["gradient_difference"] < 1e-3


def test_script_runs_without_the_peer_and_the_ways_agree(tmp_path: Path) -> None:
    shown, result = run_tiny("maml", tmp_path)
    assert "| 測ったもの | 相手 |" in shown and "| 追加の記憶 |" in shown
    assert len(result["rows"]) == 2
    check_agreement(result)


def test_recorded_result_says_where_it_comes_from() -> None:
    result = recorded("maml")
    check_schema(result, "maml")
    assert "--tiny" not in result["command"]
    assert all(r["rounds"] >= 7 and r["peers"]["learn2learn"]["kind"] == "installed" for r in result["rows"])
    check_agreement(result)


@pytest.mark.parametrize(
    ("width", "tasks", "steps"),
    [(64, 4, 1), (32, 16, 1), (32, 4, 5)],
)
def test_recorded_conv4_update_is_as_fast_as_learn2learn(width: int, tasks: int, steps: int) -> None:
    found = row(recorded("maml"), CONV4, width=width, tasks=tasks, steps=steps)
    assert found["peers"]["learn2learn"]["ratio"]["median"] <= 1.1


def test_recorded_conv4_update_needs_no_more_memory_than_learn2learn() -> None:
    mib = {item["name"]: item["mib"] for item in recorded("maml")["memory"]}
    assert 0 < mib["tlkit"] <= 1.2 * mib["learn2learn"]


@pytest.mark.parametrize("steps", [1, 5])
def test_recorded_sine_update_is_five_times_faster(steps: int) -> None:
    found = row(recorded("maml"), SINE, tasks=25, steps=steps)
    assert found["peers"]["learn2learn"]["ratio"]["median"] <= 0.2
