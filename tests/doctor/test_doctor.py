"""診断の検査。壊れた環境を一つずつ作り、それだけが、その直し方とともに見つかることを確かめる。"""

import importlib
import json
import sys
from pathlib import Path

import pytest
from doctor_broken import Patch, by_state, crash, same_python_prefix
from doctor_faults import FAULTS
from doctor_notes import NOTES

from tlkit.course.doctor import machine, report


@pytest.mark.usefixtures("healthy")
def test_healthy_environment_has_no_fault() -> None:
    assert by_state(report.examine(), "fault") == {}


@pytest.mark.parametrize("case", FAULTS)
def test_injected_fault_is_found_alone_with_its_own_fix(case: str, healthy: Path, monkeypatch: Patch) -> None:
    inject, name, seen, fix = FAULTS[case]
    inject(monkeypatch, healthy)
    faults = by_state(report.examine(), "fault")
    assert list(faults) == [name]
    assert seen in faults[name].seen
    assert fix in faults[name].fix


@pytest.mark.parametrize("case", NOTES)
def test_injected_note_is_found_and_is_not_a_fault(case: str, healthy: Path, monkeypatch: Patch) -> None:
    inject, name, seen, fix = NOTES[case]
    before = by_state(report.examine(), "note")
    inject(monkeypatch, healthy)
    findings = report.examine()
    assert by_state(findings, "fault") == {}
    notes = by_state(findings, "note")
    assert set(notes) - set(before) <= {name}
    assert seen in notes[name].seen
    assert fix in notes[name].fix


def test_every_fault_has_its_own_words() -> None:
    assert len({(name, seen) for _, name, seen, _ in FAULTS.values()}) == len(FAULTS)


@pytest.mark.usefixtures("healthy")
def test_missing_third_party_module_is_a_fault_line(monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.delitem(sys.modules, "tlkit.course.doctor.machine")
    faults = by_state(report.examine(), "fault")
    assert set(faults) == {"空きメモリ", "空きディスク", "ネットワーク"}
    assert all(same_python_prefix("pip", "install", "psutil") == item.fix for item in faults.values())


@pytest.mark.usefixtures("healthy")
def test_broken_torch_is_imported_only_once(monkeypatch: Patch) -> None:
    tried = []
    real = importlib.import_module

    def counting(name: str) -> object:
        if name in {"torch", "torchvision"}:
            tried.append(name)
            raise ImportError("壊れている")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", counting)
    report.examine()
    assert sorted(tried) == ["torch", "torchvision"]
    report.examine()
    assert len(tried) == 4  # 直した後の診断では、もう一度試す


@pytest.mark.usefixtures("healthy")
def test_table_lists_every_probe_and_its_fix(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.run() == 0
    assert "異常はありません" in capsys.readouterr().out
    monkeypatch.setattr(machine, "network", crash)
    assert report.run() == 1
    table = capsys.readouterr().out
    assert "異常が1件あります" in table
    assert "→ この行を添えて" in table
    assert sum(line.startswith(("OK  ", "注意", "異常  ")) for line in table.splitlines()) == len(report.PROBES)


@pytest.mark.usefixtures("healthy")
def test_json_is_plain_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.run(as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(report.PROBES)
    assert set(rows[0]) == {"name", "state", "seen", "fix"}


def test_notes_alone_exit_with_zero(healthy: Path, monkeypatch: Patch) -> None:
    NOTES["cut network"][0](monkeypatch, healthy)
    assert report.run() == 0


def test_build_prints_only_a_fixed_line(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TLKIT_BUILD", "1")
    monkeypatch.setattr(report, "examine", crash)
    assert report.doctor() is None
    assert capsys.readouterr().out == "（ここに診断結果が表示されます）\n"


def test_the_package_itself_can_be_called(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TLKIT_BUILD", "1")
    module = importlib.import_module("tlkit.course.doctor")
    assert module() is None
    assert capsys.readouterr().out == "（ここに診断結果が表示されます）\n"
