"""置き場全体の決まり: 機械に固有の道筋や取り寄せ先を書かない、配布物に答えを入れない、部品を短く保つ。

調べるのは、git が知っているファイルと、まだ加えていないが無視もされていないファイル。
"""

import ast
import json
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
# この検査自身に当たらないよう、文字を組み立てる。
MACHINE_PATH = re.compile(
    r"(?<![\w.}/])/(?:ho" + r"me|Use" + r"rs)/[a-z][\w.-]*"
    r"|(?<![\w.}/])/ro" + r"ot/[\w.]"
    r"|(?<![\w.}/])/wo" + r"rk/[\w.]"
    r"|(?<![\w.}/])/tm" + r"p/[\w.]"
    r"|[A-Za-z]:\\{1,2}Use" + r"rs\b"
)
REGISTRY = re.compile(
    r"py" + r"pi\.org|python" + r"hosted\.org|download\.py" + r"torch\.org|registry\.np" + r"mjs|npm" + r"mirror"
    r"|deb\.deb" + r"ian\.org|conda\.ana" + r"conda|--(?:extra-)?index-" + r"url[ =]+https?:"
)
HOT_LINK = re.compile(r"!\[[^\]]*\]\(\s*<?https?:|<img\b[^>]*\bsrc\s*=\s*\\?[\"']?https?:", re.I)
NBVAL_OFF = re.compile(r"nbval[-_]" + "skip", re.I)


def listed(*suffixes: str) -> list[Path]:
    """調べるファイル。"""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = set(subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8").split("\0")) - {""}
    paths = [ROOT / name for name in sorted(names)]
    return [p for p in paths if p.is_file() and (not suffixes or p.suffix in suffixes)]


def texts() -> Iterator[tuple[str, str]]:
    """（名前, 中身）。文字として読めないものは飛ばす。"""
    for path in listed():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def matches(pattern: re.Pattern[str], files: Iterator[tuple[str, str]]) -> list[str]:
    """`名前:行: 当たった文字` の一覧。"""
    return [
        f"{name}:{number}: {match.group()}"
        for name, text in files
        for number, line in enumerate(text.splitlines(), 1)
        for match in pattern.finditer(line)
    ]


def test_no_machine_paths() -> None:
    assert matches(MACHINE_PATH, texts()) == []


def test_no_package_registries() -> None:
    assert matches(REGISTRY, texts()) == []


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (MACHINE_PATH, "open('/ho" + "me/hanako/x')", True),
        (MACHINE_PATH, "cd /wo" + "rk/main", True),
        (MACHINE_PATH, r"C:\Use" + r"rs\hanako", True),
        (MACHINE_PATH, "/wo" + "rk/", False),
        (MACHINE_PATH, "lab/tree/wo" + "rk/chapters", False),
        (MACHINE_PATH, "f'{root}/wo" + "rk/chapters'", False),
        (REGISTRY, "https://py" + "pi.org/simple", True),
        (HOT_LINK, "![図](https://example.invalid/a.png)", True),
        (HOT_LINK, "![図](attachment:a.png) [文献](https://example.invalid/)", False),
        (HOT_LINK, '<img alt="図" src=\\"https://example.invalid/a.png\\">', True),
    ],
)
def test_patterns_see_what_they_should(pattern: re.Pattern[str], text: str, found: bool) -> None:
    assert bool(pattern.search(text)) is found


def test_repository_is_small() -> None:
    sizes = {p.relative_to(ROOT).as_posix(): p.stat().st_size for p in listed()}
    assert sum(sizes.values()) <= 60 * 1024**2, sorted(sizes.items(), key=lambda x: -x[1])[:10]


class TestNotebooks:
    def test_each_is_at_most_500_kb(self) -> None:
        large = {p.name: p.stat().st_size for p in listed(".ipynb") if p.stat().st_size > 500 * 1024}
        assert large == {}

    def test_no_widget_state(self) -> None:
        found = []
        for path in listed(".ipynb"):
            text = path.read_text(encoding="utf-8")
            if "widgets" in json.loads(text)["metadata"] or "application/vnd.jupyter.widget" in text:
                found.append(path.name)
        assert found == []

    def test_no_hot_linked_images(self) -> None:
        sources = (p for p in listed(".ipynb", ".md", ".py", ".yaml") if "tests" not in p.relative_to(ROOT).parts)
        assert matches(HOT_LINK, ((p.name, p.read_text(encoding="utf-8")) for p in sources)) == []

    def test_no_cell_is_taken_out_of_the_check(self) -> None:
        folders = ("chapters", "solutions", "exercises")
        sources = [p for p in listed(".py", ".ipynb") if p.relative_to(ROOT).parts[0] in folders]
        assert sources
        assert matches(NBVAL_OFF, ((p.name, p.read_text(encoding="utf-8")) for p in sources)) == []


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """配布物（wheel）に入るファイルの名前。置き場を汚さないよう、写しから作る。"""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for path in listed():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(out),
        str(copy),
    ]
    subprocess.run([*command, "--disable-pip-version-check"], check=True, capture_output=True)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        return archive.namelist()


class TestWheel:
    def test_holds_the_package_and_its_marker(self, wheel_names: list[str]) -> None:
        assert {"tlkit/__init__.py", "tlkit/py.typed"} <= set(wheel_names)

    def test_holds_every_module_of_the_package(self, wheel_names: list[str]) -> None:
        modules = {p.relative_to(ROOT).as_posix() for p in listed(".py") if p.is_relative_to(ROOT / "tlkit")}
        assert modules - set(wheel_names) == set()

    def test_holds_the_templates_of_the_grading_report(self, wheel_names: list[str]) -> None:
        folder = ROOT / "tlkit/course/grading/report/templates"
        wanted = {p.relative_to(ROOT).as_posix() for p in folder.iterdir()}
        assert wanted
        assert wanted <= set(wheel_names)

    def test_holds_both_licenses(self, wheel_names: list[str]) -> None:
        assert {Path(name).name for name in wheel_names if "licenses/" in name} == {"LICENSE", "LICENSE-text"}

    def test_holds_no_answers(self, wheel_names: list[str]) -> None:
        outside = [n for n in wheel_names if not n.startswith(("tlkit/", "tlkit-"))]
        assert outside == []
        secret = re.compile(r"solution|exercise|answers/|quiz/.*\.ya?ml$|\.ipynb$|(^|/)tests?/", re.I)
        assert [n for n in wheel_names if secret.search(n)] == []


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """公開された関数・クラスと、公開されたクラスの公開されたメソッド。"""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (x for x in node.body if isinstance(x, kinds) and not x.name.startswith("_"))


def _trees(folder: str) -> list[tuple[str, ast.Module]]:
    paths = [p for p in listed(".py") if p.is_relative_to(ROOT / folder)]
    return [(p.relative_to(ROOT).as_posix(), ast.parse(p.read_text(encoding="utf-8"))) for p in paths]


def _lengths(folder: str) -> dict[str, int]:
    """関数の行数（docstring も数える）。"""
    return {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, tree in _trees(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


class TestStyle:
    def test_every_module_and_public_name_has_a_japanese_docstring(self) -> None:
        bare = [
            f"{name}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'モジュール')}"
            for name, tree in _trees("tlkit")
            for node in (tree, *_public(tree))
            if not JAPANESE.search(ast.get_docstring(node) or "")
        ]
        assert bare == []

    @pytest.mark.parametrize("folder", ["tlkit", "tools"])
    def test_files_are_at_most_250_lines(self, folder: str) -> None:
        paths = [p for p in listed(".py") if p.is_relative_to(ROOT / folder)]
        counts = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in paths}
        assert {name: n for name, n in counts.items() if n > 250} == {}

    @pytest.mark.parametrize("folder", ["tlkit", "tools"])
    def test_no_function_is_over_60_lines(self, folder: str) -> None:
        assert {name: n for name, n in _lengths(folder).items() if n > 60} == {}

    def test_functions_are_short(self) -> None:
        lengths = sorted(_lengths("tlkit").values())
        assert lengths
        assert statistics.median(lengths) <= 12
        assert lengths[int(0.9 * (len(lengths) - 1))] <= 30


def test_every_test_file_is_collected() -> None:
    """Pytest は build などの名前のフォルダを黙って飛ばす。書いた検査が、どれも動くこと。"""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    collected = {line.split("::")[0] for line in seen.stdout.splitlines() if "::" in line}
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert written - collected == set(), seen.stdout[-2000:] + seen.stderr[-2000:]
