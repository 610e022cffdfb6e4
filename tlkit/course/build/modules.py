"""コードが読み込む tlkit のモジュールを、実行せずに import 文から（奥まで）たどる。

遅延読み込みの `__init__`（名前 → モジュール名の辞書）も、使う名前の分だけたどる。
隣: 使うのは `fingerprint.py`。
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import tlkit

PACKAGE = Path(tlkit.__file__).resolve().parent


def module_files(sources: Iterable[str], extra: Iterable[str] = ()) -> list[Path]:
    """sources のコードが読み込む tlkit のファイルを、名前順に返す。extra はモジュール名を足す。"""
    pending = [name for source in sources for name in _imports(ast.parse(source), "")]
    pending += list(extra)
    seen: set[Path] = set()
    while pending:
        for name, file in _with_parents(pending.pop()):
            if file not in seen:
                seen.add(file)
                pending += _imports_of(file, name)
    return sorted(seen)


def parse_file(file: Path) -> ast.Module:
    """ファイルの構文木。"""
    return ast.parse(file.read_text(encoding="utf-8"))


def module_file(name: str) -> Path | None:
    """tlkit のモジュール名に当たるファイル。なければ None。"""
    first, *rest = name.split(".")
    if first != "tlkit" or not all(part.isidentifier() for part in rest):
        return None
    base = PACKAGE.joinpath(*rest)
    for file in (base / "__init__.py", base.with_suffix(".py") if rest else base / "__init__.py"):
        if file.is_file():
            return file
    return None


@functools.lru_cache(maxsize=1024)
def _cached_imports(file: Path, name: str, stamp: tuple[int, int]) -> tuple[str, ...]:
    del stamp  # ファイルが変わったら読み直すための鍵
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    tree = parse_file(file)
    found = list(_imports(tree, package))
    if file.name != "__init__.py":  # `__init__` の辞書は、使う名前の分だけ _lazy_home がたどる
        found += [node.value for node in ast.walk(tree) if _names_module(node)]  # type: ignore[attr-defined]
    return tuple(found)


def _imports_of(file: Path, name: str) -> tuple[str, ...]:
    status = file.stat()
    return _cached_imports(file, name, (status.st_mtime_ns, status.st_size))


def _with_parents(name: str) -> Iterator[tuple[str, Path]]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        prefix = ".".join(parts[:end])
        file = module_file(prefix)
        if file is not None:
            yield prefix, file


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in _running_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tlkit")
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            if base.split(".")[0] == "tlkit":
                yield base
                for alias in node.names:
                    yield _lazy_home(base, alias.name) or f"{base}.{alias.name}"


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """`if TYPE_CHECKING:` の中を除く、すべての節。"""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


def _lazy_home(module: str, name: str) -> str | None:
    """遅延読み込みの `__init__` で、name がどのモジュールから来るか。"""
    file = module_file(module)
    if file is None or file.name != "__init__.py" or module_file(f"{module}.{name}"):
        return None
    tree = parse_file(file)
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == name:
                    home = constants.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
                    return _resolve(home, module)
    return None


def _resolve(home: object, module: str) -> str | None:
    if not isinstance(home, str):
        return None
    name = module + home if home.startswith(".") else home
    return next((candidate for candidate in (name, f"{module}.{home}") if module_file(candidate)), None)


def _names_module(node: ast.AST) -> bool:
    value = getattr(node, "value", None)
    return (
        isinstance(node, ast.Constant)
        and isinstance(value, str)
        and value.startswith("tlkit.")
        and module_file(value) is not None
    )
