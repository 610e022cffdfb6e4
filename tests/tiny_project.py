"""本物の pip で数秒で入る、小さな教材の模型。test_bootstrap.py が使う。通信はしない。"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1] / "tools"
TORCH = "def tensor(x):\n    return x\n"
VISION = "class ops:\n    def nms(b, s, t):\n        return type('R', (), {'tolist': lambda self: [0]})()\n"
BACKEND = """
import os, time, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    while os.path.exists("slow"):
        time.sleep(0.05)
    name = "toy-0.1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("toy.py", "")
        meta = "Metadata-Version: 2.1\\nName: toy\\nVersion: 0.1\\nRequires-Dist: torch\\nRequires-Dist: torchvision\\n"
        meta += "Provides-Extra: lab\\nRequires-Dist: small; extra == 'lab'\\n"
        meta += "Provides-Extra: dev\\nRequires-Dist: checker; extra == 'dev'\\n"
        wheel.writestr("toy-0.1.dist-info/METADATA", meta)
        wheel.writestr("toy-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: toy\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("toy-0.1.dist-info/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "toy"
version = "0.1"
requires-python = ">=3.11,<3.14"
dependencies = ["torch", "torchvision"]
[project.optional-dependencies]
lab = ["small"]
dev = ["checker"]
"""


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str], suffix: str = "") -> Path:
    """純 Python の wheel を一つ作る。"""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{suffix}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            wheel.writestr(inside, text)
        rows = [f"{inside},{_digest(text)},{len(text.encode())}" for inside, text in files.items()]
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def repack_pip(folder: Path) -> str:
    """今の仮想環境の pip を wheel に詰め直し、版を返す（本物と同じ版の pip で確かめるため）。"""
    distribution = metadata.distribution("pip")
    path = folder / f"pip-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in distribution.files or ():
            inside = file.as_posix()
            if not inside.startswith("..") and "__pycache__" not in inside and Path(str(file.locate())).is_file():
                wheel.write(str(file.locate()), inside)
    return distribution.version


def make_wheels(folder: Path) -> str:
    """模型が使う wheel をそろえ、pip の版を返す。`+cpu` の wheel は cpu/ に分けておく。"""
    cpu = folder / "cpu"
    cpu.mkdir(parents=True)
    for where, version in ((folder, "2.0"), (cpu, "2.0+cpu")):
        make_wheel(where, "torch", version, {"torch/__init__.py": TORCH})
        make_wheel(where, "torchvision", version, {"torchvision/__init__.py": VISION})
    for name, version in (("small", "1.0"), ("small", "1.1"), ("checker", "1.0"), ("setuptools", "99.0")):
        make_wheel(folder, name, version, {f"{name}/__init__.py": ""})
    return repack_pip(folder)


@dataclass
class Toy:
    """模型の教材。"""

    root: Path
    wheels: Path
    pip: str
    links: str = ""

    @classmethod
    def create(cls, root: Path, wheels: Path, pip: str) -> "Toy":
        shutil.copytree(TOOLS / "venvkit", root / "tools" / "venvkit", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TOOLS / "bootstrap.py", root / "tools")
        (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        (root / "backend.py").write_text(BACKEND, encoding="utf-8")
        toy = cls(root, wheels, pip, str(wheels))
        toy.lock()
        return toy

    def lock(self, small: str = "1.0", extra: str = "") -> None:
        pins = [
            f"pip=={self.pip}",
            "setuptools==99.0",
            "checker==1.0",
            f"small=={small}",
            "torch==2.0",
            "torchvision==2.0",
        ]
        pins += ["nowhere==9 ; sys_platform == 'emscripten'", *filter(None, [extra])]
        (self.root / "requirements.lock").write_text("# 見出し\n" + "\n".join(pins) + "\n", encoding="utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "TLKIT_"))}
        return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.links, **more}

    def command(self, profile: str, cpu: str = "") -> list[str]:
        return [sys.executable, str(self.root / "tools" / "bootstrap.py"), profile, "--cpu", cpu]

    def run(self, profile: str = "lab", cpu: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(profile, cpu),
            env=self.environment(**more),
            capture_output=True,
            encoding="utf-8",
            timeout=180,
            check=False,
        )

    @property
    def purelib(self) -> Path:
        return next((self.root / ".venv").glob("[lL]ib/**/site-packages"))

    def installed(self) -> dict[str, str]:
        from venvkit.venv import installed

        return installed(self.purelib)

    @property
    def log(self) -> str:
        return (self.root / ".venv" / "tlkit-bootstrap.log").read_text(encoding="utf-8")
