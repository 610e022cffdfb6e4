"""experiments/ の部品とスクリプトを、検査から読み込めるようにする。"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments"))


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """名前が数字で始まるスクリプトを、モジュールとして読み込む。"""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"experiment_{name}", ROOT / "experiments" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
