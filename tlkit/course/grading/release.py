"""`tlkit release`: 学生に配る一式を作る。

入れるのは、演習のノートブック、それが読む実験の結果、説明、ライセンスだけである。解答、確認や採点の部品（tlkit そのもの）、
章の本文（クイズの答えを含む）は入れない。元の解答があるときは、その文が紛れていないことを確かめてから書く。
"""

import ast
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tlkit.course.cells import parse
from tlkit.course.errors import CourseError
from tlkit.course.grading import assignment
from tlkit.course.grading.assignment import Assignment
from tlkit.course.paths import course_root
from tlkit.course.work.files import atomic_write

_RESULTS = Path("experiments") / "results"
_LICENSES = ("LICENSE", "LICENSE-text")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip の日時。中身が同じなら、いつ作っても同じファイルになる
_MARKS = ("BEGIN SOLUTION", "END SOLUTION")
_GUIDE = """{title}

1. tlkit の使える環境で、{slug}.ipynb を JupyterLab で開きます。
2. 上から順に実行し、答えを書く所を自分の答えに替えます。
3. 書いたら、すぐ下の確認のセルを実行します。
4. 最後に「再起動してすべて実行」を選び、最後まで動くことを確かめてから保存します。
5. 提出するファイルの名前は「学籍番号.ipynb」にします（例 s001.ipynb）。

セルは消さないでください。自分のセルを足すのはかまいません。
問題と配点: {questions}
"""


@dataclass(frozen=True)
class Package:
    """作ったもの。

    Attributes:
        path: フォルダか zip。
        files: 中のファイルの名前。
        notes: 教員への知らせ。
    """

    path: Path
    files: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def lines(self) -> list[str]:
        """画面に出す行。"""
        return [f"作りました: {self.path}", *(f"  {name}" for name in self.files), *self.notes]


def release(slug: str, out: Path, *, as_zip: bool = False) -> Package:
    """配る一式を `out/<slug>/`（または `out/<slug>.zip`）に書く。

    Raises:
        CourseError: 演習がないとき、解答が紛れているとき、置き場所にほかのファイルがあるとき。
    """
    root = course_root()
    target = assignment.load(slug, root)
    notebook = root / "exercises" / f"{slug}.ipynb"
    notes = _verify(target, notebook, root)
    files = _contents(target, notebook, root)
    if as_zip:
        path = out / f"{slug}.zip"
        atomic_write(path, _zipped(files, slug))
    else:
        path = out / slug
        _refuse_strangers(path, files)
        for name, data in files.items():
            atomic_write(path / name, data)
    return Package(path, tuple(files), notes)


def _contents(target: Assignment, notebook: Path, root: Path) -> dict[str, bytes]:
    """名前 → 中身。ここに挙げたものだけが入る。"""
    files = {f"{target.slug}.ipynb": notebook.read_bytes()}
    files |= {path.relative_to(root).as_posix(): path.read_bytes() for path in _results(target, root)}
    files |= {name: (root / name).read_bytes() for name in _LICENSES if (root / name).is_file()}
    questions = "、".join(f"{question.id}（{question.points}点）" for question in target.questions)
    guide = _GUIDE.format(title=f"演習 {target.slug}", slug=target.slug, questions=questions)
    files["README.txt"] = guide.encode("utf-8-sig")  # 学生の手元の、どのエディタでも読めるように
    files["release.json"] = _manifest(target, files)
    return dict(sorted(files.items()))


def _results(target: Assignment, root: Path) -> list[Path]:
    """演習のセルが名前を挙げている実験の結果。"""
    names = {
        node.value
        for cell in target.cells
        if cell.role != "text"
        for node in ast.walk(parse(cell.source) or ast.Module([], []))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return sorted(path for path in (root / _RESULTS).glob("*.json") if path.stem in names)


def _manifest(target: Assignment, files: dict[str, bytes]) -> bytes:
    data = {
        "slug": target.slug,
        "version": target.version,
        "questions": {question.id: question.points for question in target.questions},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return (json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _zipped(files: dict[str, bytes], slug: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(f"{slug}/{name}", _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _refuse_strangers(path: Path, files: dict[str, bytes]) -> None:
    """前に書いたもののほかに何かあれば、混ぜずに断る。"""
    present = [item.relative_to(path).as_posix() for item in path.rglob("*") if not item.is_dir()]
    strangers = sorted(set(present) - set(files))
    if strangers:
        raise CourseError(
            f"{path} に、配る一式でないファイルがあります（{'、'.join(strangers[:5])}）。\n"
            "解答などが紛れないよう、空のフォルダを `--out` に指定してください。"
        )


def _verify(target: Assignment, notebook: Path, root: Path) -> tuple[str, ...]:
    """解答が紛れていないことを確かめる。

    Raises:
        CourseError: 答えのセルがひな形でないとき、解答の文が現れているとき。
    """
    marked = any(mark in cell.source for cell in target.cells for mark in _MARKS)
    filled = [cell.id for cell in target.cells if cell.role == "answer" and not _is_stub(cell.source)]
    if filled or marked:
        raise CourseError(
            f"exercises/{target.slug}.ipynb に、解答らしいものがあります（{'、'.join(filled) or '解答の印'}）。\n"
            "配る前に tlkit build で作り直してください。"
        )
    source = root / "solutions" / f"{target.slug}.py"
    if not source.is_file() or find_spec("jupytext") is None:
        return ("解答との照合は省きました（元の解答か、jupytext がありません）。",)
    problems = _leaks(source, notebook, root)
    if problems:
        raise CourseError("\n".join([f"exercises/{target.slug}.ipynb を配れません。", *problems[:5]]))
    return ()


def _is_stub(source: str) -> bool:
    """答えを書く所が残っているか。"""
    tree = parse(source)
    return tree is not None and any(
        (isinstance(node, ast.Constant) and node.value is Ellipsis)
        or (isinstance(node, ast.Name) and node.id == "NotImplementedError")
        for node in ast.walk(tree)
    )


def _leaks(source: Path, notebook: Path, root: Path) -> list[str]:
    """いまの解答から作り直したひな形と違うところと、解答の文が現れているところ。"""
    from tlkit.course.build.assemble import assemble
    from tlkit.course.build.leaks import find_leaks
    from tlkit.course.build.notebook import from_text
    from tlkit.course.build.targets import Target

    draft = assemble(Target(source, notebook, "exercise", root))
    found = from_text(notebook.read_text(encoding="utf-8"))
    wanted = {cell.id: cell.source for cell in draft.notebook.cells}
    stale = [cell.id for cell in found.cells if wanted.get(cell.id) != cell.source]
    old = (
        [f"元の解答と食い違うセルがあります（{'、'.join(stale[:5])}）。tlkit build で作り直してください。"]
        if stale
        else []
    )
    return old + find_leaks(found, list(draft.secrets))
