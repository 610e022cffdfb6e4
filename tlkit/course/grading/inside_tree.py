"""檻に見せる tlkit の写しを作る。判定と正解を除き、採点する章を動かすのに要るものだけを入れる。

- 科学の側は全部入れる。ただし、正解のあるモジュール（`Question.reference`）は中身を除く。
- 教材の仕掛け（course）は、檻の中の Python が読み込むものだけを入れる。ほかの章の問題も、採点の流れも入らない。
- 判定のモジュール（名前に judge を含むもの）は名前だけを残し、そこからしか使われないモジュールは入れない。

調べ方は `inside_imports.py`、替わりの文面は `inside_stubs.py`、翻訳は `inside_marks.py`、使うのは `tasks.py` である。
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import cache_from_source
from pathlib import Path

import tlkit
from tlkit.course.checks.question import Question
from tlkit.course.errors import CourseError
from tlkit.course.grading.assignment import Assignment
from tlkit.course.grading.cage import TREE
from tlkit.course.grading.inside_imports import imported, module_file, parse, reachable
from tlkit.course.grading.inside_marks import compiled
from tlkit.course.grading.inside_stubs import judge_stub, reference_stub

_COURSE = "tlkit.course"
_CHECKS = f"{_COURSE}.checks"
_INSIDE = f"{_COURSE}.grading.inside"
# failure は、学習者が `from tlkit.course import CheckFailed` と書いたときに読み込まれる
_STARTS = (f"{_CHECKS}.registry", f"{_CHECKS}.failure", f"{_INSIDE}.__main__")
_JUDGE = re.compile(rf"{re.escape(_CHECKS)}\.c\d\d\.\w*judge\w*")
_FILE, _FOLDER = 0o644, 0o755  # 檻は root の権限を外して読む

Contents = dict[str, bytes]


def prepare(assignment: Assignment, folder: Path) -> Path:
    """採点する演習のための写しを作る。中身が同じ写しがもうあれば、作らずにそれを返す。

    Args:
        assignment: 採点する演習。
        folder: 写しを置くフォルダ。

    Returns:
        パッケージ tlkit を含むフォルダ。`supervise.run` に渡す。

    Raises:
        CourseError: 問題の `reference` にあるモジュールがないとき、章のモジュールがないとき。
    """
    contents = _contents(Path(tlkit.__file__).resolve().parent, assignment.questions)
    tree = folder / _key(contents)
    if not tree.is_dir():
        _write(contents, folder, tree)
    return tree


def _contents(root: Path, questions: Sequence[Question]) -> Contents:
    """写しのファイル。tlkit のフォルダからの相対の名前 → 中身。"""
    kept = reachable(root, _starts(root, questions), _is_judge)
    references = set(_references(root, questions))
    judged = {module: set[str]() for module in kept if _is_judge(module)}
    for module in kept - judged.keys():
        for source, names in imported(parse(_file(root, module))):
            judged.get(source, set()).update(names)
    contents = dict(_science(root))
    for module in kept:
        path = _file(root, module)
        text = judge_stub(parse(path), judged[module]).encode() if module in judged else path.read_bytes()
        contents[path.relative_to(root).as_posix()] = text
    for path in references:
        contents[path.relative_to(root).as_posix()] = reference_stub(parse(path)).encode()
    return contents


def _starts(root: Path, questions: Iterable[Question]) -> list[str]:
    inside = sorted((root / "course" / "grading" / "inside").glob("*.py"))
    chapters = sorted({f"{_CHECKS}.c{question.id[:2]}" for question in questions})
    return [*_STARTS, *(f"{_INSIDE}.{path.stem}" for path in inside if path.stem != "__init__"), *chapters]


def _science(root: Path) -> Iterator[tuple[str, bytes]]:
    """科学の側のファイル。重みなど、Python でないものも含む。"""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if parts[0] != "course" and "__pycache__" not in parts and path.is_file():
            yield "/".join(parts), path.read_bytes()


def _references(root: Path, questions: Iterable[Question]) -> Iterator[Path]:
    for question in questions:
        for name in question.reference:
            path = module_file(root, f"tlkit.{name}")
            if path is None or path.name == "__init__.py":
                raise CourseError(
                    f"問題 {question.id} の reference にある {name} が、tlkit のモジュール（1 つのファイル）にありません。"
                    '"losses.mmd" のように、tlkit の中での名前を書いてください。'
                )
            yield path


def _is_judge(module: str) -> bool:
    return _JUDGE.fullmatch(module) is not None


def _file(root: Path, module: str) -> Path:
    path = module_file(root, module)
    if path is None:
        raise CourseError(f"{module} のファイルが見つかりません。tlkit を入れ直してください。")
    return path


def _key(contents: Contents) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(contents.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:24]


def _write(contents: Contents, folder: Path, tree: Path) -> None:
    """別の名前で作り、できあがってから名前を変える。途中で止まっても、半端な写しは使われない。"""
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder))
    try:
        for name, data in contents.items():
            path = draft / "tlkit" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            if path.suffix == ".py":
                _compile(path, name)
        for path in (draft, *draft.rglob("*")):
            path.chmod(_FOLDER if path.is_dir() else _FILE)
        draft.rename(tree)
    except OSError:
        if not tree.is_dir():  # ほかのプロセスが先に同じ写しを作ったのなら、それを使う
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _compile(path: Path, name: str) -> None:
    """檻の中では書けないので、提出のたびに翻訳し直さずに済むよう、先に翻訳しておく。"""
    target = Path(cache_from_source(path))
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(compiled(path.read_bytes(), name, f"{TREE}/tlkit/{name}"))
