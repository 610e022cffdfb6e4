"""解答の自動的な書き換え（変異）を作る。

解答（solutions/NN_*.py の BEGIN/END SOLUTION の間）を構文木にし、一か所だけ変えた版を並べる。
確認がよくできていれば、答えの意味が変わる版はすべて落ちる。落ちない版は、意味の同じ書き換えのはずである。
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
_OPERATORS |= {ast.MatMult: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv}
_COMPARISONS = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}
_METHODS = {"mean": "sum", "sum": "mean", "max": "min", "min": "max", "square": "abs", "exp": "exp2", "sqrt": "square"}
_METHODS |= {"train": "eval", "eval": "train", "softmax": "sigmoid", "log_softmax": "softmax", "argmax": "argmin"}
_METHODS |= {"modules": "children"}
_QUIET = {"torch.no_grad()", "torch.inference_mode()"}
_PLAIN_CALLS = {"len", "range", "zip", "enumerate", "print", "isinstance", "int", "float"}


@dataclass(frozen=True)
class Mutant:
    """一か所だけ変えた解答。name は「元の式 → 変えた式」（同じものが複数あれば #2 からの番号が付く）。"""

    name: str
    answers: Callable[[], tuple[Any, ...]]


def mutants(question_id: str, names: tuple[str, ...]) -> list[Mutant]:
    """この演習の解答の変異をすべて作る。"""
    module, region = solution(question_id)
    seen: dict[str, int] = {}
    made = []
    for label, mutated in _mutations(module, region):
        seen[label] = seen.get(label, 0) + 1
        name = label if seen[label] == 1 else f"{label} #{seen[label]}"
        made.append(Mutant(name, lambda tree=mutated: execute(tree, names)))
    return made


def solution(question_id: str) -> tuple[ast.Module, list[tuple[int, int]]]:
    """解答の構文木（読み込みと定義と、領域を含む文だけ）と、領域の行の範囲。"""
    path = next(SOLUTIONS.glob(f"{question_id[:2]}_*.py"))
    source = path.read_text(encoding="utf-8")
    regions = _regions(source.splitlines(), question_id)
    assert regions, f"{path.name} に {question_id} の解答の領域がありません"
    kept = [node for node in ast.parse(source).body if _is_needed(node, regions)]
    return ast.Module(kept, []), regions


def execute(tree: ast.Module, names: tuple[str, ...]) -> tuple[Any, ...]:
    """構文木を動かし、答えの名前の値を取り出す。"""
    namespace: dict[str, Any] = {"__name__": "mutant"}
    exec(compile(ast.fix_missing_locations(tree), "<mutant>", "exec"), namespace)
    return tuple(namespace[name] for name in names)


def _regions(lines: list[str], question_id: str) -> list[tuple[int, int]]:
    found, inside, start = [], False, 0
    for number, line in enumerate(lines, 1):
        if "<!-- exercise:" in line:
            inside = f"exercise: {question_id} " in line
        elif inside and line.strip() == BEGIN:
            start = number
        elif inside and line.strip() == END:
            found.append((start, number))
    return found


def _is_needed(node: ast.stmt, regions: list[tuple[int, int]]) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom) or any(
        node.lineno <= end and start <= (node.end_lineno or 0) for start, end in regions
    )


def _mutations(module: ast.Module, regions: list[tuple[int, int]]) -> Iterator[tuple[str, ast.Module]]:
    quiet = _without_gradients(module)
    for index, node in enumerate(ast.walk(module)):
        line = getattr(node, "lineno", 0)
        if not any(start < line < end for start, end in regions):
            continue
        for new in _variants(node, module):
            if ast.dump(new) == ast.dump(node) or (id(node) in quiet and _is_detach(new, node)):
                continue
            tree = copy.deepcopy(module)
            target = list(ast.walk(tree))[index]
            shown = ast.unparse(new) if not isinstance(new, ast.Pass) else "（削除）"
            yield f"{ast.unparse(node)} → {shown}", _Replace(target, new).visit(tree)


def _without_gradients(module: ast.Module) -> set[int]:
    """no_grad の中の式。もともと勾配がないので、detach を付けても何も変わらない。"""
    blocks = [node for node in ast.walk(module) if isinstance(node, ast.With)]
    quiet = [node for node in blocks if any(ast.unparse(item.context_expr) in _QUIET for item in node.items)]
    return {id(inner) for node in quiet for statement in node.body for inner in ast.walk(statement)}


def _is_detach(new: ast.AST, node: ast.AST) -> bool:
    return isinstance(new, ast.Call) and ast.unparse(new) == f"{ast.unparse(node)}.detach()"


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, new: ast.AST) -> None:
        self.target, self.new = target, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.target else self.generic_visit(node)


def _variants(node: ast.AST, module: ast.Module) -> Iterator[ast.AST]:
    for kind, make in _MAKERS.items():
        if isinstance(node, kind):
            yield from make(node)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _other_arguments(node, module)


def _changed(node: ast.AST, **fields: Any) -> Any:
    new = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _binary(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in _OPERATORS:
        yield _changed(node, op=_OPERATORS[type(node.op)]())
    if isinstance(node.op, ast.Sub | ast.Div | ast.Pow):
        yield _changed(node, left=copy.deepcopy(node.right), right=copy.deepcopy(node.left))
    yield copy.deepcopy(node.left)
    yield copy.deepcopy(node.right)


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield copy.deepcopy(node.operand)


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield _changed(node, value=not node.value)
    elif isinstance(node.value, int | float):
        yield from (_changed(node, value=value) for value in (node.value + 1, node.value - 1, node.value * 2 or 0.5))


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    if type(node.ops[0]) in _COMPARISONS:
        yield _changed(node, ops=[_COMPARISONS[type(node.ops[0])](), *node.ops[1:]])
    yield ast.Constant(True)
    yield ast.Constant(False)


def _call(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if isinstance(node.func, ast.Attribute):
        if name in _METHODS:
            yield _changed(node, func=_changed(node.func, attr=_METHODS[name]))
        yield copy.deepcopy(node.func.value if not node.args else node.args[0])
    if name not in _PLAIN_CALLS:
        yield ast.Call(ast.Attribute(copy.deepcopy(node), "detach", ast.Load()), [], [])
    if len(node.args) >= 2:
        yield _changed(node, args=[copy.deepcopy(node.args[1]), copy.deepcopy(node.args[0]), *node.args[2:]])
    yield from (_changed(node, keywords=node.keywords[:i] + node.keywords[i + 1 :]) for i in range(len(node.keywords)))


def _branch(node: ast.If | ast.IfExp) -> Iterator[ast.AST]:
    yield _changed(node, test=ast.UnaryOp(ast.Not(), copy.deepcopy(node.test)))


def _statement(node: ast.stmt) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Pass):
        yield ast.Pass()


def _loop(node: ast.For) -> Iterator[ast.AST]:
    """初めの一つだけを使う、初めを飛ばす、最後を落とす。"""
    yield from (_changed(node, iter=part) for part in _parts(node.iter))


def _comprehension(node: ast.ListComp | ast.DictComp) -> Iterator[ast.AST]:
    first, *rest = node.generators
    yield from (_changed(node, generators=[_changed(first, iter=part), *rest]) for part in _parts(first.iter))


def _parts(iterable: ast.expr) -> Iterator[ast.expr]:
    for part in ("[:1]", "[1:]", "[:-1]"):
        yield ast.parse(f"list({ast.unparse(iterable)}){part}", mode="eval").body


def _with(node: ast.With) -> Iterator[ast.AST]:
    """with の働きをなくし、中身だけを動かす。"""
    if all(item.optional_vars is None for item in node.items):
        yield ast.If(ast.Constant(True), copy.deepcopy(node.body), [])


def _pair(node: ast.Tuple) -> Iterator[ast.AST]:
    if isinstance(node.ctx, ast.Load):
        yield _changed(node, elts=copy.deepcopy(node.elts[::-1]))


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    if type(node.op) in _OPERATORS:
        yield _changed(node, op=_OPERATORS[type(node.op)]())


def _other_arguments(node: ast.Name, module: ast.Module) -> Iterator[ast.AST]:
    """同じ関数のほかの引数に取り違える。"""
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef):
            names = [item.arg for item in function.args.args]
            if node.id in names and any(node is inner for inner in ast.walk(function)):
                yield from (_changed(node, id=name) for name in names if name != node.id)


_MAKERS: dict[Any, Callable[[Any], Iterator[ast.AST]]] = {
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Constant: _constant,
    ast.Compare: _compare,
    ast.Call: _call,
    ast.If: _branch,
    ast.IfExp: _branch,
    ast.AugAssign: _augmented,
    ast.For: _loop,
    ast.ListComp | ast.DictComp: _comprehension,
    ast.With: _with,
    ast.Tuple: _pair,
    ast.Assign | ast.AugAssign | ast.Expr | ast.Return | ast.If | ast.For | ast.FunctionDef: _statement,
}
