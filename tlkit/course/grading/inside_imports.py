"""tlkit のどのモジュールが、どのモジュールを読み込むかを、動かさずに調べる。

使うのは `inside_tree.py` である。関数の中の import も数え、`if TYPE_CHECKING:` の中は数えない。
名前を組み立てて読み込むもの（`importlib.import_module`）は見つけられないので、たどる始まりに加えておく。
"""

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tlkit.course import syntax
from tlkit.course.errors import CourseError


def module_file(root: Path, module: str) -> Path | None:
    """モジュール（例 "tlkit.losses.mmd"）のファイル。なければ None。

    Args:
        root: パッケージ tlkit のフォルダ。
        module: tlkit で始まる名前。
    """
    base = root.joinpath(*module.split(".")[1:])
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def parse(path: Path) -> ast.Module:
    """Python のファイルを読む。"""
    return syntax.parse(path.read_bytes(), str(path))


def imported(tree: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """読み込む tlkit のモジュールと、そこから取り出す名前。`import tlkit.x` なら、名前は空。

    Raises:
        CourseError: 相対 import（`from . import x`）があるとき。tlkit では使わない。
    """
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise CourseError("tlkit の中に相対 import があります。`from tlkit.… import …` と書いてください。")
            if _is_ours(node.module):
                yield node.module, tuple(alias.name for alias in node.names)


def reachable(root: Path, starts: Iterable[str], is_closed: Callable[[str], bool]) -> set[str]:
    """始まりのモジュールから、読み込みをたどって着くモジュール。親のパッケージも含む。

    Args:
        root: パッケージ tlkit のフォルダ。
        starts: たどる始まり。
        is_closed: その先をたどらないモジュールか（そのモジュール自身は含む）。

    Raises:
        CourseError: 始まりのモジュールがないとき。
    """
    waiting = list(starts)
    missing = [name for name in waiting if module_file(root, name) is None]
    if missing:
        raise CourseError(f"{'、'.join(missing)} が tlkit にありません。tlkit を入れ直してください。")
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += _parents(module)
        if not is_closed(module):
            waiting += _targets(root, module)
    return found


@functools.cache
def _targets(root: Path, module: str) -> tuple[str, ...]:
    """モジュールが直に読み込むモジュール。"""
    path = module_file(root, module)
    if path is None:
        return ()
    return tuple(
        name
        for source, names in imported(parse(path))
        for name in (source, *(f"{source}.{name}" for name in names))
        if module_file(root, name) is not None
    )


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _is_ours(module: str) -> bool:
    return module == "tlkit" or module.startswith("tlkit.")


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """型を調べるときにだけ読まれる部分を除いた、すべての節。"""
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield other
                yield from _running(other)
        else:
            yield from _running(node)
