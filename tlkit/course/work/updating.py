"""教材が新しくなったとき、作業フォルダを追いつかせる。学習者が書いたものは上書きしない。

- 手を入れていない写し → 新しい版に置き換え、前の版は `work/backup/` に残す。
- 手を入れた写し → そのまま残し、新しい版を `01_basics（新版）.ipynb` として横に置く。
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from tlkit.course.cells import sources_hash
from tlkit.course.errors import CourseError
from tlkit.course.intake import Intake, read_notebook
from tlkit.course.work.files import RELOAD_HINT, atomic_write, japanese_os_errors, replace_bytes
from tlkit.course.work.workspace import Workspace

_SUFFIXES = ("（新版{}）", "_new{}")  # 2 つ目は、日本語の名前を受け付けないファイルシステム用


@dataclass
class UpdateReport:
    """更新の結果。

    Attributes:
        added: 新しく写したファイル。
        replaced: （置き換えたファイル, 控えの場所）。
        beside: （学習者が書き換えていたファイル, 横に置いた新版の名前）。
        unchanged: 何もしなかったファイルの数。
        removed: 教材からなくなり、手元に残したファイル。
        problems: 読めなかった手元のファイルについての説明。
    """

    added: list[str] = field(default_factory=list)
    replaced: list[tuple[str, Path]] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """画面に出す日本語の行。"""
        lines = [f"新しく写しました: {rel}" for rel in self.added]
        lines += [f"新しい版に置き換えました: {rel}（前の版: {backup}）" for rel, backup in self.replaced]
        for rel, name in self.beside:
            lines += [f"{rel} はあなたが書き換えているので、そのまま残しました。新しい版: {name}", _how_to_adopt(rel)]
        lines += [f"教材からなくなりました（手元のファイルは残しています）: {rel}" for rel in self.removed]
        if not (self.added or self.replaced or self.beside):
            lines.append("どのノートブックも最新です。")
        if self.replaced:
            lines.append(RELOAD_HINT)
        return lines


def update() -> UpdateReport:
    """作業フォルダを、教材の今の版に追いつかせる。

    Raises:
        CourseError: 書き込めないとき、または教材のノートブックが壊れているとき。
    """
    report = UpdateReport()
    with Workspace() as workspace:
        notebooks = workspace.notebooks()
        for rel, source in notebooks.items():
            _update_one(workspace, rel, read_notebook(source), report)
        gone = set(workspace.records) - set(notebooks)
        report.removed = sorted(rel for rel in gone if (workspace.root / rel).is_file())
    return report


def _update_one(workspace: Workspace, rel: str, new: Intake, report: UpdateReport) -> None:
    path = workspace.root / rel
    if not (path.exists() or path.is_symlink()):
        workspace.place(rel, new)
        report.added.append(rel)
        return
    record = workspace.record(rel, new)
    if record.sha256 == new.sha256:
        report.unchanged += 1
        return
    mine = _learner_cells(path, report)
    if record.cells and mine == record.cells:
        report.replaced.append((rel, workspace.backup(path)))
        workspace.place(rel, new)
    elif sources_hash(new.document) in (mine, record.cells):  # 学習者が自分で追いついたか、教材側は出力だけの変更
        workspace.rebase(rel, new)
        report.unchanged += 1
    else:
        _lay_beside(workspace, rel, new, report)


def _learner_cells(path: Path, report: UpdateReport) -> str:
    try:
        return sources_hash(read_notebook(path).document)
    except CourseError as error:
        report.problems.append(f"{error}\nこのファイルには触れていません。")
        return ""


def _lay_beside(workspace: Workspace, rel: str, new: Intake, report: UpdateReport) -> None:
    record = workspace.records[rel]
    if record.beside_sha256 == new.sha256:  # この版はもう置いた。学習者が消していても、置き直さない
        report.unchanged += 1
        return
    path = _write_beside(workspace, rel, new)
    workspace.records[rel] = replace(
        record, beside=path.name, beside_sha256=new.sha256, beside_cells=sources_hash(new.document)
    )
    report.beside.append((rel, path.name))


def _write_beside(workspace: Workspace, rel: str, new: Intake) -> Path:
    earlier = workspace.root / Path(rel).parent / (workspace.records[rel].beside or "-")
    if earlier.is_file() and _untouched(earlier, workspace.records[rel].beside_cells):
        workspace.backup(earlier)
        atomic_write(earlier, new.data)
        return earlier
    japanese, ascii_only = (_free_name(workspace.root / rel, suffix) for suffix in _SUFFIXES)
    try:
        replace_bytes(japanese, new.data)
    except (OSError, UnicodeError):  # 名前を拒まれたのか容量不足なのかは、英字の名前で試せば分かる
        with japanese_os_errors(ascii_only):
            replace_bytes(ascii_only, new.data)
        return ascii_only
    return japanese


def _untouched(path: Path, cells: str) -> bool:
    try:
        return sources_hash(read_notebook(path).document) == cells
    except CourseError:
        return False


def _free_name(path: Path, suffix: str) -> Path:
    numbers = ("", *map(str, range(2, 1000)))
    candidates = (path.with_name(path.stem + suffix.format(number) + path.suffix) for number in numbers)
    try:
        return next(name for name in candidates if not name.exists())
    except UnicodeError:
        return path.with_name(path.stem + suffix.format("") + path.suffix)


def _how_to_adopt(rel: str) -> str:
    name = rel.removesuffix(".ipynb")
    return f"  新版に自分の答えを写して使えます。手元のファイルごと新版にするなら: tlkit reset {name}（控えは残ります）"
