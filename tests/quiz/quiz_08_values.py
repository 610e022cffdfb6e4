"""08 章のクイズの問題文から読み取った数と、そこから計算した値。tests/quiz/test_quiz_08_*.py が使う。"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from quiz_computed import numbers_in
from torch import Tensor

from tlkit.course.quiz.schema import QuizItem, load_quiz

PATH = Path(__file__).resolve().parents[2] / "chapters" / "quiz" / "08_meta_learning.yaml"
ITEMS = {item.id: item for item in load_quiz(PATH)}
Loss = Callable[[Tensor], Tensor]


def d(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def numbers(text: str) -> list[float]:
    return [value for value, _ in numbers_in(text)]


def table(item: QuizItem) -> list[list[str]]:
    """問題文の表の、見出しと罫線を除いた行。"""
    rows = [line for line in item.stem.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def only_the_answer(item: QuizItem, found: list[bool]) -> bool:
    return found == [number == item.answer for number in range(4)]


def python(formula: str) -> str:
    """数式を Python の式にする。"""
    formula = re.sub(r"\\sqrt\{([^}]*)\}", r"(\1)**0.5", formula)
    formula = re.sub(r"e\^\{(-\d)\}", r"math.exp(\1)", formula)
    formula = formula.replace("\\theta", "t").replace("\\times", "*").replace("^", "**").replace("−", "-")
    return re.sub(r"(?<=[\d.])(?=[t(])", "*", formula)


def losses(name: str) -> list[Loss]:
    """問題文に書かれた損失 L(θ)。"""
    found = re.findall(r"L_\w\(\\theta\) = ([^$]+)\$", ITEMS[name].stem)
    return [eval(f"lambda t: {python(formula)}") for formula in found]


def setting(name: str) -> tuple[float, float, int]:
    """問題文の、初期値、内側学習率、回数。"""
    found = re.search(r"初期値 \$\\theta = (\S+)\$ から、.*内側学習率([\d.]+)で(\d)回", ITEMS[name].stem)
    assert found
    return float(found[1]), float(found[2]), int(found[3])


def slope(loss: Loss, at: float) -> float:
    theta = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(loss(theta), theta)[0].item()


def stepped(loss: Loss, at: float, lr: float, steps: int = 1) -> float:
    """内側の更新を steps 回くり返した値。"""
    for _ in range(steps):
        at -= lr * slope(loss, at)
    return at


def exact(support: Loss, query: Loss, at: float, lr: float, steps: int = 1) -> float:
    """更新した後のクエリの損失の、初期値についての傾き。中心差分で求める。"""
    ends = [query(d(stepped(support, at + e, lr, steps))).item() for e in (1e-4, -1e-4)]
    return (ends[0] - ends[1]) / 2e-4


def curvature(loss: Loss) -> float:
    return slope(loss, 1.0) - slope(loss, 0.0)


(S04, Q04), (START04, LR04, STEPS04) = losses("q08-04"), setting("q08-04")
(S05, Q05), (START05, LR05, STEPS05) = losses("q08-05"), setting("q08-05")
TASKS09, (START09, LR09, STEPS09) = losses("q08-09"), setting("q08-09")
AFTER04, AFTER05 = stepped(S04, START04, LR04, STEPS04), stepped(S05, START05, LR05, STEPS05)
AFTER09 = [stepped(loss, START09, LR09, STEPS09) for loss in TASKS09]
EXACT09 = sum(exact(loss, loss, START09, LR09, STEPS09) for loss in TASKS09)
FIRST09 = sum(slope(loss, at) for loss, at in zip(TASKS09, AFTER09, strict=True))
FACTORS09 = [1 - LR09 * curvature(loss) for loss in TASKS09]
BEFORE09 = sum(slope(loss, START09) for loss in TASKS09)
SEEDS19 = d(*(float(cell) for cell in table(ITEMS["q08-19"])[0][1:]))
SPREAD19, MEAN19 = SEEDS19.std().item(), SEEDS19.mean().item()
LOSS17, SLOPE17 = re.findall(r"\$([^$]*\\theta - 1[^$]*)\$", ITEMS["q08-17"].stem)[:2]
S17: Loss = eval(f"lambda t: {python(LOSS17)}")
START17, LR17, STEPS17 = numbers(ITEMS["q08-17"].stem.split("`adapt(")[1].split(")`")[0])
STUCK17 = START17 - STEPS17 * LR17 * slope(S17, START17)
AFTER17 = stepped(S17, START17, LR17, int(STEPS17))
WAYS02, SHOTS02, QUERIES02 = numbers(ITEMS["q08-02"].stem)[:3]
EPISODES19, POOLED19, POOLED_SPREAD19 = (
    float(re.findall(pattern, ITEMS["q08-19"].stem.replace(",", ""))[0])
    for pattern in (r"種ごとに、(\d+)個", r"(\d+)個のエピソードの差", r"標準偏差は([\d.]+\d)")
)
