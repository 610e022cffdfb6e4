"""Python そのものと、入っているパッケージの版を調べる。

PyTorch だけは読み込んで確かめる必要があるので、隣の `torch_pair.py` に分けてある。
"""

import importlib.metadata as metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tlkit.course.doctor.commands import lock_file, pip_install, pip_uninstall
from tlkit.course.doctor.finding import Finding, fault, note, ok

OLDEST, NEWEST = (3, 11), (3, 13)


def installed(package: str) -> str | None:
    """入っている版。入っていなければ None。"""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python_version() -> Finding:
    """Python が 3.11〜3.13 か。"""
    now = tuple(sys.version_info[:3])
    seen = ".".join(map(str, now))
    if OLDEST <= now[:2] <= NEWEST:
        return ok("Python", seen)
    age = "古すぎます" if now[:2] < OLDEST else "新しすぎます（部品がまだ対応していません）"
    fix = "Python 3.11〜3.13 を入れ、`make clean-venv` のあとに `make lab PYTHON=その名前` を実行してください。"
    return fault("Python", f"{seen}は{age}", fix)


def required_packages() -> Finding:
    """依存するパッケージが、決められた範囲の版で入っているか。"""
    name = "必要なパッケージ"
    wanted = [item for item in requirements_of_tlkit() if item.marker is None or item.marker.evaluate({"extra": ""})]
    broken = [(item, installed(item.name)) for item in wanted if not _satisfied(item, installed(item.name))]
    if not broken:
        return ok(name, f"{len(wanted)}個すべてあり")
    seen = "、".join(f"{item.name}（{version or 'なし'}。必要なのは{item.specifier}）" for item, version in broken)
    return fault(name, seen, pip_install(*(f"{item.name}{item.specifier}" for item, _ in broken)))


def lock_agreement() -> Finding:
    """入っている版が requirements.lock と同じか。違っても動くことが多いので、note にとどめる。"""
    name = "版の固定"
    lock = lock_file()
    if lock is None:
        return note(name, "requirements.lock が見つからない", "教材のフォルダで実行すると、版の違いも調べられます。")
    different = list(_differences(lock))
    if not different:
        return ok(name, "requirements.lock のとおり")
    shown = "、".join(f"{package} {has}（lockは{want}）" for package, has, want in different[:5])
    more = f" ほか{len(different) - 5}個" if len(different) > 5 else ""
    return note(name, shown + more, pip_install(*(f"{package}=={want}" for package, _, want in different)))


def stray_packages() -> Finding:
    """教材の表示や動作を壊すことが分かっているパッケージが残っていないか。"""
    name = "邪魔なパッケージ"
    reasons = {}
    if installed("jupyterlab-myst"):
        reasons["jupyterlab-myst"] = "クイズの「答えと解説」を開く三角印が消える"
    if installed("japanize-matplotlib") and sys.version_info[:2] >= (3, 12):
        reasons["japanize-matplotlib"] = "Python 3.12以降で読み込みに失敗する"
    if not reasons:
        return ok(name, "なし")
    seen = "、".join(f"{package}（{why}）" for package, why in reasons.items())
    return fault(name, seen, pip_uninstall(*reasons))


def requirements_of_tlkit() -> list[Requirement]:
    """配布情報（tlkit）に書かれた依存。配布情報がなければ空。"""
    try:
        return [Requirement(line) for line in metadata.requires("tlkit") or []]
    except metadata.PackageNotFoundError:
        return []


def _satisfied(item: Requirement, version: str | None) -> bool:
    return version is not None and item.specifier.contains(version, prereleases=True)


def _differences(lock: Path) -> Iterator[tuple[str, str, str]]:
    """（名前、入っている版、lock の版）。入っていないものは数えない（開発用の部品は入れない人がいる）。"""
    for line in lock.read_text(encoding="utf-8").splitlines():
        try:
            item = Requirement(line.split("#")[0].strip())
        except InvalidRequirement:
            continue
        has = installed(item.name)
        wanted_here = item.marker is None or item.marker.evaluate()
        if has and wanted_here and not item.specifier.contains(has, prereleases=True):
            yield item.name, has, str(item.specifier).removeprefix("==")
