"""tests/answers/NN/qNN_K.py に置く「正しい答え」と「ありがちな誤り」の書き方。

    @right                       正しい答え
    @wrong("diagonal-kept")      誤り。judge がこの名前の診断を出すこと
    @untouched                   ひな形のまま。⏳ になること
    @borrower                    tlkit の関数を借りた答え。"borrowed" になること

答えが二つ以上ある演習では、答えの組を返す関数に `@right.each` のように付ける（関数を呼んだ結果が答えの組になる）。
値の答えも同じく `.each` で書く。
"""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ANSWERS = Path(__file__).resolve().parents[1] / "answers"
_collected: list["Case"] = []


@dataclass(frozen=True)
class Case:
    """答え 1 組と、期待する診断の名前（合格は "passed"）。"""

    question: str
    name: str
    expected: str
    make: Callable[[], tuple[Any, ...]]

    @property
    def id(self) -> str:
        return f"{self.question}:{self.name}"


class _Mark:
    def __init__(self, expected: str) -> None:
        self.expected = expected

    def __call__(self, answer: Any) -> Any:
        _collected.append(Case("", answer.__name__, self.expected, lambda: (answer,)))
        return answer

    def each(self, make: Callable[[], Any]) -> Callable[[], Any]:
        def answers() -> tuple[Any, ...]:
            made = make()
            return made if isinstance(made, tuple) else (made,)

        _collected.append(Case("", make.__name__, self.expected, answers))
        return make


right = _Mark("passed")
untouched = _Mark("untouched")
borrower = _Mark("borrowed")


def wrong(expected: str) -> _Mark:
    return _Mark(expected)


def load_cases() -> list[Case]:
    """tests/answers の全部の答え。"""
    return [case for path in sorted(ANSWERS.glob("[0-9][0-9]/q*.py")) for case in _load(path)]


def _load(path: Path) -> list[Case]:
    number = re.fullmatch(r"q(\d\d)_(\d+)", path.stem)
    assert number and number[1] == path.parent.name, f"{path} の名前は NN/qNN_K.py にしてください"
    _collected.clear()
    module_from(path, f"answers_{path.stem}")
    return [Case(f"{number[1]}-{number[2]}", case.name, case.expected, case.make) for case in _collected]


def module_from(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
