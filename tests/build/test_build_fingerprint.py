"""刻印。出力を決めるものが変われば変わり、関係のないものでは変わらない。"""

from pathlib import Path

import pytest
from build_course import code, draft

from tlkit.course.build import fingerprint, modules

PACKAGE = {
    "__init__.py": "",
    "used.py": "from .deep import value\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tlkit.typed",
    "deep.py": "value = 'table.npz'",
    "typed.py": "",
    "unused.py": "",
    "dynamic.py": "import importlib\nimportlib.import_module('tlkit.named')",
    "named.py": "",
    "lazy/__init__.py": "_A = 'tlkit.lazy.a'\n_HOMES = {'one': _A, 'two': 'tlkit.lazy.b', 'three': '.c'}",
    "lazy/a.py": "import tlkit.deep",
    "lazy/b.py": "",
    "lazy/c.py": "",
    "assets/table.npz": "1",
    "assets/other.npz": "1",
    "assets/glyphs/x.bin": "1",
}
RESULTS = {"experiments/results/mmd.json": "{}", "experiments/results/other.json": "{}", "requirements.lock": "a==1"}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """小さな作り物の tlkit。"""
    package = tmp_path / "lib" / "tlkit"
    for base, files in ((package, PACKAGE), (tmp_path, RESULTS)):
        for name, text in files.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(modules, "PACKAGE", package)
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    return package


def names(fake: Path, source: str) -> list[str]:
    found = [path.relative_to(fake).as_posix() for path in modules.module_files([source])]
    return [name for name in found if name != "__init__.py"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import tlkit.used", ["deep.py", "used.py"]),
        ("from tlkit import used", ["deep.py", "used.py"]),
        ("def f():\n    from tlkit.used import value", ["deep.py", "used.py"]),
        ("from tlkit.lazy import one", ["deep.py", "lazy/__init__.py", "lazy/a.py"]),
        ("from tlkit.lazy import two", ["lazy/__init__.py", "lazy/b.py"]),
        ("from tlkit.lazy import three", ["lazy/__init__.py", "lazy/c.py"]),
        ("from tlkit import dynamic", ["dynamic.py", "named.py"]),
        ("import torch", []),
    ],
)
def test_imports_are_followed(fake: Path, source: str, expected: list[str]) -> None:
    assert names(fake, source) == expected


def changed(tmp_path: Path, source: str, file: Path, text: str = "value = 'table.npz'  # 変えた") -> list[str]:
    """file を書き換えたとき、刻印のどの部分が変わるか。"""
    made = draft(tmp_path, code(source), "chapter")
    before = fingerprint.input_fingerprint(made.notebook, made.target)
    file.write_text(text, encoding="utf-8")
    after = fingerprint.input_fingerprint(made.notebook, made.target)
    return [part for part in before if before[part] != after[part]]


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("import tlkit.used", "lib/tlkit/deep.py", ["modules"]),
        ("import tlkit.used", "lib/tlkit/unused.py", []),
        ("import tlkit.used", "lib/tlkit/assets/table.npz", ["assets"]),
        ("import tlkit.used", "lib/tlkit/assets/other.npz", []),
        ("x = load('glyphs')", "lib/tlkit/assets/glyphs/x.bin", ["assets"]),
        ("x = f'experiments/results/{1}'\ny = 'mmd'", "experiments/results/mmd.json", ["assets"]),
        ("y = 'results/mmd.json'", "experiments/results/mmd.json", ["assets"]),
        ("y = 'mmd'", "experiments/results/other.json", []),
        ("x = 1", "requirements.lock", ["lock"]),
    ],
)
def test_only_the_concerned_part_changes(
    tmp_path: Path, fake: Path, source: str, name: str, expected: list[str]
) -> None:
    assert changed(tmp_path, source, tmp_path / name) == expected


def test_cells_part_follows_code_and_not_prose(tmp_path: Path) -> None:
    def cells(source: str) -> str:
        made = draft(tmp_path, source, "chapter")
        return fingerprint.input_fingerprint(made.notebook, made.target)["cells"]

    assert cells("# %% [markdown]\n# a\n" + code("x = 1")) == cells("# %% [markdown]\n# b\n" + code("x = 1"))
    assert cells(code("x = 1")) != cells(code("x = 2"))


def test_newline_style_does_not_matter(tmp_path: Path, fake: Path) -> None:
    (fake / "deep.py").write_bytes(b"a = 1\nb = 2\n")
    made = draft(tmp_path, code("import tlkit.used"), "chapter")
    before = fingerprint.input_fingerprint(made.notebook, made.target)
    (fake / "deep.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    assert fingerprint.input_fingerprint(made.notebook, made.target) == before


def test_real_course_functions_reach_the_question_and_the_harness() -> None:
    files = {
        path.as_posix()
        for path in modules.module_files(["from tlkit.course import check"], ["tlkit.course.checks.c01"])
    }
    wanted = (
        "checks/session.py",
        "checks/harness.py",
        "checks/registry.py",
        "checks/c01/mmd2.py",
        "checks/c01/mmd2_judge.py",
    )
    assert [name for name in wanted if not any(file.endswith(name) for file in files)] == []
    assert not any("/doctor/" in file or "/build/" in file for file in files)
