"""教材の置き場所を一か所で決める。

- 教材の根: `chapters/` と `exercises/` を持つフォルダ（リポジトリの写し）。
- 作業フォルダ: 学習者が自分で書き換えるノートブックの置き場所 `work/`。build は決して触れない。
"""

import os
from pathlib import Path

from tlkit.course.errors import CourseError

_MARKER = Path("chapters") / "00_start.py"


def course_root() -> Path:
    """教材の根を返す。環境変数 TLKIT_COURSE があればそれを、なければ tlkit の置き場所から探す。

    Raises:
        CourseError: `chapters/00_start.py` を持つフォルダが見つからないとき。
    """
    named = os.environ.get("TLKIT_COURSE")
    candidates = [Path(named)] if named else [Path(__file__).resolve().parents[2], *_upwards(Path.cwd())]
    for folder in candidates:
        if (folder / _MARKER).is_file():
            return folder.resolve()
    tried = "TLKIT_COURSE=" + named if named else f"{candidates[0]} と、今のフォルダから上"
    raise CourseError(
        f"教材のフォルダが見つかりません（探した場所: {tried}）。\n"
        f"`{_MARKER.as_posix()}` のあるフォルダで実行するか、環境変数 TLKIT_COURSE にそのフォルダを指定してください。"
    )


def work_root() -> Path:
    """学習者の作業フォルダを返す（まだ無いこともある）。環境変数 TLKIT_WORK で変えられる。"""
    named = os.environ.get("TLKIT_WORK")
    return Path(named).expanduser().resolve() if named else course_root() / "work"


def _upwards(folder: Path) -> list[Path]:
    return [folder, *folder.parents]
