"""教材のフォルダ、作業フォルダ、キャッシュを調べる。"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from tlkit.course.doctor.commands import quoted
from tlkit.course.doctor.finding import Finding, fault, ok
from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root, work_root


def cache_folder() -> Path:
    """データの置き場所。`tlkit.data.files.cache_root` と同じ決まり。

    あちらを呼ぶと torch が読み込まれる。torch が壊れていても調べられるように、ここでも持つ（検査が一致を守る）。
    """
    named = os.environ.get("TLKIT_DATA")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("tlkit", appauthor=False))


def nearest(folder: Path) -> Path:
    """そのフォルダ自身か、存在する最も近い上の場所。"""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def cache() -> Finding:
    """キャッシュに書けるか。"""
    folder = cache_folder()
    problem = cannot_write(folder)
    if problem:
        change = "set TLKIT_DATA=書けるフォルダ" if os.name == "nt" else 'export TLKIT_DATA="$HOME/tlkit-data"'
        return fault(
            "キャッシュ", f"{folder} に書けない（{problem}）", f"{change} を実行してから、もう一度始めてください。"
        )
    return ok("キャッシュ", str(folder))


def course() -> Finding:
    """教材のフォルダが見つかるか。"""
    try:
        return ok("教材のフォルダ", str(course_root()))
    except CourseError as error:
        seen, *rest = str(error).splitlines()
        return fault("教材のフォルダ", seen, " ".join(rest))


def work() -> Finding:
    """作業フォルダに書けるか。まだ無ければ、作れるか。"""
    name = "作業フォルダ"
    try:
        folder = work_root()
    except CourseError:
        return ok(name, "教材のフォルダが見つからないので調べていない")
    problem = cannot_write(folder)
    if problem:
        fix = f"{nearest(folder)} の書き込みの許可を直すか、環境変数 TLKIT_WORK に書けるフォルダを指定してください。"
        return fault(name, f"{folder} に書けない（{problem}）", fix)
    return ok(name, str(folder) if folder.exists() else f"まだない（`make lab` が {folder} に作る）")


def progress() -> Finding:
    """進み具合などの記録（work/ 直下の JSON）が読めるか。"""
    name = "学習の記録"
    try:
        folder = work_root()
    except CourseError:
        return ok(name, "教材のフォルダが見つからないので調べていない")
    broken = list(_unreadable(folder))
    if not broken:
        return ok(name, "読める" if folder.exists() else "まだない")
    move = "move" if os.name == "nt" else "mv"
    fix = " ; ".join(quoted(move, str(path), str(path) + ".broken") for path, _ in broken)
    return fault(name, "、".join(f"{path.name}が読めない（{why}）" for path, why in broken), fix)


def cannot_write(folder: Path) -> str:
    """書けない理由。書ければ空。許可の表示は当てにならないので、消える一時ファイルを実際に作ってみる。"""
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)) as file:
            file.write(b"tlkit")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _unreadable(folder: Path) -> Iterator[tuple[Path, str]]:
    """読めない JSON と、その理由。"""
    current = {*folder.glob("*.json"), *folder.glob(".*.json"), *folder.glob(".tlkit/*.json")}
    for path in sorted(path for path in current if ".broken" not in path.name):  # 脇へよけた古い記録は見ない
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield path, str(error).splitlines()[0]
