"""提出フォルダの中を歩き、採点の候補になるノートブックを集める。リンクはたどらず、特別なファイルは開かない。

読めないものも、理由を付けて候補に残す。黙って消すと、0 点や未提出に見えるからである。選ぶのは `gather.py`。
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlkit.course.cells import sources_hash
from tlkit.course.grading.archive import ARCHIVES, MAX_BYTES, MAX_TOTAL, ArchiveError, read_archive
from tlkit.course.grading.filenames import is_junk, is_notebook
from tlkit.course.grading.origin import course_stamp
from tlkit.course.grading.shown import shown
from tlkit.course.intake import IntakeError, parse_notebook, read_bytes, require_python

MAX_FILES = 2_000
MAX_DEPTH = 10
MAX_CANDIDATES = 100


@dataclass
class Candidate:
    """採点の候補。

    Attributes:
        name: 提出フォルダからの名前（zip の中なら `提出.zip/中の名前`）。そのままでは表示しない。
        data: 中身。読めなければ空。
        problem: 読めない理由。
        slug: metadata にある章の名前。なければ空。
        kind: metadata にある種類（exercise、chapter、solution）。なければ空。
        version: セルの種類と中身の SHA-256。配布版のままかを調べるのに使う。
    """

    name: str
    data: bytes = b""
    problem: str = ""
    slug: str = ""
    kind: str = ""
    version: str = ""

    @property
    def label(self) -> str:
        """表示する名前。"""
        return shown(self.name)


@dataclass
class Found:
    """一人分の候補と、ノートブックでないほかのファイルの名前。"""

    candidates: list[Candidate] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """候補の中身の合計 [バイト]。"""
        return sum(len(one.data) for one in self.candidates)

    def refuse(self, name: str, problem: str) -> None:
        """読めない候補を足す。"""
        self.candidates.append(Candidate(name, problem=problem))


def collect(entry: Path, name: str, found: Found) -> None:
    """ファイル・zip・フォルダのどれか一つを調べ、候補を found に足す。"""
    for path, inner, problem in _walk(entry, name, depth=0, left=[MAX_FILES]):
        if len(found.candidates) >= MAX_CANDIDATES or found.size > MAX_TOTAL:
            limits = f"上限 {MAX_CANDIDATES} 個、合わせて {MAX_TOTAL // 1024**2} MB"
            found.refuse(name, f"候補のファイルが多すぎるか、大きすぎます（{limits}）。")
            return
        if problem:
            found.refuse(inner, problem)
        elif is_notebook(inner):
            found.candidates.append(_notebook(path, inner))
        elif inner.casefold().endswith(".zip"):
            _archive(path, inner, found)
        elif inner.casefold().endswith(ARCHIVES):
            found.refuse(inner, "この圧縮形式は開けません。.ipynb のままか、.zip で提出してもらってください。")
        else:
            found.others.append(inner)


def _walk(entry: Path, name: str, depth: int, left: list[int]) -> Iterator[tuple[Path, str, str]]:
    left[0] -= 1
    problem = _refusal(entry)
    if problem or not entry.is_dir():
        yield entry, name, problem
    elif depth >= MAX_DEPTH:
        yield entry, name, f"フォルダの入れ子が深すぎます（上限 {MAX_DEPTH} 段）。"
    else:
        try:
            names = sorted(item.name for item in os.scandir(entry))
        except OSError as error:
            names, problem = [], f"フォルダを開けません（{error.strerror}）。"
            yield entry, name, problem
        for inner in names:
            if is_junk(inner):
                continue
            if left[0] <= 0:
                yield entry, name, f"ファイルが多すぎます（上限 {MAX_FILES:,} 個）。"
                return
            yield from _walk(entry / inner, f"{name}/{inner}", depth + 1, left)


def _refusal(entry: Path) -> str:
    try:
        if entry.is_symlink() or getattr(entry, "is_junction", bool)():
            return "シンボリックリンクです。リンク先は読みません。本物のファイルに置き換えてください。"
        if not entry.is_dir() and not entry.is_file():
            return "ふつうのファイルではありません（FIFO、デバイスなど）。"
    except OSError as error:
        return f"調べられません（{error.strerror}）。"
    return ""


def _notebook(path: Path, name: str) -> Candidate:
    try:
        data = read_bytes(path, MAX_BYTES, follow_symlinks=False)
    except IntakeError as error:
        return Candidate(name, problem=error.reason)
    return _parsed(name, data)


def _parsed(name: str, data: bytes) -> Candidate:
    try:
        document = parse_notebook(data, "")
        require_python(document, "")
    except IntakeError as error:
        return Candidate(name, data, error.reason)
    stamp = course_stamp(document)
    slug, kind = (str(stamp.get(key) or "") for key in ("slug", "kind"))
    return Candidate(name, data, "", slug, kind, _version(document))


def _version(document: dict[str, Any]) -> str:
    try:
        return sources_hash(document)
    except RecursionError:  # 添付の入れ子が深い
        return ""


def _archive(path: Path, name: str, found: Found) -> None:
    try:
        members, others = read_archive(read_bytes(path, MAX_BYTES, follow_symlinks=False))
    except (IntakeError, ArchiveError) as error:
        found.refuse(name, error.reason if isinstance(error, IntakeError) else str(error))
        return
    found.candidates += [_parsed(f"{name}/{member.name}", member.data) for member in members]
    found.others += [f"{name}/{other}" for other in others]
