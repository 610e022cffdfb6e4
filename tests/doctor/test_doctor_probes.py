"""個々の probe の決まりの検査。"""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace as Namespace

import pytest
from doctor_broken import GB, Patch, fake_cuda, fake_package, install, without
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from tlkit.course.doctor import accelerator, folders, kernel, machine, torch_pair
from tlkit.data.files import cache_root


def test_cache_folder_is_where_the_data_module_puts_it(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.delenv("TLKIT_DATA", raising=False)
    assert folders.cache_folder() == cache_root()
    monkeypatch.setenv("TLKIT_DATA", str(tmp_path))
    assert folders.cache_folder() == cache_root() == tmp_path


def test_container_limit_lowers_the_available_memory(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: Namespace(available=8 * GB))
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{2 * GB}\n", encoding="ascii")
    (tmp_path / "memory.current").write_text(f"{GB}\n", encoding="ascii")
    assert machine.available_memory() == GB
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert machine.available_memory() == 8 * GB


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80"], True),  # 同じ世代の後の型
        ((8, 0), ["sm_86"], False),
        ((6, 1), ["sm_75", "compute_75"], False),
        ((12, 1), ["sm_90", "compute_90"], True),  # PTX はその場で翻訳される
        ((12, 1), ["sm_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a", "compute_90a"], False),
        ((12, 0), ["gfx942"], False),
    ],
)
def test_supported_follows_the_binary_compatibility_rules(
    capability: tuple[int, int], archs: list[str], runs: bool
) -> None:
    assert accelerator.supported(capability, archs) is runs


def test_working_gpus_are_reported_as_fine(monkeypatch: Patch) -> None:
    fake_cuda(monkeypatch)
    assert (accelerator.accelerator().state, accelerator.accelerator().seen) == ("ok", "Test GPU（CUDA 13.2、sm_90）")
    fake_cuda(monkeypatch, hip="6.4", capability=(6, 1))
    assert accelerator.accelerator().state == "ok"
    fake_cuda(monkeypatch, available=False, mps=True, device="mps")
    assert accelerator.accelerator().seen.startswith("MPS")


def test_hidden_gpu_is_not_a_complaint(monkeypatch: Patch) -> None:
    fake_cuda(monkeypatch, available=False)
    monkeypatch.setattr(accelerator, "nvidia_driver", lambda: "ドライバー 580.1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert accelerator.accelerator().state == "ok"


def test_driver_is_recognised_by_its_traces(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(accelerator, "PROC", tmp_path / "version")
    monkeypatch.setattr(accelerator.shutil, "which", lambda _: None)
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    assert accelerator.nvidia_driver() is None
    monkeypatch.setattr(accelerator.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert accelerator.nvidia_driver() == "ドライバーあり"
    monkeypatch.setattr(accelerator.shutil, "which", lambda _: None)
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    assert accelerator.nvidia_driver() == "ドライバーあり"
    (tmp_path / "version").write_text("NVRM version: NVIDIA Module  550.54.15  Tue\n", encoding="utf-8")
    assert accelerator.nvidia_driver() == "ドライバー 550.54.15"


def test_warning_of_torch_is_caught_not_printed(recwarn: pytest.WarningsRecorder) -> None:
    def warn() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    assert accelerator.cuda_available(Namespace(cuda=Namespace(is_available=warn))) == (
        False,
        "The NVIDIA driver on your system is too old",
    )
    assert not recwarn.list


def test_missing_jupyterlab_is_only_a_note_inside_another_notebook_app(monkeypatch: Patch) -> None:
    without(monkeypatch, kernel, "jupyterlab")
    monkeypatch.setattr(kernel, "in_kernel", lambda: True)
    assert kernel.jupyterlab().state == "note"


@pytest.mark.parametrize("version", ["0.26.0", "0.28.0"])
def test_known_pairs_are_used_when_the_metadata_names_no_torch(
    version: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    install(monkeypatch, fake_package(tmp_path, "torchvision", version, {}, ("numpy",)))
    wanted = torch_pair.wanted_torch()
    assert wanted is not None
    assert wanted.contains("2.11.0" if version == "0.26.0" else "2.13.0")
    assert not wanted.contains("2.15.0")


@pytest.mark.usefixtures("healthy")
def test_kernel_that_is_nowhere_is_a_fault(monkeypatch: Patch) -> None:
    def get(_: object, name: str) -> None:
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", get)
    found = kernel.kernelspec()
    assert (found.state, found.seen) == ("fault", "見つからない")
    assert found.fix.endswith("ipykernel")


def test_the_venv_of_the_course_and_a_conda_environment_are_both_fine(healthy: Path, monkeypatch: Patch) -> None:
    (healthy / "course" / ".venv").mkdir()
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    assert kernel.interpreter().state == "note"
    monkeypatch.setenv("CONDA_PREFIX", sys.prefix)
    assert kernel.interpreter().state == "ok"
    monkeypatch.delenv("CONDA_PREFIX")
    monkeypatch.setattr(kernel, "sys", Namespace(prefix=str(healthy / "course" / ".venv"), modules={}))
    assert kernel.interpreter().state == "ok"


@pytest.mark.parametrize(("error", "reason"), [(OSError(28, "満杯"), "満杯"), (OSError(), "OSError")])
def test_reason_for_not_writing_is_given(error: OSError, reason: str, monkeypatch: Patch, tmp_path: Path) -> None:
    def fail(**_: object) -> None:
        raise error

    assert folders.cannot_write(tmp_path) == ""
    monkeypatch.setattr(folders.tempfile, "TemporaryFile", fail)
    assert folders.cannot_write(tmp_path) == reason


@pytest.mark.usefixtures("healthy")
def test_limits_themselves_are_still_enough(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: machine.MEMORY_FAULT)
    assert machine.memory().state == "note"
    monkeypatch.setattr(machine, "available_memory", lambda: machine.MEMORY_NOTE)
    assert machine.memory().state == "ok"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Namespace(free=2 * GB))
    assert machine.disk().state == "ok"
