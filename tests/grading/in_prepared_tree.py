"""用意した写しの中で動かす側（`test_inside_tree.py` が、別の Python で始める）。

全部のモジュールを読み込み、章の答えを呼び、記録（Claim）を印字する。判定はしない。
"""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

KINDS = ("passed", "borrowed")


def main(slug: str, cells: list[str]) -> None:
    import tlkit

    modules = [found.name for found in pkgutil.walk_packages(tlkit.__path__, "tlkit.") if "__main__" not in found.name]
    for name in modules:
        importlib.import_module(name)
    from tlkit.course.grading.inside.quiet import hush

    hush()
    namespace: dict = {}
    for cell in cells:
        exec(cell, namespace)

    from answer_kit import load_cases

    from tlkit.course.checks import registry
    from tlkit.course.checks.harness import collect, to_json

    claims = {}
    questions = {question.id: question for question in registry.questions(slug)}
    for case in load_cases():
        if case.question in questions and case.expected in KINDS:
            claims[case.id] = to_json(collect(questions[case.question], case.make(), 7))
    judges = [question.id for question in questions.values() if question.judge is not None]
    homes = [name for name, module in sys.modules.items() if _is_elsewhere(name, module)]
    print(json.dumps({"claims": claims, "modules": modules, "judges": judges, "elsewhere": homes}))


def _is_elsewhere(name: str, module: object) -> bool:
    home = Path(sys.path[0]).resolve()
    return name.startswith("tlkit") and home not in Path(str(getattr(module, "__file__", ""))).resolve().parents


if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]
    main(sys.argv[1], json.load(sys.stdin))
