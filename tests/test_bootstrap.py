"""仮想環境の用意の検査。小さな wheel と本物の pip で、続きから・作り直し・種類の切り替えを確かめる。"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_project import Toy, make_wheel, make_wheels


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("wheels")
    return folder, make_wheels(folder)


@pytest.fixture
def toy(tmp_path: Path, wheels: tuple[Path, str]) -> Toy:
    (tmp_path / "教材 1").mkdir()  # 空白と日本語を含む場所でも動くこと
    return Toy.create(tmp_path / "教材 1", *wheels)


def ok(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_first_run_installs_and_the_second_is_instant(toy: Toy) -> None:
    first = ok(toy.run())
    assert "GB を受け取り" in first
    assert "[2/5] torch 2.0" in first
    assert toy.installed().items() >= {"torch": "2.0", "small": "1.0", "setuptools": "99.0", "pip": toy.pip}.items()
    assert "checker" not in toy.installed()
    log = toy.log
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert ok(toy.run()) == ""
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3, seconds
    assert toy.log == log  # pip は一度も呼ばれていない
    toy.lock(small="1.1")
    again = ok(toy.run())
    assert "torch 2.0 導入済み" in again
    assert toy.installed()["small"] == "1.1"


@pytest.mark.slow
def test_dev_satisfies_lab_and_is_not_shrunk(toy: Toy) -> None:
    ok(toy.run("dev"))
    assert toy.installed()["checker"] == "1.0"
    assert ok(toy.run("lab")) == ""
    toy.lock(small="1.1")
    ok(toy.run("lab"))
    assert '"profile": "dev"' in (toy.root / ".venv" / "tlkit-stamp.json").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="シグナルの届け方が違う")
def test_ctrl_c_keeps_what_is_done_and_resumes(toy: Toy) -> None:
    (toy.root / "slow").touch()  # 教材を入れる段で止まる
    child = subprocess.Popen(
        toy.command("lab"), env=toy.environment(), stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
    )
    said = ""
    for line in child.stdout or ():
        said += line
        if "[4/5]" in line:
            break
    time.sleep(1)
    os.killpg(child.pid, signal.SIGINT)
    said += child.communicate(timeout=30)[0]
    assert child.returncode == 130
    assert "途中まで保存しました。同じコマンドで続きから再開します。" in said
    assert not (toy.root / ".venv" / "tlkit-stamp.json").exists()
    (toy.root / "slow").unlink()
    assert ok(toy.run()).count("導入済み") == 2
    assert "small" in toy.installed()


@pytest.mark.slow
def test_half_installed_package_is_installed_again(toy: Toy) -> None:
    ok(toy.run())
    info = toy.purelib / "torch-2.0.dist-info"
    (info / "INSTALLER").unlink()
    (toy.purelib / "torch" / "__init__.py").unlink()
    (toy.purelib / "~orch").mkdir()
    (toy.root / ".venv" / "tlkit-stamp.json").unlink()
    said = ok(toy.run())
    assert "途中で切れていた torch を入れ直します" in said
    assert (toy.purelib / "torch" / "__init__.py").is_file()
    assert not (toy.purelib / "~orch").exists()


@pytest.mark.slow
def test_broken_venv_is_made_again(toy: Toy) -> None:
    ok(toy.run())
    shutil.rmtree(toy.purelib / "pip")
    (toy.root / ".venv" / "tlkit-stamp.json").unlink()
    said = ok(toy.run())
    assert "仮想環境 .venv を作ります" in said
    assert toy.installed()["torch"] == "2.0"


@pytest.mark.slow
def test_moved_folder_is_made_again(toy: Toy) -> None:
    ok(toy.run())
    moved = toy.root.rename(toy.root.with_name("移した先"))
    there = Toy(moved, toy.wheels, toy.pip, toy.links)
    assert "移された" in ok(there.run())
    assert str(moved) in next((moved / ".venv").glob("*/activate")).read_text(encoding="utf-8")


def test_foreign_folder_is_never_deleted(toy: Toy) -> None:
    mine = toy.root / ".venv" / "大切.txt"
    mine.parent.mkdir()
    mine.write_text("消さないで", encoding="utf-8")
    for profile in ("lab", "clean"):
        done = toy.run(profile)
        assert done.returncode == 1
        assert "仮想環境ではないようです" in done.stderr
    assert mine.read_text(encoding="utf-8") == "消さないで"


@pytest.mark.slow
def test_clean_removes_only_the_venv(toy: Toy) -> None:
    ok(toy.run())
    assert "消しました" in ok(toy.run("clean"))
    assert not (toy.root / ".venv").exists()
    assert (toy.root / "requirements.lock").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="CPU 専用の種類は Linux にだけある")
def test_cpu_variant_is_found_kept_and_given_up(toy: Toy) -> None:
    toy.links = f"{toy.wheels} {toy.wheels / 'cpu'}"
    ok(toy.run(cpu="1"))
    assert toy.installed()["torch"] == toy.installed()["torchvision"] == "2.0+cpu"
    assert ok(toy.run()) == ""  # 何も言わない make lab は、CPU 専用を黙って替えない
    toy.lock(small="1.1")
    assert "使い続けます" in ok(toy.run())
    assert toy.installed()["torch"] == "2.0+cpu"
    ok(toy.run(cpu="0"))
    assert toy.installed()["torch"] == toy.installed()["torchvision"] == "2.0"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="CPU 専用の種類は Linux にだけある")
def test_missing_cpu_wheels_lose_nothing_and_the_named_index_helps(toy: Toy, tmp_path: Path) -> None:
    make_wheel(toy.wheels, "triton", "1.0", {"triton.py": ""})
    toy.lock(extra="triton==1.0")
    ok(toy.run())
    assert "triton" in toy.installed()
    failed = toy.run(cpu="1")
    assert failed.returncode == 1
    assert "TLKIT_TORCH_INDEX" in failed.stderr
    assert toy.installed()["torch"] == "2.0"
    index = tmp_path / "simple"
    for wheel in (toy.wheels / "cpu").iterdir():
        page = index / wheel.name.split("-")[0]
        page.mkdir(parents=True)
        name = wheel.name.replace("+", "%2B")
        (page / "index.html").write_text(
            f'<a href="{(wheel.parent / name).as_uri().replace("%252B", "%2B")}">{wheel.name}</a>'
        )
    # PIP_NO_INDEX は追加の索引も止めるので、空の索引を利用者の設定とする
    ok(
        toy.run(
            cpu="1", PIP_NO_INDEX="0", PIP_INDEX_URL=(tmp_path / "empty").as_uri(), TLKIT_TORCH_INDEX=index.as_uri()
        )
    )
    assert toy.installed()["torch"] == "2.0+cpu"
    assert "triton" not in toy.installed()  # CPU 専用に要らないものは残さない


@pytest.mark.slow
def test_mismatched_pair_is_explained(toy: Toy, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    bad = "raise RuntimeError('operator torchvision::nms does not exist')"
    make_wheel(other, "torchvision", "2.0", {"torchvision/__init__.py": bad})
    for wheel in toy.wheels.glob("*.whl"):
        if not wheel.name.startswith("torchvision"):
            shutil.copy(wheel, other)
    toy.links = str(other)
    done = toy.run()
    assert done.returncode == 1
    assert "組として動きません" in done.stderr
    assert "nms does not exist" in done.stderr
    assert not (toy.root / ".venv" / "tlkit-stamp.json").exists()


@pytest.mark.linux
def test_small_disk_is_refused_before_anything_is_installed(toy: Toy) -> None:
    mount = f"mount -t tmpfs -o size=150m none '{toy.root}/.venv' && exec \"$@\""
    (toy.root / ".venv").mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *toy.command("lab")],
        env=toy.environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.fail(f"名前空間を作れません: {done.stderr}")
    assert done.returncode == 1
    assert "ディスクの空きが足りません" in done.stderr
    assert "まだ何も受け取っていません" in done.stderr
    assert "[1/" not in done.stdout
