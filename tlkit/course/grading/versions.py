"""採点結果を決めるものの版。同じ版と同じ提出なら結果も同じなので、`store.py` はこれを鍵にして一度だけ採点する。"""

import functools
import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import tlkit
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.model import Limits
from tlkit.course.grading.seeds import secret_id

# 点数に関わらない部品。ここを直しただけで、全員を採点し直すことはない
_APART = tuple(f"course/{name}/" for name in ("build", "doctor", "quiz", "work", "grading/report"))
_SCREENS = tuple(f"course/grading/{name}.py" for name in ("grade_cli", "commands", "screen", "release"))
_LOCK = "requirements.lock"
_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "ipython")


@dataclass(frozen=True)
class Versions:
    """採点結果を決めるもの（提出と学生を除く）。

    Attributes:
        assignment: 配布版の名前と版。
        grader: 採点するコードの版。
        environment: 動かす環境の版。
        secret: 隠した入力の秘密の名前。
        limits: 提出に許す量と、それを決める解答例。
    """

    assignment: str
    grader: str
    environment: str
    secret: str
    limits: str

    def key(self, student: str, sha256: str) -> str:
        """採点結果の鍵。隠した入力は学生ごとに違うので、同じ中身の提出でも鍵は学生ごとに違う。"""
        return _digest({**asdict(self), "student": student, "submission": sha256})


def versions(assignment: Assignment, secret: bytes, limits: Limits, solution: str = "") -> Versions:
    """いまの採点の版。

    Args:
        assignment: 採点する演習。
        secret: 隠した入力の秘密。
        limits: 提出に許す量。
        solution: 時間の上限を決める解答例の版。計った時間は動かすたびに揺れるので、鍵には入れない。
    """
    name = f"{assignment.slug}:{assignment.version}"
    allowed = _digest({**asdict(limits), "solution": solution})
    return Versions(name, grader_version(), environment_version(), secret_id(secret), allowed)


@functools.cache
def grader_version() -> str:
    """採点と判定に使うコード（問題の定義と、判定が使う tlkit の関数を含む）の SHA-256。"""
    root = Path(tlkit.__file__).resolve().parent
    digest = hashlib.sha256()
    for name, path in _modules(root):
        data = path.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


@functools.cache
def environment_version() -> str:
    """Python と、計算に使うライブラリの版、固定された版の一覧の SHA-256。"""
    lock = Path(tlkit.__file__).resolve().parents[1] / _LOCK
    return _digest(
        {
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "libraries": {name: metadata.version(name) for name in _LIBRARIES},
            "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "",
        }
    )


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    names = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*.py"))
    return ((name, path) for name, path in names if not name.startswith((*_APART, *_SCREENS)))


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
