"""採点のベンチマークが動くこと。時間は測り直さない。"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"

pytestmark = pytest.mark.linux


def run(name: str, *options: str, cwd: Path) -> tuple[str, dict]:
    out = cwd / "out.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--tiny", *options, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["benchmark"] == name and result["class"]["pupils"] == 4
    return done.stdout, result


@pytest.mark.slow
def test_speed_script_grades_with_both_kinds_of_cages_and_a_peer(tmp_path: Path) -> None:
    shown, result = run("grading", "--jobs", "2", cwd=tmp_path)
    assert [(one["mode"], one["jobs"], one["as_expected"]) for one in result["runs"]] == [
        ("zygote", 2, 4),
        ("process", 2, 4),
    ]
    assert {one["name"] for one in result["peers"]} == {"nbclient", "nbgrader"}
    for peer in result["peers"]:
        assert peer["pupils"] == peer["as_expected"] == 1 and peer["extrapolated"]
        assert peer["class_seconds"] == pytest.approx(4 * peer["seconds"])
    assert "見積もり" in shown


@pytest.mark.slow
def test_durability_script_kills_and_finishes(tmp_path: Path) -> None:
    _, result = run("grading_durability", "--only", "kill", "--window", "14", cwd=tmp_path)
    assert result["kill"]["kills"] >= 1 and result["calm_seconds"] > 0


def test_recorded_class_is_graded_within_the_goal_and_as_made() -> None:
    recorded = json.loads((FOLDER / "results" / "grading.json").read_text(encoding="utf-8"))
    pupils = recorded["class"]["pupils"]
    assert pupils == 200 and recorded["hardware"]["cores"] == 2
    assert min(run["seconds"] for run in recorded["runs"]) <= recorded["goal_seconds"] == 60
    assert {run["as_expected"] for run in recorded["runs"]} == {pupils}
    assert {peer["name"] for peer in recorded["peers"]} == {"nbclient", "nbgrader"}
    assert all(peer["ratio"] < 1 for peer in recorded["peers"])


@pytest.mark.parametrize(("name", "option"), [("grading", "--modes"), ("grading_durability", "--only")])
def test_unknown_choices_are_refused(name: str, option: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), option, "nonsense"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 2 and "nonsense はありません" in done.stderr
