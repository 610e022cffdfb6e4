"""「誤りを見つけて直す」演習で、教材が見せる誤った関数を、解答の元の文から取り出す。使うのは `tests/answers/` である。"""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"


def planted(slug: str, name: str) -> Callable[..., Any]:
    """solutions/slug.py が見せる、誤った関数 name。"""
    namespace = {"torch": torch, "F": F, "nn": torch.nn, "Tensor": torch.Tensor, "Callable": object}
    exec("from __future__ import annotations\n" + ast.unparse(_definition(slug, name)), namespace)
    return namespace[name]


def stub_without_its_first_line(slug: str, name: str, answer: str) -> Callable[..., Any]:
    """答え answer のひな形から、初めの raise を消したもの。残りは、見せた関数の本体と同じである。"""
    source = _source(slug)
    section = source[source.index(f"def {answer}(") :]
    lines = re.findall(r"^ *### STUB ?(.*)$", section[: section.index("### END SOLUTION")], re.MULTILINE)
    first, *rest = ast.parse("\n".join(lines)).body
    assert isinstance(first, ast.Raise)
    shown = _definition(slug, name).body
    body = [n for n in shown if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    assert [ast.unparse(n) for n in rest] == [ast.unparse(n) for n in body]
    return planted(slug, name)


def _source(slug: str) -> str:
    return (SOLUTIONS / f"{slug}.py").read_text(encoding="utf-8")


def _definition(slug: str, name: str) -> ast.FunctionDef:
    return next(n for n in ast.parse(_source(slug)).body if isinstance(n, ast.FunctionDef) and n.name == name)
