"""どの .py からどの .ipynb を作るか。引数の PATH を、作るべきノートブックの一覧に変える。

1 つの solutions/NN_slug.py からは、解答（solutions/）と演習（exercises/）の 2 つができる。
隣: 中身を組み立てるのは `assemble.py`、順に作るのは `run.py`。
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root, work_root

Kind = Literal["chapter", "solution", "exercise"]

SOURCE_FOLDERS = ("chapters", "solutions")
OUTPUT_FOLDERS = ("chapters", "solutions", "exercises")
_SOURCE_NAME = re.compile(r"\d{2}_[a-z0-9_]+\.py")


@dataclass(frozen=True)
class Target:
    """作るノートブック 1 つ。

    Attributes:
        source: 作者が書いた .py。
        output: 作られる .ipynb。
        kind: chapter（章）、solution（解答）、exercise（演習）。
        root: 教材の根。
    """

    source: Path
    output: Path
    kind: Kind
    root: Path

    @property
    def slug(self) -> str:
        """章の名前。例 "01_basics"。"""
        return self.source.stem

    @property
    def source_name(self) -> str:
        """教材の根から見た .py の名前。例 "solutions/01_basics.py"。"""
        return self.source.relative_to(self.root).as_posix()

    @property
    def output_name(self) -> str:
        """教材の根から見た .ipynb の名前。"""
        return self.output.relative_to(self.root).as_posix()


def all_targets(root: Path) -> list[Target]:
    """教材の根にある、すべての作り先を名前順に返す。"""
    found: list[Target] = []
    for source in _sources(root / "chapters"):
        found.append(Target(source, source.with_suffix(".ipynb"), "chapter", root))
    for source in _sources(root / "solutions"):
        found.append(Target(source, source.with_suffix(".ipynb"), "solution", root))
        found.append(Target(source, root / "exercises" / f"{source.stem}.ipynb", "exercise", root))
    return found


def select_targets(paths: Sequence[Path], root: Path | None = None) -> list[Target]:
    """PATH（.py、.ipynb、フォルダ）が指す作り先を返す。PATH がなければ全部。

    Raises:
        CourseError: PATH が教材のどの作り先にも当たらないとき。
    """
    root = root or course_root()
    targets = all_targets(root)
    if not paths:
        return targets
    chosen: set[Target] = set()
    for path in paths:
        chosen |= _matching(Path(path), targets, root)
    return [target for target in targets if target in chosen]


def orphans(root: Path) -> list[Path]:
    """元の .py がない .ipynb を返す。"""
    made = {target.output for target in all_targets(root)}
    notebooks = (path for folder in OUTPUT_FOLDERS for path in sorted((root / folder).glob("*.ipynb")))
    return [path for path in notebooks if path not in made]


def _sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if _SOURCE_NAME.fullmatch(path.name))


def _matching(path: Path, targets: list[Target], root: Path) -> set[Target]:
    """PATH が指す作り先。今のフォルダから見た場所、次に教材の根から見た場所として読む。"""
    places = [(base / path.expanduser()).resolve() for base in (Path.cwd(), root)]
    for place in places:
        if place.is_relative_to(work_root()):
            raise CourseError(
                f"{place} は作業フォルダの中です。build は学習者のファイルに触れません。\n"
                "元のノートブックを作り直すには、chapters/ か solutions/ の .py を指定してください。"
            )
        matched = {target for target in targets if _points_to(place, target)}
        if matched:
            return matched
    names = "、".join(sorted({target.source_name for target in targets})) or "（1 つもありません）"
    raise CourseError(
        f"{path} から作れるノートブックがありません（教材の根: {root}）。\n"
        "chapters/ か solutions/ の NN_名前.py、そこから作られる .ipynb、またはフォルダを指定してください。\n"
        f"いまある元ファイル: {names}"
    )


def _points_to(path: Path, target: Target) -> bool:
    if path.is_dir():
        return target.source.is_relative_to(path) or target.output.is_relative_to(path)
    return path in (target.source, target.output)
