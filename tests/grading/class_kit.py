"""本物の演習 01_basics の学級を作る: 全問正解、一部の誤り、未着手と途中まで、壊れたファイルが交じる。

答えは解答のノートブックと `tests/answers/01` から取る。だれが何点になるはずかも、作るときに決まる。
同じ人数からは、いつも同じバイト列ができる。
"""

import ast
import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SLUG = "01_basics"
KINDS = ("right",) * 10 + ("wrong",) * 7 + ("partial",) * 2 + ("broken",)  # 50 %、35 %、10 %、5 %
MIX = "全問正解 50 %、1〜3 問の誤り 35 %、未着手か途中まで 10 %、壊れたファイル 5 %"
_DEFINES = (ast.FunctionDef, ast.ClassDef)

Cells = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """一問の答え。

    Attributes:
        name: 答えの呼び名。
        source: 答えのセルに書くコード。
        passed: 合格するはずか。
    """

    name: str
    source: str
    passed: bool


@dataclass(frozen=True)
class Pupil:
    """一人の提出。

    Attributes:
        student: 学籍番号。
        kind: right、wrong、partial、broken のどれか。
        cells: 答えのセルの id → コード。書き入れたものだけ。
        data: ファイルの中身。
        points: 問題の id → 付くはずの点。壊れたファイルなら None。
        answers: 選んだ答えの呼び名（食い違いを調べるため）。
    """

    student: str
    kind: str
    cells: Cells
    data: bytes
    points: dict[str, int] | None
    answers: tuple[str, ...] = ()


def real_class(folder: Path, count: int, *, kinds: tuple[str, ...] = KINDS) -> list[Pupil]:
    """folder の下に `submissions` と `roster.csv` を作り、提出の一覧を返す。"""
    pupils = list(pupils_of(count, kinds))
    (folder / "submissions").mkdir(parents=True)
    for pupil in pupils:
        (folder / "submissions" / f"{pupil.student}.ipynb").write_bytes(pupil.data)
    lines = ["学籍番号,氏名", *(f"{pupil.student},氏名{pupil.student}" for pupil in pupils)]
    (folder / "roster.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return pupils


def pupils_of(count: int, kinds: tuple[str, ...] = KINDS) -> Iterator[Pupil]:
    """人数ぶんの提出。割合は kinds のとおりで、並びだけを混ぜる。"""
    rng = random.Random(20_240_701)
    chosen = [kinds[place % len(kinds)] for place in range(count)]
    rng.shuffle(chosen)
    bank = answer_bank()
    for place, kind in enumerate(chosen, start=1):
        yield _pupil(f"s{place:03d}", kind, bank, rng)


def _pupil(student: str, kind: str, bank: dict[str, list[Answer]], rng: random.Random) -> Pupil:
    questions = sorted(bank)
    bad = set(rng.sample(questions, rng.randint(1, 3))) if kind == "wrong" else set()
    done = questions[: rng.choice((0, 0, 2, 4))] if kind == "partial" else questions
    taken = {name: rng.choice([one for one in bank[name] if one.passed != (name in bad)]) for name in done}
    cells = {f"ex-{name}-answer": one.source for name, one in taken.items()}
    data = _breakage(rng)(notebook(cells)) if kind == "broken" else notebook(cells)
    earned = {name: _points()[name] * (name in taken and taken[name].passed) for name in questions}
    names = tuple(f"{name}:{one.name}" for name, one in taken.items())
    return Pupil(student, kind, cells, data, None if kind == "broken" else earned, names)


def notebook(cells: Cells, base: dict[str, Any] | None = None) -> bytes:
    """配布版（base を渡せば、それ）に答えを書き入れたもの。"""
    made = copy.deepcopy(base or json.loads((ROOT / "exercises" / f"{SLUG}.ipynb").read_bytes()))
    for cell in made["cells"]:
        cell["source"] = cells.get(cell["id"], cell["source"])
    return json.dumps(made, ensure_ascii=False, indent=1).encode()


def _breakage(rng: random.Random) -> Any:
    return rng.choice(
        (
            lambda data: data[: len(data) // 2],
            lambda data: data.decode().encode("utf-16"),
            lambda _: b"",
            lambda _: b"%PDF-1.7\n",
        )
    )


def _points() -> dict[str, int]:
    from tlkit.course.grading import assignment

    return {question.id: question.points for question in assignment.load(SLUG).questions}


def answer_bank() -> dict[str, list[Answer]]:
    """問題の id → 正しい答えと誤った答え。解答は、答えの一つとして 3 回ぶん入れる（多くの学生が同じように書く）。"""
    bank = {name: [Answer("solution", source, True)] * 3 for name, source in _solutions().items()}
    for path in sorted((ROOT / "tests" / "answers" / "01").glob("q*.py")):
        question = f"01-{path.stem.rpartition('_')[2]}"
        bank[question] += _answers(path, _answer_name(question))
    return bank


def _solutions() -> dict[str, str]:
    document = json.loads((ROOT / "solutions" / f"{SLUG}.ipynb").read_bytes())
    cells = {cell["id"]: "".join(cell["source"]) for cell in document["cells"]}
    return {key[3:-7]: source for key, source in cells.items() if key.startswith("ex-") and key.endswith("-answer")}


def _answer_name(question: str) -> str:
    from tlkit.course.checks import registry

    (name,) = registry.question(question).answers
    return name


def _answers(path: Path, name: str) -> list[Answer]:
    """`@right` と `@wrong` の付いた答え。tlkit を読み込むものは、借りた答えとみなされるので除く。"""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    found = []
    for node in tree.body:
        mark, each = _mark(node)
        if mark in ("right", "wrong"):
            source = _slice(tree, node.name) + f"\n\n\n{name} = {node.name}{'()' if each else ''}\n"
            if "tlkit" not in source:
                found.append(Answer(node.name, source, mark == "right"))
    return found


def _mark(node: ast.stmt) -> tuple[str, bool]:
    """（印の名前, `.each` が付くか）。印がなければ空。"""
    if not isinstance(node, ast.FunctionDef) or not node.decorator_list:
        return "", False
    mark = node.decorator_list[0]
    each = isinstance(mark, ast.Attribute)
    inner = mark.value if each else mark
    inner = inner.func if isinstance(inner, ast.Call) else inner
    return (inner.id, each) if isinstance(inner, ast.Name) else ("", False)


def _slice(tree: ast.Module, name: str) -> str:
    """名前 name を定めるのに要る、ファイルの中の文だけを、元の順に並べたもの。"""
    makers = {made: node for node in tree.body for made in _made(node)}
    wanted, waiting = set(), [name]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node not in wanted:
            wanted.add(node)
            waiting += [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and one not in _decorators(node)]
    return "\n\n".join(_plain(node) for node in tree.body if node in wanted)


def _made(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINES):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "answer_kit":
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _decorators(node: ast.stmt) -> set[ast.AST]:
    """答えの印の中の名前。"""
    marks = getattr(node, "decorator_list", []) if _mark(node)[0] in ("right", "wrong", "untouched", "borrower") else []
    return {one for mark in marks for one in ast.walk(mark)}


def _plain(node: ast.stmt) -> str:
    """印を除いたコード。"""
    bare = copy.deepcopy(node)
    if _mark(node)[0] in ("right", "wrong", "untouched", "borrower"):
        bare.decorator_list = []
    return ast.unparse(bare)
