"""作業フォルダの記録。どの版を写したかを `work/.tlkit/` に残す。

- `state.json`: ファイルごとの、写した版の SHA-256 とセルの中身のハッシュ。
- `original/…`: 写したときのままのノートブック。`tlkit reset` の戻し先。
記録が壊れても、original から作り直せます。
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tlkit.course.cells import sources_hash
from tlkit.course.errors import CourseError
from tlkit.course.intake import Intake, read_notebook
from tlkit.course.paths import course_root, work_root
from tlkit.course.work.files import atomic_write

FLOORS = ("chapters", "exercises")


@dataclass(frozen=True)
class Record:
    """写した版の記録。`beside*` は、横に置いた新版。出所が分からないファイルでは空文字列。"""

    sha256: str = ""
    cells: str = ""
    beside: str = ""
    beside_sha256: str = ""
    beside_cells: str = ""


class Workspace:
    """教材と作業フォルダの組。`with` を抜けるときに記録を保存する。"""

    def __init__(self) -> None:
        self.course, self.root = course_root(), work_root()
        if self.root == self.course:
            raise CourseError(
                f"作業フォルダ {self.root} が教材のフォルダそのものになっています。\n"
                "環境変数 TLKIT_WORK に、別のフォルダを指定してください。"
            )
        self.state_file = self.root / ".tlkit" / "state.json"
        self._stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        self.records = self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.save()
            return
        with suppress(CourseError):  # 先に起きた誤りのほうを伝える
            self.save()

    def notebooks(self) -> dict[str, Path]:
        """教材のノートブック。キーは `exercises/01_basics.ipynb` の形。"""
        found = [path for floor in FLOORS for path in sorted((self.course / floor).glob("*.ipynb"))]
        return {f"{path.parent.name}/{path.name}": path for path in found if path.is_file() and path.name[0] != "."}

    def original(self, rel: str) -> Path:
        """写したときのままの控えの場所。"""
        return self.root / ".tlkit" / "original" / rel

    def place(self, rel: str, new: Intake) -> None:
        """教材の版を作業フォルダに置き、記録する。上書きしてよいことは、呼ぶ側が確かめる。"""
        atomic_write(self.original(rel), new.data)
        atomic_write(self.root / rel, new.data)
        self.records[rel] = _record_of(new)

    def rebase(self, rel: str, new: Intake) -> None:
        """作業フォルダのファイルには触れず、「この版まで見た」ことだけを記録する。"""
        atomic_write(self.original(rel), new.data)
        self.records[rel] = replace(self.records[rel], sha256=new.sha256, cells=sources_hash(new.document))

    def record(self, rel: str, course: Intake) -> Record:
        """記録を返す。無ければ、控えか教材の現在の版から作り直す。"""
        if rel not in self.records:
            self.records[rel] = self._recovered(rel, course)
        return self.records[rel]

    def backup(self, path: Path) -> Path:
        """ファイルの写しを `work/backup/日時/…` に置き、その場所を返す。"""
        name = path.relative_to(self.root)
        target = self.root / "backup" / self._stamp / name
        number = 2
        while target.exists():
            target = self.root / "backup" / f"{self._stamp}-{number}" / name
            number += 1
        atomic_write(target, path.read_bytes())
        return target

    def save(self) -> None:
        """記録を `state.json` に書く。中身が同じなら書かない。"""
        files = {rel: asdict(record) for rel, record in sorted(self.records.items())}
        data = (json.dumps({"version": 1, "files": files}, ensure_ascii=False, indent=1) + "\n").encode()
        if not (self.state_file.is_file() and self.state_file.read_bytes() == data):
            atomic_write(self.state_file, data)

    def _load(self) -> dict[str, Record]:
        try:
            files = json.loads(self.state_file.read_text(encoding="utf-8"))["files"]
            return {str(rel): Record(**{key: str(text) for key, text in entry.items()}) for rel, entry in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}  # 無い、または壊れている。original から作り直す

    def _recovered(self, rel: str, course: Intake) -> Record:
        with suppress(CourseError):
            return _record_of(read_notebook(self.original(rel)))
        with suppress(CourseError):
            if sources_hash(read_notebook(self.root / rel).document) == sources_hash(course.document):
                atomic_write(self.original(rel), course.data)
                return _record_of(course)
        return Record()  # 学習者が自分で置いた、出所の分からないファイル


def _record_of(notebook: Intake) -> Record:
    return Record(sha256=notebook.sha256, cells=sources_hash(notebook.document))
