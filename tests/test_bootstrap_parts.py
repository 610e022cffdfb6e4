"""仮想環境を用意する部品ごとの検査（pip も仮想環境も使わない）。"""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bootstrap
import pytest
from venvkit import disk, install, plan, project, stamp, venv
from venvkit.messages import BootstrapError, Progress
from venvkit.pip import Pip, diagnose
from venvkit.project import Pin


@pytest.mark.parametrize(
    ("log", "arguments", "says"),
    [
        ("ERROR: [Errno 28] No space left on device", (), "ディスクがいっぱい"),
        (
            "NewConnectionError('Failed to establish')\nERROR: No matching distribution found for torch",
            (),
            "通信に失敗",
        ),
        ("ERROR: No matching distribution found for torch==2.15.0+cpu", ("torch==2.15.0+cpu",), "Install ページ"),
        ("ERROR: ResolutionImpossible: for help", ("torch==2.15.0+cpu",), "Install ページ"),
        ("ERROR: No matching distribution found for torch==2.15.0", ("torch==2.15.0",), "対応するのは Linux"),
        ("なにか別のこと", (), "下の出力を確かめて"),
    ],
)
def test_pip_failures_are_explained(log: str, arguments: tuple[str, ...], says: str) -> None:
    assert says in diagnose(log, arguments)


def record_commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def fake(command: list[str], **_: Any) -> SimpleNamespace:
        calls.append(command)
        return SimpleNamespace(stdout=iter(["Progress 1000000 of 2000000\n"]), wait=lambda **_: 0)

    monkeypatch.setattr("venvkit.pip.subprocess.Popen", fake)
    return calls


def test_every_install_is_constrained_and_leaves_the_index_to_the_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = record_commands(monkeypatch)
    monkeypatch.delenv("TLKIT_TORCH_INDEX", raising=False)
    (tmp_path / ".venv").mkdir()
    pip = Pip(tmp_path, tmp_path / ".venv", lambda _: None)
    pip.install("small==1.0")
    pip.install_big("torch==2.0+cpu")
    for call in calls:
        assert call[call.index("--constraint") + 1] == "requirements.lock"
        assert "--no-build-isolation" in call
        assert not {"--index-url", "-i", "--extra-index-url", "--isolated", "--no-index"} & set(call)
    monkeypatch.setenv("TLKIT_TORCH_INDEX", "named")
    pip.install_big("torch==2.0+cpu")
    assert calls[-1][calls[-1].index("--extra-index-url") + 1] == "named"


FACTS = venv.Facts(
    (3, 12),
    "linux",
    Path("lib"),
    tuple(Pin(name, "1.0") for name in ("nvidia-cudnn-cu13", "scipy", "small", "torch", "torchvision", "triton")),
)


def test_torch_pair_comes_first_and_small_ones_wait() -> None:
    made = plan.make(FACTS, "lab", "default", {})
    assert [pin.name for pin in made.big] == ["torch", "torchvision", "nvidia-cudnn-cu13", "scipy", "triton"]
    assert [pin.name for pin in plan.make(FACTS, "lab", "cpu", {}).big] == ["torch", "torchvision", "scipy"]


def test_sizes_shrink_with_what_is_done_and_without_cuda() -> None:
    full = plan.make(FACTS, "lab", "default", {})
    half = plan.make(FACTS, "lab", "default", {"torch": "1.0", "scipy": "1.0"})
    assert full.unpacked_mb - half.unpacked_mb == plan.BIG["torch"][1] + plan.BIG["scipy"][1]
    assert full.download_mb - half.download_mb == plan.BIG["torch"][0] + plan.BIG["scipy"][0]
    assert plan.make(FACTS, "lab", "cpu", {}).unpacked_mb < full.unpacked_mb - plan.BIG["triton"][1]


def test_cpu_copy_does_not_count_as_the_default_copy() -> None:
    torch = Pin("torch", "1.0")
    assert plan.in_place(torch, "cpu", {"torch": "1.0+cpu"})
    assert not plan.in_place(torch, "default", {"torch": "1.0+cpu"})
    assert not plan.in_place(torch, "cpu", {"torch": "1.0"})
    assert plan.in_place(torch, "default", {"torch": "1.0+cu132"})
    assert not plan.in_place(torch, "default", {"torch": "1.0.1"})


@pytest.mark.parametrize(
    ("asked", "platform", "now", "variant"),
    [
        ("", "linux", "default", "default"),
        ("", "linux", "cpu", "cpu"),
        ("1", "linux", "default", "cpu"),
        ("0", "linux", "cpu", "default"),
        ("1", "darwin", "default", "default"),
        ("1", "win32", "default", "default"),
    ],
)
def test_variant_is_kept_unless_asked(asked: str, platform: str, now: str, variant: str) -> None:
    chosen, note = plan.choose_variant(asked, platform, now)
    assert chosen == variant
    assert ("Linux でだけ" in note) == (asked == "1" and platform != "linux")


def test_unknown_cpu_value_is_refused() -> None:
    with pytest.raises(BootstrapError, match="CPU=2"):
        plan.choose_variant("2", "linux", "default")


def small_disk(monkeypatch: pytest.MonkeyPatch, free_mb: int) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mb * 1_000_000))


def test_disk_needs_add_up_on_one_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    work = plan.Plan("lab", "default", (), download_mb=3000, unpacked_mb=6000, largest_mb=500)
    monkeypatch.setattr(disk.tempfile, "gettempdir", lambda: str(tmp_path))
    need = 6000 + disk.MARGIN_MB + 500 + 3000
    small_disk(monkeypatch, need)
    disk.check(tmp_path / ".venv", work, tmp_path / "cache")
    small_disk(monkeypatch, need - 1)
    with pytest.raises(BootstrapError, match="空きが足りません") as refused:
        disk.check(tmp_path / ".venv", work, tmp_path / "cache")
    assert "9.8 GB" in str(refused.value)
    disk.check(tmp_path / ".venv", work, None)  # キャッシュを使わないなら足りる


def write_project(root: Path, lock: str = "torch==2.0\n", depends: str = "torch") -> None:
    (root / "requirements.lock").write_text(lock, encoding="utf-8")
    text = f'[project]\nname = "toy"\nversion = "1"\ndescription = "x"\ndependencies = ["{depends}"]\n[tool.ruff]\nline-length = 1\n'
    (root / "pyproject.toml").write_text(text, encoding="utf-8")


def test_fingerprint_follows_lock_and_dependencies_only(tmp_path: Path) -> None:
    write_project(tmp_path)
    first = project.fingerprint(tmp_path)
    settings = tmp_path / "pyproject.toml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("line-length = 1", "line-length = 2"), encoding="utf-8"
    )
    assert project.fingerprint(tmp_path) == first
    write_project(tmp_path, depends="numpy")
    assert project.fingerprint(tmp_path) != first
    write_project(tmp_path, lock="torch==2.1\n")
    assert project.fingerprint(tmp_path) != first


def test_lock_lines_are_read_or_refused_by_number(tmp_path: Path) -> None:
    write_project(tmp_path, lock="# 見出し\nA_b==1.0 ; sys_platform == 'win32'\n\nc==2\n")
    assert project.read_lock(tmp_path) == [Pin("a-b", "1.0", "sys_platform == 'win32'"), Pin("c", "2")]
    write_project(tmp_path, lock="a==1\nb @ https://example.org/b.whl\n")
    with pytest.raises(BootstrapError, match=r"requirements\.lock:2"):
        project.read_lock(tmp_path)
    (tmp_path / "requirements.lock").unlink()
    with pytest.raises(BootstrapError, match="見つかりません"):
        project.read_lock(tmp_path)


@pytest.mark.parametrize("change", ["fingerprint", "variant", "python", "root", "profile"])
def test_stamp_is_not_enough_when_anything_changed(change: str) -> None:
    wanted = stamp.Stamp("f", "dev", "default", sys.executable, "/root")
    assert stamp.satisfied(wanted, wanted)
    old = stamp.Stamp(**{**wanted.__dict__, change: "lab" if change == "profile" else "other"})
    assert not stamp.satisfied(old, wanted)


def test_damaged_stamp_is_the_same_as_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"fingerprint": 1}'):
        (tmp_path / stamp.NAME).write_text(text, encoding="utf-8")
        assert stamp.read(tmp_path) is None


def test_old_python_looks_for_another(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    used: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "can_prepare", lambda _: False)
    monkeypatch.setattr(bootstrap, "find_python", lambda: ["python3.12"])
    monkeypatch.setattr(bootstrap, "hand_over", lambda command: used.append(command) or 0)
    assert bootstrap.main(["lab"]) == 0
    assert used == [["python3.12"]]
    monkeypatch.setattr(bootstrap, "find_python", lambda: None)
    assert bootstrap.main(["lab"]) == 1
    said = capsys.readouterr().err
    assert "Python 3.11、3.12、3.13 のどれか" in said
    assert "apt install" in said


def test_python_without_ensurepip_cannot_start_but_can_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert bootstrap.can_prepare(tmp_path)
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda _: None)
    assert not bootstrap.can_prepare(tmp_path)
    assert "ensurepip" in bootstrap.explain_missing()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    assert bootstrap.can_prepare(tmp_path)
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 10, 1))
    assert not bootstrap.can_prepare(tmp_path)


def test_only_python_that_really_runs_is_usable(tmp_path: Path) -> None:
    assert bootstrap.usable([sys.executable])
    assert not bootstrap.usable([str(tmp_path / "python3.12")])
    assert not bootstrap.usable([sys.executable, "-c", "print('3 9')", "--"])


def test_entry_can_be_read_by_old_python() -> None:
    import ast

    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))


def test_full_disk_while_writing_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    errors = io.StringIO()
    monkeypatch.setattr(install, "is_ready", full)
    monkeypatch.setattr(sys, "stderr", errors)
    assert install.run(tmp_path, "lab", "") == 1
    assert "ディスクがいっぱい" in errors.getvalue()


def test_progress_prints_plain_lines_without_a_terminal() -> None:
    out = io.StringIO()
    progress = Progress(2, out)
    progress.begin("torch 2.0")
    progress.detail("1/2 MB")
    progress.end()
    assert out.getvalue() == "[1/2] torch 2.0 …\n[1/2] torch 2.0 完了（0 秒）\n"
